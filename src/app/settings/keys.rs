//! The one list of known keys: what each is called, whose it is, what it may be, what holds where
//! nothing is said, and whether this build acts on it.
//!
//! Whatever walks a file, looks for the nearest known key, explains the settings or checks the
//! reference in `examples/` goes by this list.

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeValue, ValueDeserializer};

use super::database::{Carry, Engine, HoldBy, OnConflict};
use super::names::{
    BranchApp, BranchName, CronTime, Domain, Globs, Statuses, UrlPath, Variable, VariableValue,
    branch_pattern, column_name, process_name, static_url,
};
use super::nginx::Listen;
use super::settings::{BranchData, Link, Protocol, Urls};
use super::stage::{PARTS, WrittenStage};
use super::values::{
    Bytes, Count, Format, Limit, Percent, Period, RelativePath, ServedPath, ServerPath, Text,
};
use super::watching::Occasion;

/// Whose a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// What the code needs: the repository's file may say it, and the server's too.
    Code,
    /// What the server grants: only the server's file may say it.
    Server,
}

/// Reads a value only to know what is wrong with it.
type Check = for<'i> fn(Spanned<DeValue<'i>>) -> Result<(), toml::de::Error>;

/// One known key.
pub(super) struct Key {
    /// Its path; `<kind>` stands for a name that the file chooses, see [`check_name`].
    pub(super) path: &'static str,
    pub(super) owner: Owner,
    /// What holds where nothing is said, as TOML.
    pub(super) default: Option<&'static str>,
    /// The keys that its value may have where it is a table. Such a value is one whole: another file's
    /// replaces it, and does not mix with it.
    pub(super) parts: &'static [&'static str],
    pub(super) check: Check,
}

impl Key {
    pub(super) fn segments(&self) -> impl Iterator<Item = &'static str> {
        self.path.split('.')
    }

    const fn default(self, toml: &'static str) -> Self {
        Key { default: Some(toml), ..self }
    }

    const fn parts(self, parts: &'static [&'static str]) -> Self {
        Key { parts, ..self }
    }
}

const fn code<T: DeserializeOwned>(path: &'static str) -> Key {
    Key { path, owner: Owner::Code, default: None, parts: &[], check: check::<T> }
}

const fn server<T: DeserializeOwned>(path: &'static str) -> Key {
    Key { owner: Owner::Server, ..code::<T>(path) }
}

fn check<T: DeserializeOwned>(value: Spanned<DeValue<'_>>) -> Result<(), toml::de::Error> {
    T::deserialize(ValueDeserializer::from(value)).map(drop)
}

