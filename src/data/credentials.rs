//! The passwords of a database's roles: a file (0600) that is written before the database is made and removed
//! after it is gone. What has no file here is not receiver's, and is left alone.

use std::io::Read as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Spot;
use crate::support::{Context, Error, Result, files};

/// The number of the file's format.
const FORMAT: u32 = 1;
/// Letters and digits: nothing that a URL, a shell or a settings file would have to quote.
const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/// 32 of 62 letters are 190 bits.
const LENGTH: usize = 32;

/// What is known of a database that receiver makes on a server.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    format: u32,
    /// The engine that keeps it.
    pub engine: String,
    /// Its name, which is its role's as well.
    pub name: String,
    /// The directory of its [`Spot`].
    pub directory: PathBuf,
    /// The password of its own role.
    pub password: String,
    /// The password of the role that can only read.
    pub reader: String,
}

impl Credentials {
    /// New ones for the database at `spot`, written down and synced. Those that are there stay as they are.
    pub fn make(secrets: &Path, engine: &str, spot: &Spot) -> Result<Credentials> {
        if let Some(known) = Credentials::read(secrets, &spot.name)? {
            return Ok(known);
        }
        let made = Credentials {
            format: FORMAT,
            engine: engine.to_owned(),
            name: spot.name.clone(),
            directory: spot.directory.clone(),
            password: password()?,
            reader: password()?,
        };
        let cannot = || format!("cannot write down the password of {}", spot.name);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(secrets).context(cannot)?;
        let text = serde_json::to_vec_pretty(&made).context(cannot)?;
        files::write_atomic(&secrets.join(&spot.name), &text, 0o600)?;
        Ok(made)
    }

    /// Those of the database of this name; `None` where receiver made none.
    pub fn read(secrets: &Path, name: &str) -> Result<Option<Credentials>> {
        let path = secrets.join(name);
        let Some(text) = files::read_text(&path)? else { return Ok(None) };
        // What is in it is a secret: no error may quote it.
        let known: Option<Credentials> = serde_json::from_str(&text).ok();
        match known {
            Some(known) if known.format == FORMAT && known.name == name => Ok(Some(known)),
            Some(known) if known.format > FORMAT => {
                Err(Error::new(format!("{} was written by a newer receiver", path.display())))
            }
            _ => Err(Error::new(format!("{} is damaged", path.display()))
                .hint("put it back from a backup: without it nobody knows the password")),
        }
    }

    /// Those of the database of this name, also where they are the lender's. Only for who reads: what is the
    /// lender's is neither made nor removed here.
    pub fn lent(secrets: &Path, lender: Option<&Path>, name: &str) -> Result<Option<Credentials>> {
        match (Credentials::read(secrets, name)?, lender) {
            (None, Some(lender)) => Credentials::read(lender, name),
            (own, _) => Ok(own),
        }
    }

    /// All that are known, in order of names.
    pub fn all(secrets: &Path) -> Result<Vec<Credentials>> {
        let names = files::names_in(secrets)?;
        let known = names.iter().filter(|name| !name.starts_with(files::TEMPORARY));
        let mut all: Vec<Credentials> =
            known.filter_map(|name| Credentials::read(secrets, name).transpose()).collect::<Result<_>>()?;
        all.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(all)
    }

    /// Forgets them: the database is gone.
    pub fn forget(secrets: &Path, name: &str) -> Result<()> {
        files::remove_file(&secrets.join(name))
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A new password.
pub(super) fn password() -> Result<String> {
    let mut source = std::fs::File::open("/dev/urandom").context(|| "cannot read /dev/urandom")?;
    let mut password = String::with_capacity(LENGTH);
    while password.len() < LENGTH {
        let mut byte = [0];
        source.read_exact(&mut byte).context(|| "cannot read /dev/urandom")?;
        // Six bits each, and the two that no letter has are drawn again: every letter is as likely.
        if let Some(letter) = LETTERS.get(usize::from(byte[0] & 63)) {
            password.push(char::from(*letter));
        }
    }
    Ok(password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_written_once_for_their_owner_alone_and_never_shown() {
        use std::os::unix::fs::PermissionsExt as _;
        let place = tempfile::tempdir().unwrap();
        let secrets = place.path().join("databases");
        let spot = Spot { directory: place.path().join("3"), name: "shop_v3".into() };
        assert_eq!(Credentials::read(&secrets, "shop_v3").unwrap(), None);
        let made = Credentials::make(&secrets, "mysql", &spot).unwrap();
        assert_eq!(Credentials::make(&secrets, "mysql", &spot).unwrap(), made);
        assert!(made.password.len() == LENGTH && made.password != made.reader);
        let mode = std::fs::metadata(secrets.join("shop_v3")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!format!("{made:?}").contains(&made.password));
        assert_eq!(Credentials::all(&secrets).unwrap(), [made]);
        std::fs::write(secrets.join("shop_v3"), "{").unwrap();
        assert!(Credentials::read(&secrets, "shop_v3").unwrap_err().to_string().contains("damaged"));
        Credentials::forget(&secrets, "shop_v3").unwrap();
        assert_eq!(Credentials::all(&secrets).unwrap(), []);
    }
}
