//! What somebody who came over ssh wants: read from `SSH_ORIGINAL_COMMAND`, strictly, and nothing done yet.

use std::path::Path;

use super::words;
use crate::app::AppName;
use crate::support::text::printable;
use crate::support::{Error, Result};

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Nothing was said: somebody wants a shell.
    Shell,
    /// git's other end.
    Git {
        /// Which.
        service: Service,
        /// Of the repository of this app.
        app: AppName,
    },
    /// Mercurial's other end, of the repository of this app.
    Mercurial {
        /// The app.
        app: AppName,
    },
    /// One of receiver's own commands, without `receiver`: at least one word.
    Command(Vec<String>),
}

/// git's two other ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Takes a push.
    ReceivePack,
    /// Answers a fetch or a clone.
    UploadPack,
}

impl Service {
    /// Its name, as git's own command.
    pub fn as_str(self) -> &'static str {
        match self {
            Service::ReceivePack => "receive-pack",
            Service::UploadPack => "upload-pack",
        }
    }
}

/// Reads a command. `root` is where apps lie: git may name a repository by its whole path.
///
/// # Errors
/// Where it is nothing that could be done for anybody.
pub fn read(command: &[u8], root: &Path) -> Result<Wish> {
    let words = words::split(command)?;
    let given: Vec<&str> = words.iter().map(String::as_str).collect();
    let git = |service, place: &str| Ok(Wish::Git { service, app: app_at(place, root)? });
    match given.as_slice() {
        [] | ["receiver"] => Ok(Wish::Shell),
        ["git-receive-pack", place] | ["git", "receive-pack", place] => git(Service::ReceivePack, place),
        ["git-upload-pack", place] | ["git", "upload-pack", place] => git(Service::UploadPack, place),
        ["hg", "-R", place, "serve", "--stdio"] => Ok(Wish::Mercurial { app: app_at(place, root)? }),
        [first, ..] if *first == "git" || *first == "hg" || first.starts_with("git-") => Err(Error::usage(
            "of git and hg only what push, fetch and clone ask for is here, and no options of theirs",
        )),
        ["receiver", ..] => Ok(Wish::Command(words[1..].to_vec())),
        _ => Ok(Wish::Command(words)),
    }
}

