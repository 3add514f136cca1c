//! Versions side by side, each at a host of its own: `vN.DOMAIN`.
//!
//! Versions may speak different protocols and serve different files, so each group of those that are alike is
//! one server of nginx's, whose name is a pattern of just their numbers. Behind them stands one for every other
//! number, which is a 404 of nginx's own: else nginx would answer with the first site that it has.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::quoted::Quoted;
use super::site::{Body, Content, Door, Place};
use crate::app::settings::{Domain, Protocol, RelativePath, Settings, Urls};
use crate::app::{App, Version};
use crate::serve::start::refuse_long;
use crate::support::{Error, Result};

/// nginx reads no token of more than 4096 bytes (`NGX_CONF_BUFFER`): of so many numbers one never is.
const NUMBERS: usize = 200;

/// Who sees which versions.
#[derive(Clone, Debug)]
pub struct Versions {
    /// Who.
    pub urls: Urls,
    /// Those that are kept.
    pub kept: Vec<Kept>,
}

/// A version that is kept, as far as nginx has to know it.
#[derive(Clone, Debug)]
pub struct Kept {
    version: Version,
    likeness: Likeness,
}

/// What versions of one group have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Likeness {
    /// Where its release is, below the version's directory.
    directory: String,
    /// What its web process speaks, where it has one.
    protocol: Option<Protocol>,
    /// The directory of the release that is served at `/`, where that is a static site.
    files: Option<PathBuf>,
    static_files: BTreeMap<String, RelativePath>,
    /// Seconds that the web process may be silent.
    timeout: u64,
}

impl Kept {
    /// A version, by the settings that hold for its release in `release`, which is found at `directory` in the
    /// version's own directory: a link, where that is the same in versions that are alike.
    pub fn of(version: Version, settings: &Settings, release: &Path, directory: &str) -> Kept {
        // Who sleeps is to wake up first.
        let silent = settings.nginx.timeout + settings.web.start_timeout;
        let (protocol, files) = match Content::of(settings, release, PathBuf::new(), None) {
            Content::Process { protocol, .. } => (Some(protocol), None),
            Content::Files(directory) => (None, Some(directory)),
            Content::Nothing => (None, None),
        };
        let (directory, static_files) = (directory.to_owned(), settings.web.static_files.clone());
        let likeness = Likeness { directory, protocol, files, static_files, timeout: silent.as_secs() };
        Kept { version, likeness }
    }
}

/// What the template is given of them.
#[derive(Serialize)]
pub(super) struct View {
    /// All hosts that could be a version's.
    pub(super) pattern: Quoted,
    groups: Vec<Group>,
    /// Those who know its users' passwords see them, where there is such a file.
    passwords: Option<Quoted>,
    realm: Quoted,
}

#[derive(Serialize)]
struct Group {
    patterns: Vec<Quoted>,
    body: Body,
}

impl View {
    pub(super) fn of(app: &App, domain: &Domain, versions: &Versions) -> Result<View> {
        let mut alike: Vec<(&Likeness, Vec<Version>)> = Vec::new();
        let shown = versions.kept.iter().filter(|_| versions.urls != Urls::Off);
        for Kept { version, likeness } in shown {
            match alike.iter_mut().find(|(other, _)| *other == likeness) {
                Some((_, members)) => members.push(*version),
                None => alike.push((likeness, vec![*version])),
            }
        }
        let with_password = versions.urls == Urls::Password;
        let groups =
            alike.iter().map(|(likeness, members)| group(app, domain, likeness, members, with_password));
        let secret = || Quoted::path(&app.version_passwords());
        Ok(View {
            pattern: Quoted::pattern(r"~^v(?:0|[1-9][0-9]{0,9})\.", domain.as_str(), "$")?,
            groups: groups.collect::<Result<_>>()?,
            passwords: with_password.then(secret).transpose()?,
            realm: Quoted::literal(&format!("versions of {}", app.name()))?,
        })
    }

    /// Whether one of them may want to speak WebSocket.
    pub(super) fn speaks_http(&self) -> bool {
        self.groups.iter().any(|group| group.body.speaks_http())
    }
}

fn group(
    app: &App,
    domain: &Domain,
    likeness: &Likeness,
    members: &[Version],
    with_password: bool,
) -> Result<Group> {
    let numbers = |some: &[Version]| some.iter().map(Version::to_string).collect::<Vec<_>>().join("|");
    let pattern = |some: &[Version]| {
        Quoted::pattern(&format!(r"~^v(?<receiver_n>{})\.", numbers(some)), domain.as_str(), "$")
    };
    let door = |protocol| {
        let mut door = door(app, protocol, members)?;
        door.timeout = likeness.timeout;
        door.strips_password = with_password;
        Ok::<Door, Error>(door)
    };
    Quoted::literal(&likeness.directory)?;
    let place = Place { top: &app.versions(), behind: &format!("/$receiver_n/{}", likeness.directory) };
    Ok(Group {
        patterns: members.chunks(NUMBERS).map(pattern).collect::<Result<_>>()?,
        body: Body::of(
            &place,
            None,
            likeness.protocol.map(door).transpose()?,
            likeness.files.as_deref(),
            &likeness.static_files,
        )?,
    })
}

/// The sockets that versions are asked at.
fn door(app: &App, protocol: Protocol, members: &[Version]) -> Result<Door> {
    for version in members {
        refuse_long(&app.version_socket(*version))?;
    }
    let sockets = app.version_sockets();
    if sockets.to_str().is_some_and(|path| path.contains(':')) {
        return Err(Error::new(format!(
            "nginx ends a socket's path at a ':', and {} has one",
            sockets.display()
        ))
        .hint(format!("`receiver config {} versions.urls off`", app.name())));
    }
    let pass = match protocol {
        Protocol::Http => Quoted::path_between("http://unix:", &sockets, "/$receiver_n.sock:")?,
        Protocol::Fastcgi | Protocol::Uwsgi => Quoted::path_between("unix:", &sockets, "/$receiver_n.sock")?,
    };
    Ok(Door::of(protocol, pass))
}
