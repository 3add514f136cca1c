//! The password of those who may look at versions that are not live: long, made here, shown once.
//!
//! nginx asks for it (`versions.urls = "password"`), and only its hash is kept, where nginx's workers read it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::rand::GetRandomFlags;
use sha1::{Digest, Sha1};

use crate::app::App;
use crate::app::guard::Guard;
use crate::app::settings::Urls;
use crate::support::{Context, Result, files};

/// What passwords are made of: 32 signs that nobody takes for one another, so that each is five bits.
const SIGNS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// 130 bits: nobody guesses that, however fast the hash is.
const LENGTH: usize = 26;

/// Makes a new password; the one before opens nothing any more. The user's name is the app's.
pub fn renew(guard: &Guard) -> Result<String> {
    let (mut noise, mut salt) = ([0; LENGTH], [0; 16]);
    fill(&mut noise)?;
    fill(&mut salt)?;
    let password: String =
        noise.iter().map(|byte| char::from(SIGNS[usize::from(*byte) % SIGNS.len()])).collect();
    let app = guard.app();
    let line = format!("{}:{}\n", app.name(), hash(&password, &salt));
    guard.write(&app.version_passwords(), line.as_bytes(), 0o644)?;
    Ok(password)
}

/// Forgets it.
pub fn forget(guard: &Guard) -> Result<()> {
    files::remove_file(&guard.app().version_passwords())
}

/// What nobody can look at, since nobody ever got a password, and what to do about it.
pub fn missing(app: &App, urls: Urls) -> Option<String> {
    let nobody = urls == Urls::Password && !files::exists(&app.version_passwords());
    nobody.then(|| {
        format!(
            "nobody has a password for versions yet: `receiver config {} versions.urls password` makes one",
            app.name()
        )
    })
}

/// The kernel's random bytes; up to 256 of them never come short (getrandom(2)).
fn fill(bytes: &mut [u8]) -> Result<()> {
    rustix::io::retry_on_intr(|| rustix::rand::getrandom(&mut *bytes, GetRandomFlags::empty()))
        .context(|| "cannot get random bytes")
        .map(drop)
}

/// `{SSHA}` (RFC 2307): the salted hash that nginx computes by itself, whatever the system's crypt(3) knows.
fn hash(password: &str, salt: &[u8]) -> String {
    let mut sha1 = Sha1::new();
    sha1.update(password);
    sha1.update(salt);
    let mut bytes = sha1.finalize().to_vec();
    bytes.extend(salt);
    format!("{{SSHA}}{}", STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_that_of_others() {
        // printf 'secretsalt' | openssl sha1 -binary, and the salt behind it, in base64.
        assert_eq!(hash("secret", b"salt"), "{SSHA}gVK8WC9YyFT1gMsQHTGCgT3sSv5zYWx0");
    }
}
