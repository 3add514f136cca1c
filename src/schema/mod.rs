//! When is it a schema change?
//!
//! This room promises: **a change of the schema is never taken for none.** Doubt opens a version: a
//! needless one costs disk and seconds, a missed one breaks the app.
//!
//! [`fingerprint`] picks the files of a revision that a framework keeps its schema in, and the
//! lockfiles of the dependencies that may bring migrations of their own. It is kept in the record of
//! each release. [`compare`] tells from two of them, and the texts of the files that were edited,
//! whether the second is another schema: no, yes, or [`Changed::Ask`], where only the framework
//! itself can tell, asked by the command of [`question`].
//!
//! All of it is pure: values in, values out. Nothing that was pushed runs here, and which objects a
//! text comes from is the caller's affair.
//!
//! What was recorded is compared as it is. When the settings begin to say which files are the schema,
//! or say it otherwise, the set of files differs and a version opens, even if both trees hold the same.

mod compare;
mod fingerprint;
mod frameworks;
mod question;
mod tokens;

pub use compare::{Changed, Difference, FileDifference, Kind, compare};
pub use fingerprint::{Fingerprint, fingerprint};
pub use question::{Answer, Pending, Question, question};

use serde::{Deserialize, Serialize};

/// One file of a revision: a regular one, or a symlink.
#[derive(Clone, Copy)]
pub struct TreeFile<'a> {
    /// Its path from the top of the revision, in bytes, without a leading slash.
    pub path: &'a [u8],
    /// The id of its content (of a symlink: of what it points to).
    pub oid: &'a (dyn std::fmt::Display + Sync),
    /// Whether it is a symlink.
    pub is_link: bool,
}

/// What the settings say that touches the schema.
#[derive(Clone, Copy, Debug, Default)]
pub struct Said<'a> {
    /// `[schema] paths`: globs, and then nothing is looked for.
    pub paths: Option<&'a [String]>,
    /// `[schema] command`: what it prints is the schema.
    pub command: Option<&'a str>,
    /// The command of the `syncdb` stage, if there is one that is a command.
    pub syncdb: Option<&'a str>,
    /// The files that `sql` stages name.
    pub sql: &'a [String],
}

/// How the schema of a tree was found. Where several match it is the main one, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Detector {
    /// `[schema] command`: by what it prints in the built release.
    Command,
    /// `[schema] paths`.
    Paths,
    /// Django: `migrations`, and `models.py` of the apps that have none.
    Django,
    /// Django without any migration: `models.py`.
    DjangoModels,
    /// Rails: `db/migrate`, `db/schema.rb`, `db/structure.sql`.
    Rails,
    /// Laravel: `database/migrations`, `database/schema`.
    Laravel,
    /// Alembic and Flask-Migrate: `versions` beside `env.py`.
    Alembic,
    /// Prisma: its schema and `prisma/migrations`.
    Prisma,
    /// Ecto: `priv/repo/migrations`.
    Ecto,
    /// Diesel: `migrations` beside `diesel.toml`.
    Diesel,
    /// Refinery: `migrations/V1__name.sql` in a Rust crate.
    Refinery,
    /// sqlx: `migrations` in a Rust crate.
    Sqlx,
    /// Flyway: `db/migration/V1__name.sql`.
    Flyway,
    /// SQL files without a framework.
    Sql,
    /// Nothing that looks like a schema.
    None,
}

impl std::fmt::Display for Detector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.serialize(f)
    }
}