/// The app whose repository is named: `APP`, `/APP`, `~/APP`, each also as `APP.git` or `APP.hg`,
/// or `ROOT/APP/repo.git`, `ROOT/APP/repo.hg`.
fn app_at(place: &str, root: &Path) -> Result<AppName> {
    let refuse = || {
        let shown: String = place.chars().take(60).collect();
        Error::usage(format!("'{}' is no repository here", printable(&shown)))
            .hint("a repository is named by its app: USER@HOST:APP")
    };
    let by_path = root.to_str().and_then(|root| place.strip_prefix(root)).and_then(|rest| {
        let name = rest.strip_prefix('/')?;
        name.strip_suffix("/repo.git").or_else(|| name.strip_suffix("/repo.hg"))
    });
    let name = by_path.unwrap_or_else(|| {
        let name = place.strip_prefix("~/").or_else(|| place.strip_prefix('/')).unwrap_or(place);
        name.strip_suffix(".git").or_else(|| name.strip_suffix(".hg")).unwrap_or(name)
    });
    let app: AppName = name.parse().map_err(|_| refuse())?;
    match app.parent() {
        None => Ok(app),
        Some(parent) => Err(Error::usage(format!("'{app}' has no repository of its own: push to {parent}"))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wish(command: &str) -> Result<Wish> {
        read(command.as_bytes(), Path::new("/srv"))
    }

    #[test]
    fn a_repository_is_named_by_its_app_in_every_way_that_git_has() {
        for place in ["shop", "/shop", "shop.git", "/shop.git", "~/shop", "~/shop.git", "/srv/shop/repo.git"]
        {
            for (command, service) in [
                ("git-receive-pack", Service::ReceivePack),
                ("git receive-pack", Service::ReceivePack),
                ("git-upload-pack", Service::UploadPack),
                ("git upload-pack", Service::UploadPack),
            ] {
                let wanted = Wish::Git { service, app: "shop".parse().unwrap() };
                assert_eq!(wish(&format!("{command} '{place}'")).unwrap(), wanted);
            }
        }
        assert_eq!(
            wish("hg -R shop serve --stdio").unwrap(),
            Wish::Mercurial { app: "shop".parse().unwrap() }
        );
    }

    #[test]
    fn what_leads_elsewhere_is_no_repository() {
        for bad in [
            "git-receive-pack '../other'",
            "git-receive-pack '/srv/shop'",
            "git-receive-pack '/srv/../etc'",
            "git-receive-pack '/srv/shop/../other/repo.git'",
            "git-receive-pack '/srv//shop/repo.git'",
            "git-receive-pack '/etc/shop/repo.git'",
            "git-receive-pack '//shop'",
            "git-receive-pack 'shop/'",
            "git-receive-pack 'shop.git.git'",
            "git-receive-pack '~root/shop'",
            "git-receive-pack 'shop--dev'",
            "git-receive-pack ''",
            "git-receive-pack",
            "git-receive-pack shop other",
            "git-receive-pack --strict shop",
            "git-upload-pack --upload-pack=id shop",
            "git-upload-pack --timeout=0 shop",
            "git -c core.sshCommand=id receive-pack shop",
            "git-upload-archive shop",
            "git-shell",
            "git status",
            "hg -R shop serve",
            "hg -R shop serve --stdio --config extensions.x=/tmp/x",
            "hg --config extensions.x=/tmp/x -R shop serve --stdio",
            "hg -R ../shop serve --stdio",
            "hg init x",
        ] {
            assert!(wish(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_command_is_the_same_with_and_without_the_programs_name() {
        let wanted = Wish::Command(vec!["rollback".into(), "shop".into()]);
        assert_eq!(wish("rollback shop").unwrap(), wanted);
        assert_eq!(wish("receiver rollback shop").unwrap(), wanted);
        assert_eq!((wish("").unwrap(), wish("receiver").unwrap()), (Wish::Shell, Wish::Shell));
    }

    /// Good commands, to be spoilt.
    const GOOD: &[&str] = &[
        "git-receive-pack 'shop'",
        "git upload-pack '/srv/shop/repo.git'",
        "hg -R shop serve --stdio",
        "receiver rollback shop 4/2026 --without-new-data",
        "run shop -- sh -c 'echo \"$HOME\"; ls'",
    ];

    fn check(command: &[u8]) {
        match read(command, Path::new("/srv")) {
            Ok(Wish::Git { app, .. } | Wish::Mercurial { app }) => assert!(app.parent().is_none()),
            Ok(Wish::Command(words)) => {
                assert!(!words.is_empty());
                assert!(words.iter().all(|word| printable(word) == *word), "{words:?}");
            }
            Ok(Wish::Shell) => {
                assert!(command.iter().all(|byte| b" '\"\\receiver".contains(byte)), "{command:?}");
            }
            Err(error) => assert_eq!(printable(&error.to_string()), error.to_string()),
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(command in proptest::collection::vec(any::<u8>(), 0..300)) {
            check(&command);
        }

        #[test]
        fn whatever_words_come_are_read_or_refused(command in "[a-z '\"\\\\/~.;$-]{0,60}") {
            check(command.as_bytes());
        }

        #[test]
        fn whatever_becomes_of_a_good_command_is_read_or_refused(
            which in 0..GOOD.len(), at in any::<prop::sample::Index>(), cut in 0..4_usize, put in any::<Vec<u8>>()
        ) {
            let mut command = GOOD[which].as_bytes().to_vec();
            let at = at.index(command.len());
            command.splice(at..(at + cut).min(command.len()), put);
            check(&command);
        }
    }
}
