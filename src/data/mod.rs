//! Databases: one for each version, copied, held, fenced and proved.
//!
//! What this room promises, for the paths that its caller gives it:
//!
//! - a copy is one moment of its source, whoever writes meanwhile;
//! - a [hold](Hold) lets readers go on and writers wait, and dies with its process;
//! - from the [fence](Hold::fence) on, a write is refused, never swallowed: what was
//!   acknowledged before it is in the copy that was made under the hold;
//! - nothing of the app's own is ever removed, but for [`Database::remove`], which removes a whole database.
//!
//! It knows nothing of deploys, revisions or journals. [`Database`] has the verbs, and each engine is a
//! module that has them; what they speak of (a [`Schema`], a [`Census`], [`Rows`], a [`Limit`]) is the
//! same for each.

mod census;
mod credentials;
mod database;
pub mod foreign;
mod ground;
mod limit;
#[cfg(feature = "mysql")]
pub mod mysql;
#[cfg(feature = "postgres")]
pub mod postgres;
mod schema;
#[cfg(feature = "sqlite")]
pub mod sqlite;
pub mod way;

pub use census::{Census, Rows};
pub use credentials::Credentials;
pub use database::{Access, Database, Fence, Finding, Hold, Script, Spot, Talk};
pub use ground::{Ground, Lender, require};
pub use limit::{Limit, Progress};
pub use schema::Schema;

use std::os::fd::OwnedFd;

use git2::{ObjectType, Oid};

use crate::app::{AppName, Version};
use crate::support::{Context, Result};

/// What receiver's own account on MariaDB has to be granted.
pub fn administrator_rights() -> Vec<&'static str> {
    #[cfg(feature = "mysql")]
    return mysql::administrator_rights();
    #[cfg(not(feature = "mysql"))]
    return Vec::new();
}

/// Works on databases in files as this user, for whoever is at the other end of `socket`, until that is closed.
#[cfg_attr(not(feature = "sqlite"), expect(unused_variables, reason = "there is nothing to work on"))]
pub fn serve_agent(socket: OwnedFd) -> Result<()> {
    #[cfg(feature = "sqlite")]
    return sqlite::serve_agent(socket.into());
    #[cfg(not(feature = "sqlite"))]
    return require("sqlite");
}

/// The group on PostgreSQL of the roles that receiver makes, where setup made one: `pg_hba.conf` knows them by it.
pub const LOGINS: &str = "receiver_apps";

/// The longest name of a database and its role: MySQL allows a user 32 bytes, PostgreSQL 63.
const LONGEST_NAME: usize = 32;

/// The name of a version's database: `agroguia_v4`.
///
/// A name over 32 bytes is cut, and ends in six digits of its hash, so that two that are cut alike differ.
pub fn database_name(app: &AppName, version: Version) -> Result<String> {
    fitted(format!("{}_v{version}", app.as_str().replace('-', "_")))
}

/// The name of something that belongs to a database: `agroguia_v4_ro`, cut like a database's own.
pub fn derived_name(database: &str, what: &str) -> Result<String> {
    fitted(format!("{database}_{what}"))
}

fn fitted(mut name: String) -> Result<String> {
    if name.len() > LONGEST_NAME {
        let digest = digest(name.as_bytes())?;
        name.truncate(LONGEST_NAME - 7);
        name.push('_');
        name.push_str(&digest[..6]);
    }
    Ok(name)
}

/// A stable hash of `bytes`, in hex: git's own, which is here anyway.
fn digest(bytes: &[u8]) -> Result<String> {
    let oid = Oid::hash_object(ObjectType::Blob, bytes).context(|| "cannot make a hash")?;
    Ok(oid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_named_after_its_app_and_version() {
        let name = |app: &str, version| database_name(&app.parse().unwrap(), Version(version)).unwrap();
        assert_eq!(name("agroguia", 4), "agroguia_v4");
        assert_eq!(name("shop-videos", 0), "shop_videos_v0");
        let (long, longer) = ("a-name-that-is-the-longe", u32::MAX);
        let (one, other) = (name(long, longer), name(long, longer - 1));
        assert_eq!(one.len(), LONGEST_NAME);
        assert_eq!(one[..25], other[..25]);
        assert_ne!(one, other);
    }
}
