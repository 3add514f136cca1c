//! One public key of ssh, as it stands in a `.pub` file, read strictly.
//!
//! What comes out is the kind and the bytes that were decoded and looked through; the line that `sshd` reads is
//! made out of those again, never copied from what somebody sent.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest, Sha256};

use crate::support::text::printable;
use crate::support::{Error, Result};

/// The kinds of keys that open something. No DSA, no certificates.
const KINDS: [&str; 7] = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// The longest text that is looked at: an RSA key of 16,384 bits has less than 3 kB.
pub const MOST_BYTES: usize = 16 << 10;

/// The smallest modulus of an RSA key.
const LEAST_RSA_BITS: usize = 2048;

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    kind: &'static str,
    bytes: Vec<u8>,
}

impl PublicKey {
    /// Reads the text of a `.pub` file: one line, `KIND BASE64 [COMMENT]`.
    ///
    /// # Errors
    /// Where it is anything else, with a sentence for each.
    pub fn parse(text: &[u8]) -> Result<PublicKey> {
        let refuse = |why: &str| Err(Error::usage(format!("this is no public key: {why}")));
        if text.len() > MOST_BYTES {
            return refuse("it is longer than any");
        }
        let Ok(text) = std::str::from_utf8(text) else { return refuse("it is not text") };
        if text.contains("PRIVATE KEY") || text.starts_with("PuTTY-User-Key-File") {
            return Err(Error::usage(
                "this is a private key; it must stay where it is, and nobody else may have it",
            )
            .hint("the public one lies beside it, in a file whose name ends in .pub"));
        }
        let mut lines = text.lines().map(str::trim_end).filter(|line| !line.trim().is_empty());
        let Some(line) = lines.next() else { return refuse("it is empty") };
        if lines.next().is_some() {
            return refuse("there are several lines, and one key is added at a time");
        }
        if line.chars().any(|c| c != '\t' && printable(c.encode_utf8(&mut [0; 4])).chars().count() != 1) {
            return refuse("it has control characters");
        }
        let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
        let first = words.next().unwrap_or_default();
        let Some(kind) = KINDS.into_iter().find(|kind| *kind == first) else {
            return Err(refuse_kind(first, line));
        };
        let Some(encoded) = words.next() else { return refuse("after its kind nothing follows") };
        // `ssh-ed25519 AAAA… ssh-ed25519 AAAA…`: the second would pass for a comment.
        if words.clone().any(|word| KINDS.contains(&word)) {
            return refuse("there are several keys on one line");
        }
        let bytes = STANDARD.decode(encoded).or_else(|_| STANDARD_NO_PAD.decode(encoded));
        let Ok(bytes) = bytes else {
            return refuse("what follows its kind is not base64: it was cut, or broken");
        };
        let key = PublicKey { kind, bytes };
        match key.strength() {
            Some(bits) if bits < LEAST_RSA_BITS => Err(Error::usage(format!(
                "an RSA key of {bits} bits is too weak: {LEAST_RSA_BITS} are the least"
            ))
            .hint("`ssh-keygen -t ed25519` makes a better one")),
            Some(_) => Ok(key),
            None => refuse("what it holds is not a key of that kind: it was cut, or put together"),
        }
    }

    /// The bits of an RSA key, and as good as any for all others; `None` where the bytes are not those of its kind.
    fn strength(&self) -> Option<usize> {
        let mut rest = self.bytes.as_slice();
        if take(&mut rest)? != self.kind.as_bytes() {
            return None;
        }
        let mut strength = usize::MAX;
        match self.kind {
            "ssh-ed25519" => has_length(take(&mut rest)?, 32)?,
            "ssh-rsa" => {
                let (exponent, modulus) = (take(&mut rest)?, take(&mut rest)?);
                strength = bits(modulus)?;
                is_exponent(exponent)?;
            }
            "sk-ssh-ed25519@openssh.com" => {
                has_length(take(&mut rest)?, 32)?;
                is_application(take(&mut rest)?)?;
            }
            "sk-ecdsa-sha2-nistp256@openssh.com" => {
                is_point(&mut rest, "nistp256")?;
                is_application(take(&mut rest)?)?;
            }
            ecdsa => is_point(&mut rest, ecdsa.strip_prefix("ecdsa-sha2-")?)?,
        }
        rest.is_empty().then_some(strength)
    }

