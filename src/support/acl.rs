//! One user more who gets into a directory: a POSIX access control list, as Linux keeps it in an extended attribute.
//!
//! A group counts from a login on: whoever was logged in before he was made a member of one stays outside. An entry of
//! such a list counts at once.

use std::path::Path;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use super::{Context, Result};

const NAME: &str = "system.posix_acl_access";
/// What the attribute begins with.
const FORMAT: u32 = 2;
/// The number of an entry that is about nobody by name.
const NOBODY: u32 = u32::MAX;
/// Reading and passing through.
const ENTERS: u16 = 5;

/// The list of a directory with mode 0750 that `user` may enter, too.
fn list(user: u32) -> Vec<u8> {
    // Its owner, the user, its group, the most that these two get, everybody else: in this order (acl(5)).
    let entries =
        [(1, 7, NOBODY), (2, ENTERS, user), (4, ENTERS, NOBODY), (16, ENTERS, NOBODY), (32, 0, NOBODY)];
    let mut bytes = FORMAT.to_le_bytes().to_vec();
    for (tag, rights, about) in entries {
        bytes.extend(u16::to_le_bytes(tag));
        bytes.extend(u16::to_le_bytes(rights));
        bytes.extend(about.to_le_bytes());
    }
    bytes
}

/// Whether the user gets into a directory by its list. Where the filesystem has no lists nothing is missing: there the
/// group has to do.
pub fn lets_in(directory: &Path, user: u32) -> Result<bool> {
    let mut buffer = [0; 1024];
    match rustix::fs::lgetxattr(directory, NAME, &mut buffer[..]) {
        Ok(length) => Ok(buffer[..length] == list(user)),
        // There is none, or one that is longer than ours.
        Err(Errno::NODATA | Errno::RANGE) => Ok(false),
        Err(Errno::OPNOTSUPP) => Ok(true),
        Err(error) => Err(error).context(|| format!("cannot look who gets into {}", directory.display())),
    }
}

/// Lets the user into a directory with mode 0750. Nobody but root, or whom root trusts, may write to where it lies.
pub fn let_in(directory: &Path, user: u32) -> Result<()> {
    match rustix::fs::lsetxattr(directory, NAME, &list(user), XattrFlags::empty()) {
        Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(error).context(|| format!("cannot let anybody into {}", directory.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_list_is_read_as_it_was_written_and_leaves_the_mode_as_it_was() {
        let place = tempfile::tempdir().unwrap();
        std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o750)).unwrap();
        let mode = || std::fs::metadata(place.path()).unwrap().permissions().mode() & 0o7777;
        let_in(place.path(), 12345).unwrap();
        assert!(lets_in(place.path(), 12345).unwrap());
        assert_eq!(mode(), 0o750);
        // Its mode is set again, as setup does.
        std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o750)).unwrap();
        assert!(lets_in(place.path(), 12345).unwrap());
    }
}