/// Every key, in the order in which they are explained.
pub(super) const KEYS: &[Key] = &[
    code::<Format>("format").default("1"),
    code::<WrittenStage>("stages.build").parts(PARTS),
    code::<WrittenStage>("stages.assets").parts(PARTS),
    code::<WrittenStage>("stages.syncdb").parts(PARTS),
    code::<WrittenStage>("stages.migration").parts(PARTS),
    code::<WrittenStage>("stages.check").parts(PARTS),
    code::<Globs>("schema.paths"),
    code::<Text>("schema.command"),
    code::<Engine>("database.engine").default("\"none\""),
    code::<Carry>("database.carry").default("\"copy\""),
    code::<HoldBy>("database.hold").default("\"lock\""),
    code::<Limit>("database.max_pause"),
    code::<Period>("database.copy_ahead").default("\"500ms\""),
    code::<Period>("database.rollback_window").default("\"24h\""),
    code::<OnConflict>("database.on_conflict").default("\"abort\""),
    code::<Text>("map.<column>.up.<column>"),
    code::<Text>("map.<column>.down.<column>"),
    code::<Text>("web.command"),
    code::<Protocol>("web.protocol").default("\"http\""),
    code::<UrlPath>("web.health.path"),
    code::<Statuses>("web.health.expect").default("\"200-399\""),
    code::<Limit>("web.start_timeout").default("\"30s\""),
    code::<Period>("web.settle").default("\"1s\""),
    code::<ServedPath>("web.static.<url>"),
    code::<Period>("web.drain").default("\"30s\""),
    code::<Text>("process.<process>.command"),
    code::<bool>("process.<process>.overlap"),
    code::<CronTime>("cron.<process>.at"),
    code::<Text>("cron.<process>.command"),
    code::<Vec<RelativePath>>("shared.files").default("[]"),
    code::<Vec<RelativePath>>("shared.dirs").default("[]"),
    code::<Vec<RelativePath>>("cache.<path>"),
    server::<BranchName>("branch").default("\"main\""),
    server::<Domain>("domain"),
    server::<ServerPath>("database.server"),
    server::<Text>("database.admin"),
    server::<ServerPath>("database.password_file"),
    server::<ServerPath>("nginx.site"),
    server::<ServerPath>("nginx.config"),
    server::<ServerPath>("nginx.certificate"),
    server::<ServerPath>("nginx.certificate_key"),
    server::<ServerPath>("nginx.challenge").default("\"/var/www/html\""),
    server::<Bytes>("nginx.max_body").default("\"10M\""),
    server::<Limit>("nginx.timeout").default("\"60s\""),
    server::<Vec<Listen>>("nginx.listen").default("[\"80\"]"),
    server::<Vec<Listen>>("nginx.listen_tls").default("[\"443\"]"),
    server::<BranchApp>("branches.<branch>.app"),
    server::<Domain>("branches.<branch>.domain"),
    server::<bool>("branches.<branch>.preview"),
    server::<BranchData>("branches.<branch>.data"),
    server::<bool>("branches.<branch>.process"),
    server::<VariableValue>("preview.env.<variable>"),
    server::<Count>("preview.most").default("20"),
    server::<Urls>("versions.urls").default("\"off\""),
    server::<Count>("versions.awake").default("1"),
    server::<Limit>("versions.idle").default("\"15m\""),
    server::<Count>("keep.releases").default("5"),
    server::<Count>("keep.versions").default("3"),
    server::<Period>("keep.dumps").default("\"30d\""),
    server::<Bytes>("limits.memory"),
    server::<Count>("limits.tasks"),
    server::<Percent>("limits.cpu"),
    server::<Limit>("limits.time").default("\"30m\""),
    server::<Bytes>("limits.log_bytes").default("\"16M\""),
    server::<Bytes>("limits.push_bytes"),
    server::<bool>("export.outside_links").default("false"),
    server::<Vec<Text>>("export.submodules").default("[]"),
    server::<Link>("export.link").default("\"blocks\""),
    server::<Text>("notify.command"),
    server::<Vec<Occasion>>("notify.on")
        .default("[\"failed\", \"attention\", \"crash-loop\", \"certificate\"]"),
    server::<ServerPath>("metrics.file"),
];

/// Whether a name that a file chose may stand for `segment`, such as `<url>`.
pub(super) fn check_name(segment: &str, name: &str) -> Result<(), String> {
    match segment {
        "<column>" => column_name(name),
        "<url>" => static_url(name),
        "<process>" => process_name(name),
        "<path>" => name.parse::<RelativePath>().map(drop),
        "<branch>" => branch_pattern(name),
        "<variable>" => name.parse::<Variable>().map(drop),
        _ => Ok(()),
    }
}