    /// What it is: `ssh-ed25519`.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// The two words that `sshd` knows it by.
    pub fn words(&self) -> String {
        format!("{} {}", self.kind, STANDARD.encode(&self.bytes))
    }

    /// `SHA256:…`, as `ssh-keygen -l` prints it.
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(&self.bytes)))
    }
}

fn refuse_kind(first: &str, line: &str) -> Error {
    let shown: String = first.chars().take(40).collect();
    if line.split([' ', '\t']).any(|word| KINDS.contains(&word)) {
        return Error::usage(format!("this is no public key alone: '{shown}' stands in front of it"))
            .hint("give the key only: what it may do is said by --app and --role");
    }
    let hint =
        "a public key is one line that begins with its kind, such as `ssh-ed25519 AAAA…`: the file NAME.pub";
    let why = match first {
        "ssh-dss" => "DSA keys are no longer safe".to_owned(),
        kind if kind.contains("-cert-") => "certificates are not read".to_owned(),
        "----" | "-----BEGIN" => "it is in another format; `ssh-keygen -i -f FILE` reads it".to_owned(),
        _ => format!("'{shown}' is no kind of key"),
    };
    Error::usage(format!("this is no public key: {why}")).hint(hint)
}

/// The next string of the format of ssh: four bytes of length, then so many.
fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (value, after) = after.split_at_checked(length)?;
    *rest = after;
    Some(value)
}

fn has_length(value: &[u8], length: usize) -> Option<()> {
    (value.len() == length).then_some(())
}

/// The name of the application that a hardware key was made for: `ssh:`, or one that somebody chose.
fn is_application(value: &[u8]) -> Option<()> {
    (!value.is_empty() && value.len() < 256 && value.iter().all(u8::is_ascii_graphic)).then_some(())
}

/// A curve and a point on it, uncompressed: 4, then two coordinates.
fn is_point(rest: &mut &[u8], curve: &str) -> Option<()> {
    let size = match curve {
        "nistp256" => 32,
        "nistp384" => 48,
        "nistp521" => 66,
        _ => return None,
    };
    let name = take(rest)?;
    let point = take(rest)?;
    (name == curve.as_bytes() && point.len() == 1 + 2 * size && point[0] == 4).then_some(())
}

/// The bits of a number, which must be above zero and written without needless zeros.
fn bits(number: &[u8]) -> Option<usize> {
    let digits = match number {
        [0, rest @ ..] if rest.first().is_some_and(|first| *first >= 0x80) => rest,
        [first, ..] if (1..0x80).contains(first) => number,
        _ => return None,
    };
    let first = digits.first()?;
    Some(digits.len() * 8 - first.leading_zeros() as usize)
}

/// An exponent is odd, above 1, and never long.
fn is_exponent(exponent: &[u8]) -> Option<()> {
    let bits = bits(exponent)?;
    (bits > 1 && bits <= 64 && exponent.last().is_some_and(|last| last % 2 == 1)).then_some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGGZ2EKa13+kg+F4u750n/kEAhF2XsdcqRQT+TxG2JbG ada\n";

    fn check(text: &[u8]) {
        match PublicKey::parse(text) {
            Ok(key) => {
                let words = key.words();
                assert!(words.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic() && byte != b'"'));
                assert_eq!(PublicKey::parse(words.as_bytes()).unwrap(), key);
            }
            Err(error) => assert_eq!(printable(&error.to_string()), error.to_string()),
        }
    }

    #[test]
    fn a_fingerprint_is_that_of_ssh_keygen() {
        let key = PublicKey::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(key.fingerprint(), "SHA256:Y31KyzAl1efHauhioLBBpjypwDQXFof9Lxb2ejcMZ5s");
        assert_eq!(key.words(), GOOD.trim_end().rsplit_once(' ').unwrap().0);
    }

    proptest! {
        #[test]
        fn whatever_comes_is_a_key_or_refused(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            check(&text);
        }

        #[test]
        fn whatever_becomes_of_a_key_is_a_key_or_refused(
            at in any::<prop::sample::Index>(), cut in 0..9_usize, put in any::<Vec<u8>>()
        ) {
            let mut text = GOOD.as_bytes().to_vec();
            let at = at.index(text.len());
            text.splice(at..(at + cut).min(text.len()), put);
            check(&text);
        }
    }
}
