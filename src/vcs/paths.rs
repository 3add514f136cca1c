//! Names in a tree that no release may have.

/// Why a component of a path is refused, or `None` where it may be written.
///
/// `top` says whether it is the first one.
pub fn refuse_component(name: &[u8], top: bool) -> Option<&'static str> {
    if name.is_empty() {
        return Some("has an empty name");
    }
    if name == b"." || name == b".." {
        return Some("is a name that leads elsewhere");
    }
    if name.contains(&b'/') || name.contains(&0) {
        return Some("has a slash or a zero byte in a name");
    }
    if name.len() > 255 {
        return Some("has a name of more than 255 bytes");
    }
    if is_dot_git(name) {
        return Some("is, or could be taken for, git's own directory");
    }
    if top && name.eq_ignore_ascii_case(b".receiver") {
        return Some("belongs to receiver");
    }
    None
}

/// Whether a filesystem somewhere takes `name` for `.git`: without case, with characters that HFS+
/// ignores, with NTFS's short name, streams, and dots and spaces at the end.
fn is_dot_git(name: &[u8]) -> bool {
    // Nearly all names are done with here.
    if name.is_ascii() && !name.starts_with(b".") && !name[..1].eq_ignore_ascii_case(b"g") {
        return false;
    }
    let Ok(text) = std::str::from_utf8(name) else { return false };
    let seen: String = text.chars().filter(|c| !ignored_by_hfs(*c)).flat_map(char::to_lowercase).collect();
    let stem = seen.split([':', '\\']).next().unwrap_or_default();
    let stem = stem.trim_end_matches(['.', ' ']);
    stem == ".git" || stem == "git~1"
}

fn ignored_by_hfs(c: char) -> bool {
    matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_taken_for_dot_git_is_refused() {
        for bad in [
            ".git",
            ".GIT",
            ".Git",
            "git~1",
            "GIT~1",
            ".git.",
            ".git ",
            ".git::$DATA",
            ".g\u{200c}it",
            ".git\\x",
        ] {
            assert!(refuse_component(bad.as_bytes(), false).is_some(), "{bad:?}");
        }
        for good in [".gitignore", ".gitmodules", "git", ".github", "git~10", "a\nb", "\u{1b}[31m"] {
            assert!(refuse_component(good.as_bytes(), true).is_none(), "{good:?}");
        }
        assert!(refuse_component(b"\xff\xfe", true).is_none());
    }

    #[test]
    fn receivers_own_directory_is_refused_at_the_top_only() {
        assert!(refuse_component(b".receiver", true).is_some());
        assert!(refuse_component(b".receiver", false).is_none());
    }
}
