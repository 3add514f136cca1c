//! The names of previews: `APP--SLUG`, made from the name of a branch.
//!
//! A branch may be called anything that git allows, by whoever may push; an app's name is short, and
//! becomes part of paths, host names, databases and units. So most branches lose something on the way,
//! and then end in six digits of their hash. Where two meet all the same, the second is refused by who
//! makes the app: each app remembers its branch in full.

use git2::{ObjectType, Oid};

use super::names::AppName;
use crate::support::{Context, Error, Result};

/// How many digits of a branch's hash stand in a slug.
const DIGITS: usize = 6;

/// The name of the preview of a branch.
///
/// `feature/map` is `APP--feature-map`: the first `/` may become a `-` where no `-` is before it, since it
/// can be read back. A branch that is changed otherwise, or has no room, gets its hash at the end.
///
/// # Errors
/// Where the app's own name leaves no room.
pub fn preview_name(app: &AppName, branch: &str) -> Result<AppName> {
    let room = AppName::LONGEST.saturating_sub(app.as_str().len() + 2);
    if room < DIGITS {
        return Err(Error::new(format!("the name of {app} leaves no room for that of a preview"))
            .hint(format!("previews are called {app}--SLUG, with at most {} characters", AppName::LONGEST)));
    }
    let plain = plain(branch);
    let slug = if plain.len() <= room && is_telling(branch, &plain) {
        plain
    } else {
        let hash = Oid::hash_object(ObjectType::Blob, branch.as_bytes())
            .context(|| "cannot make a hash")?
            .to_string();
        let hash = &hash[..DIGITS];
        let kept: String = plain.chars().take(room.saturating_sub(DIGITS + 1)).collect();
        match kept.trim_matches('-') {
            "" => hash.to_owned(),
            kept => format!("{kept}-{hash}"),
        }
    };
    format!("{app}--{slug}").parse()
}

/// The branch with every run of what no name may have as one `-`.
fn plain(branch: &str) -> String {
    let mut plain = String::new();
    for c in branch.chars() {
        match c.to_ascii_lowercase() {
            c @ ('a'..='z' | '0'..='9') => plain.push(c),
            _ if plain.ends_with('-') => {}
            _ => plain.push('-'),
        }
    }
    plain.trim_matches('-').to_owned()
}

/// Whether `plain` can stand for `branch` alone: no other branch has it, it looks like none with a hash,
/// and is not the `vN` of a version's host.
fn is_telling(branch: &str, plain: &str) -> bool {
    let unread = match branch.split_once('/') {
        Some((first, rest)) => !first.contains('-') && plain == format!("{first}-{rest}"),
        None => !branch.contains('-') && plain == branch,
    };
    let hashed = plain.len() >= DIGITS && {
        let (before, last) = plain.split_at(plain.len() - DIGITS);
        last.bytes().all(|b| b.is_ascii_hexdigit()) && (before.is_empty() || before.ends_with('-'))
    };
    let version = plain.strip_prefix('v').is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
    unread && !hashed && !version
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(branch: &str) -> String {
        preview_name(&"shop".parse().unwrap(), branch).unwrap().to_string()
    }

    #[test]
    fn a_preview_is_named_after_its_branch() {
        assert_eq!(name("staging"), "shop--staging");
        assert_eq!(name("feature/map"), "shop--feature-map");
        assert_eq!(name("feature/add-area"), "shop--feature-add-area");
    }

    #[test]
    fn a_branch_that_loses_something_ends_in_its_hash() {
        for (branch, begins) in [
            ("feature-map", "shop--feature-map-"),
            ("Feature/map", "shop--feature-map-"),
            ("feature/a/b", "shop--feature-a-b-"),
            ("feature/a-very-long-name", "shop--feature-a-v-"),
            ("$(touch x)", "shop--touch-x-"),
            ("größe", "shop--gr-e-"),
            ("v3", "shop--v3-"),
            ("x-abcdef", "shop--x-abcdef-"),
            ("abcdef", "shop--abcdef-"),
            ("日本", "shop--"),
        ] {
            let name = name(branch);
            let hash = name.strip_prefix(begins).unwrap_or_else(|| panic!("{branch} is {name}"));
            assert!(hash.len() == 6 && hash.bytes().all(|b| b.is_ascii_hexdigit()), "{branch} is {name}");
        }
    }

    #[test]
    fn an_app_with_a_long_name_has_no_room_for_previews() {
        let short: AppName = "a".repeat(16).parse().unwrap();
        assert_eq!(preview_name(&short, "feature/map").unwrap().as_str().len(), 24);
        let long: AppName = "a".repeat(17).parse().unwrap();
        assert!(preview_name(&long, "x").unwrap_err().to_string().contains("no room"));
    }

    fn branch() -> impl Strategy<Value = String> {
        prop_oneof!["[a-c/-]{1,5}", "[a-zA-Z0-9/_.-]{1,30}", "\\PC{1,20}", "v[0-9]{1,4}", "[a-f0-9/-]{6,14}"]
    }

    proptest! {
        #[test]
        fn every_branch_has_a_sound_name(branch in branch(), app in "[a-z][a-z0-9]{0,15}") {
            prop_assume!(app.parse::<AppName>().is_ok());
            let app: AppName = app.parse().unwrap();
            let name = preview_name(&app, &branch).unwrap();
            prop_assert_eq!(name.parent(), Some(app));
            let slug = name.as_str().split_once("--").unwrap().1.to_owned();
            prop_assert!(!slug.starts_with('-') && !slug.ends_with('-') && !slug.contains("--"));
            prop_assert!(slug.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
            let version = slug.strip_prefix('v').is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
            prop_assert!(!version, "{}", slug);
        }

        #[test]
        fn two_branches_meet_only_where_their_hashes_do(one in branch(), other in branch()) {
            prop_assume!(one != other);
            let hash = |text: &str| Oid::hash_object(ObjectType::Blob, text.as_bytes()).unwrap().to_string();
            prop_assume!(hash(&one)[..DIGITS] != hash(&other)[..DIGITS]);
            prop_assert_ne!(name(&one), name(&other));
        }
    }
}