/// What a path in a file is.
pub(super) enum Place {
    /// A key, by its place in [`KEYS`].
    Key(usize),
    /// A table with keys below it, all of them the server's or not; and the segment of the pattern that
    /// stands for the last name of the path.
    Table { owner: Owner, segment: &'static str },
    /// Nothing that is known.
    Unknown,
}

/// Finds `path` in the list.
pub(super) fn find<S: AsRef<str>>(path: &[S]) -> Place {
    let mut table = None;
    for (rank, key) in KEYS.iter().enumerate() {
        let mut segments = key.segments();
        let fits =
            path.iter().all(|name| segments.next().is_some_and(|segment| stands_for(segment, name.as_ref())));
        if !fits {
            continue;
        }
        if segments.next().is_none() {
            return Place::Key(rank);
        }
        let segment = key.segments().nth(path.len().saturating_sub(1)).unwrap_or_default();
        match &mut table {
            None => table = Some((key.owner, segment)),
            Some((owner, _)) if key.owner == Owner::Code => *owner = Owner::Code,
            Some(_) => {}
        }
    }
    table.map_or(Place::Unknown, |(owner, segment)| Place::Table { owner, segment })
}

pub(super) fn is_wild(segment: &str) -> bool {
    segment.starts_with('<')
}

fn stands_for(segment: &str, name: &str) -> bool {
    is_wild(segment) || segment == name
}

/// The known key or table nearest to an unknown `path`, if one is near: only the last name of `path` is
/// unknown, all before it are tables. With [`Owner::Code`], only what the repository may say.
pub(super) fn nearest(path: &[String], asker: Owner) -> Option<Vec<String>> {
    let (unknown, parents) = path.split_last()?;
    if unknown.len() > 64 {
        return None;
    }
    let mut best = (0.5, None);
    for key in KEYS.iter().filter(|key| asker == Owner::Server || key.owner == Owner::Code) {
        for candidate in spellings(key, parents) {
            let (last, before) = candidate.split_last()?;
            // a key of the same name elsewhere was put in the wrong table; one beside it was misspelt
            let weight = if before == parents { 1.0 } else { 0.7 };
            let likeness = weight * strsim::normalized_damerau_levenshtein(unknown, last);
            if likeness > best.0 {
                best = (likeness, Some(candidate));
            }
        }
    }
    best.1
}

/// The key itself, the tables that it lies in and its parts, with the names that `parents` chose; none
/// that would need another chosen name.
fn spellings(key: &Key, parents: &[String]) -> Vec<Vec<String>> {
    let mut spellings: Vec<Vec<String>> = Vec::new();
    let mut path = Vec::new();
    let mut along = true;
    for (at, segment) in key.segments().enumerate() {
        let name = match parents.get(at) {
            Some(parent) if along && is_wild(segment) => parent,
            _ if is_wild(segment) => return spellings,
            _ => segment,
        };
        along &= parents.get(at).is_some_and(|parent| parent == name);
        path.push(name.to_owned());
        if !is_wild(segment) {
            spellings.push(path.clone());
        }
    }
    if along {
        spellings.extend(key.parts.iter().map(|part| [path.as_slice(), &[(*part).to_owned()]].concat()));
    }
    spellings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(path: &[&str], asker: Owner) -> Option<String> {
        let path: Vec<String> = path.iter().map(|name| (*name).to_owned()).collect();
        nearest(&path, asker).map(|found| found.join("."))
    }

    #[test]
    fn the_nearest_key_is_a_sister_or_has_the_same_name_elsewhere() {
        assert_eq!(near(&["stages", "buidl"], Owner::Code).as_deref(), Some("stages.build"));
        assert_eq!(near(&["stagse"], Owner::Code).as_deref(), Some("stages"));
        assert_eq!(near(&["engine"], Owner::Code).as_deref(), Some("database.engine"));
        assert_eq!(near(&["stages", "build", "rnu"], Owner::Code).as_deref(), Some("stages.build.run"));
        assert_eq!(
            near(&["process", "mailer", "comand"], Owner::Code).as_deref(),
            Some("process.mailer.command")
        );
        assert_eq!(near(&["zzz"], Owner::Server), None);
    }

    #[test]
    fn the_repository_is_not_pointed_to_keys_of_the_server() {
        assert_eq!(near(&["domian"], Owner::Server).as_deref(), Some("domain"));
        assert_eq!(near(&["domian"], Owner::Code), None);
    }

    #[test]
    fn a_table_is_the_servers_only_when_all_of_it_is() {
        assert!(matches!(find(&["keep"]), Place::Table { owner: Owner::Server, .. }));
        assert!(matches!(find(&["web"]), Place::Table { owner: Owner::Code, .. }));
        assert!(matches!(find(&["stages", "buidl"]), Place::Unknown));
        assert!(matches!(find(&["cache", ".venv"]), Place::Key(_)));
    }
}
