//! The names that a configuration gives to branches, hosts, processes, variables and times.

use std::fmt;
use std::str::FromStr;

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Deserializer};

use super::values::read_from_text;
use crate::app::AppName;

/// An exact branch name, as git's check-ref-format wants it, without `refs/heads/`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct BranchName(String);
read_from_text!(BranchName, "the exact name of a branch");

impl BranchName {
    /// The name without `refs/heads/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BranchName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for BranchName {
    type Err = String;

    /// Text to a branch's name. The error completes the sentence "'TEXT' …".
    fn from_str(text: &str) -> Result<Self, String> {
        let sound_part =
            |part: &str| !part.is_empty() && !part.starts_with('.') && part.strip_suffix(".lock").is_none();
        let sound = text.split('/').all(sound_part)
            && !text.starts_with('-')
            && !text.ends_with('.')
            && !text.contains("..")
            && !text.contains("@{")
            && !["@", "HEAD"].contains(&text)
            && !text.contains(|c: char| c.is_control() || " ~^:?*[\\".contains(c));
        if sound { Ok(BranchName(text.to_owned())) } else { Err("cannot be a branch's name".to_owned()) }
    }
}

/// A host's name, in lower case: `agroguia.example`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Domain(String);
read_from_text!(Domain, "a host's name");

impl Domain {
    /// The name in lower case, without a final dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Domain {
    type Err = String;

    /// Text to a host's name. The error completes the sentence "'TEXT' …".
    fn from_str(text: &str) -> Result<Self, String> {
        let sound_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if text.len() <= 253 && text.split('.').all(sound_label) {
            Ok(Domain(text.to_ascii_lowercase()))
        } else {
            Err("is not a host's name, such as app.example.org".to_owned())
        }
    }
}

/// The name of a branch's app: `agroguia--dev`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BranchApp(pub AppName);
read_from_text!(BranchApp, "the name of a branch's app, such as \"agroguia--dev\"");

impl FromStr for BranchApp {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<AppName>() {
            Ok(name) if name.parent().is_some() => Ok(BranchApp(name)),
            _ => {
                Err("is not the name of a branch's app: APP--BRANCH, such as \"agroguia--dev\", at most 24 \
                      characters in all"
                    .to_owned())
            }
        }
    }
}

/// The name of a variable of the environment, as keys of `env` tables are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Variable(pub String);
read_from_text!(Variable, "the name of a variable");

impl FromStr for Variable {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let word = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !word || text.is_empty() || text.as_bytes()[0].is_ascii_digit() {
            return Err("is not a variable's name: letters, digits and _, and no digit first".to_owned());
        }
        if text.starts_with("RECEIVER_") {
            return Err("begins with RECEIVER_, which receiver sets itself".to_owned());
        }
        Ok(Variable(text.to_owned()))
    }
}

/// What a variable is set to: any text without a NUL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VariableValue(pub String);
read_from_text!(VariableValue, "text");

impl FromStr for VariableValue {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains('\0') { Err("holds a NUL".to_owned()) } else { Ok(VariableValue(text.to_owned())) }
    }
}

/// A path on the web: `/`, `/assets`. Only characters that mean nothing to a web server's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UrlPath(pub String);
read_from_text!(UrlPath, "a path on the web, such as \"/health\"");

impl FromStr for UrlPath {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%+@:".contains(&b);
        if text.starts_with('/') && text.bytes().all(plain) && !text.split('/').any(|part| part == "..") {
            Ok(UrlPath(text.to_owned()))
        } else {
            Err("is not a path on the web, such as \"/health\"".to_owned())
        }
    }
}

/// A path on the web that files are served at, as nginx compares it: decoded, and without empty parts.
pub(super) fn static_url(text: &str) -> Result<(), String> {
    text.parse::<UrlPath>()?;
    if text.contains('%') {
        return Err("has a %: nginx compares the decoded path, which this would never be".to_owned());
    }
    let path = text.strip_suffix('/').unwrap_or(text);
    match path.split('/').skip(1).find(|part| part.is_empty() || part.starts_with('.')) {
        Some("") => Err("has an empty part".to_owned()),
        Some(_) => Err("has a part that begins with a dot: such files are never served".to_owned()),
        None => Ok(()),
    }
}

/// The name of a process or of a cron entry: it becomes part of unit names and of file names.
pub(super) fn process_name(text: &str) -> Result<(), String> {
    let sound = text.len() <= 24
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && text.starts_with(|c: char| c.is_ascii_lowercase());
    if !sound {
        return Err("must be 1 to 24 of a-z, 0-9 and -, and begin with a letter".to_owned());
    }
    if text == "web" { Err("is the process of [web]".to_owned()) } else { Ok(()) }
}

/// Whether `pattern` means the branch `name`: a `*` stands for any characters, `/` too, as in git's own
/// refspecs; all else for itself.
pub fn branch_matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = name.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    // The first place of each part is as good as any later one: what follows has the most left then.
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// A branch, or a pattern of branches: `feature/*`.
pub(super) fn branch_pattern(text: &str) -> Result<(), String> {
    let example = text.replace('*', "x");
    example
        .parse::<BranchName>()
        .map(drop)
        .map_err(|_| "is not a branch, nor a pattern of branches".to_owned())
}

/// The name of a table or of a column, as a key of `[map]`.
pub(super) fn column_name(text: &str) -> Result<(), String> {
    if text.trim().is_empty() || text.len() > 128 || text.chars().any(char::is_control) {
        return Err("is not the name of a table or column".to_owned());
    }
    Ok(())
}

/// When a cron entry runs: a word, or the five fields of crontab(5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CronTime(pub String);
read_from_text!(CronTime, "a time: hourly, daily, weekly, monthly, or five fields as in \"30 4 * * 1\"");

impl FromStr for CronTime {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let ranges = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)];
        let fields: Vec<&str> = text.split(' ').collect();
        let sound = ["hourly", "daily", "weekly", "monthly"].contains(&text)
            || fields.len() == 5 && fields.iter().zip(ranges).all(|(field, range)| sound_field(field, range));
        if sound {
            Ok(CronTime(text.to_owned()))
        } else {
            Err("is not a time: hourly, daily, weekly, monthly, or five fields as in \"30 4 * * 1\""
                .to_owned())
        }
    }
}

/// One field of crontab(5): `*`, `5`, `1-5`, each with `/STEP`, several with commas.
fn sound_field(field: &str, (low, high): (u8, u8)) -> bool {
    let number = |text: &str| text.parse::<u8>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    let inside = |text: &str| number(text).filter(|n| (low..=high).contains(n));
    field.split(',').all(|item| {
        let (span, step) = item.split_once('/').map_or((item, None), |(span, step)| (span, Some(step)));
        let sound_span = match span.split_once('-') {
            _ if span == "*" => true,
            Some((first, last)) => matches!((inside(first), inside(last)), (Some(a), Some(b)) if a <= b),
            None => inside(span).is_some(),
        };
        sound_span && step.is_none_or(|step| number(step).is_some_and(|step| step > 0))
    })
}

/// The statuses with which an application says that it is well: `"200-399"`, `"204"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statuses {
    /// The lowest HTTP status that counts.
    pub first: u16,
    /// The highest HTTP status that counts.
    pub last: u16,
}
read_from_text!(Statuses, "HTTP statuses as text, such as \"200-399\" or \"204\"");

impl FromStr for Statuses {
    type Err = String;

    /// Text to a range of statuses. The error completes the sentence "'TEXT' …".
    fn from_str(text: &str) -> Result<Self, String> {
        let status = |text: &str| {
            let number = text.parse::<u16>().ok().filter(|_| text.len() == 3);
            number.filter(|status| (100..=599).contains(status))
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (status(first), status(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Statuses { first, last }),
            _ => Err("is not a range of HTTP statuses, such as \"200-399\"".to_owned()),
        }
    }
}

/// All patterns become one automaton, and its size is what each path of a tree costs: a push must not make
/// that large.
const MOST_PATTERNS: usize = 64;
/// Of one pattern, in bytes.
const LONGEST_PATTERN: usize = 256;

/// Patterns of paths in a tree: `*` stays in its directory, `**` does not.
#[derive(Clone, Debug)]
pub struct Globs {
    patterns: Vec<String>,
    set: GlobSet,
}

impl Globs {
    /// The patterns as they were written.
    pub fn patterns(&self) -> &[String] {
        &self.patterns
    }

    /// Whether one of the patterns means `path`, which is relative to the tree.
    pub fn is_match(&self, path: &str) -> bool {
        self.set.is_match(path)
    }
}

struct Pattern(Glob);
read_from_text!(Pattern, "a pattern of paths, such as \"**/migrations/*.py\"");

impl FromStr for Pattern {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > LONGEST_PATTERN {
            return Err(format!("is empty, or longer than {LONGEST_PATTERN} bytes"));
        }
        if text.starts_with('/') || text.split('/').any(|part| part == "..") {
            return Err("leads out of the tree: patterns are relative to it".to_owned());
        }
        let glob = GlobBuilder::new(text).literal_separator(true).build();
        glob.map(Pattern).map_err(|why| format!("is not a pattern: {}", why.kind()))
    }
}

impl<'de> Deserialize<'de> for Globs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let patterns = Vec::<Pattern>::deserialize(deserializer)?;
        if patterns.is_empty() || patterns.len() > MOST_PATTERNS {
            return Err(serde::de::Error::custom(format!("must have 1 to {MOST_PATTERNS} patterns")));
        }
        let mut set = GlobSetBuilder::new();
        for Pattern(glob) in &patterns {
            set.add(glob.clone());
        }
        let patterns = patterns.into_iter().map(|Pattern(glob)| glob.glob().to_owned()).collect();
        Ok(Globs { patterns, set: set.build().map_err(serde::de::Error::custom)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_are_what_git_allows() {
        for bad in [
            "", "-x", "a..b", "a//b", "/a", "a/", "a.lock", "a.lock/b", "a.", ".a", "a/.b", "a b", "a~",
            "a^", "a:b", "a?", "a*", "a[", "a\\b", "a\u{1b}", "a\u{7f}", "@", "a@{b", "HEAD",
        ] {
            assert!(bad.parse::<BranchName>().is_err(), "{bad:?}");
        }
        for good in ["main", "feature/x-1", "v1.0", "a@b", "größe"] {
            assert!(good.parse::<BranchName>().is_ok(), "{good:?}");
        }
    }

    #[test]
    fn domains_are_host_names() {
        for bad in ["", ".", "a.", "a..b", "-a.b", "a-.b", "a_b", "a b", "a/b", "*.a", "a:80", "é.fr"] {
            assert!(bad.parse::<Domain>().is_err(), "{bad:?}");
        }
        assert_eq!("Agroguia.Example".parse::<Domain>().unwrap().as_str(), "agroguia.example");
    }

    #[test]
    fn domains_hold_nothing_that_a_web_servers_configuration_reads() {
        for bad in ["a.b;", "a.b\nc", "a.b\"", "a.b'", "$host", "a.b{", "a.b}", "a.b\t", "a\u{0}b", "~^a$"] {
            assert!(bad.parse::<Domain>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn files_are_served_at_paths_that_nginx_can_compare() {
        for good in ["/", "/assets", "/assets/", "/a/b-1_2~3", "/@vite", "/v1.2+x"] {
            assert!(static_url(good).is_ok(), "{good:?}");
        }
        for bad in [
            "", "assets", "/a%20b", "//", "/a//b", "/.git", "/a/./b", "/a/../b", "/a b", "/a\"b", "/a;b",
            "/a{b", "/a$b", "/a\nb", "/a\\b", "/ä", "/a'b", "/a(b", "/a*", "/a[b", "/a|b", "/a#b", "/a?b",
        ] {
            assert!(static_url(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn apps_of_branches_have_two_names() {
        for bad in ["agroguia", "--dev", "agroguia--", "deploy--x", "a--B", "a--b/c"] {
            assert!(bad.parse::<BranchApp>().is_err(), "{bad:?}");
        }
        assert!("agroguia--dev".parse::<BranchApp>().is_ok());
    }

    #[test]
    fn a_star_stands_for_any_part_of_a_branch() {
        for (pattern, name) in
            [("a", "a"), ("*", "a/b"), ("f/*", "f/a/b"), ("f/*", "f/"), ("*-x", "a-x"), ("a*b*c", "a-b-b-c")]
        {
            assert!(branch_matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("a", "ab"),
            ("a", ""),
            ("f/*", "f"),
            ("f/*", "xf/a"),
            ("*-x", "a-xy"),
            ("ab*b", "ab"),
            ("a.*", "ab"),
        ] {
            assert!(!branch_matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn cron_times_are_words_or_five_fields() {
        for good in ["daily", "30 4 * * 1", "*/5 0-6,12 1 1-12/2 7"] {
            assert!(good.parse::<CronTime>().is_ok(), "{good:?}");
        }
        for bad in
            ["", "yearly?", "60 * * * *", "* * * *", "5-1 * * * *", "*/0 * * * *", "* * * * * ", "+1 * * * *"]
        {
            assert!(bad.parse::<CronTime>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn statuses_are_a_range() {
        assert_eq!("204".parse(), Ok(Statuses { first: 204, last: 204 }));
        assert_eq!("200-399".parse(), Ok(Statuses { first: 200, last: 399 }));
        for bad in ["", "200-", "399-200", "99", "700", "+20", "200 - 300"] {
            assert!(bad.parse::<Statuses>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_star_stays_in_its_directory() {
        #[derive(Deserialize)]
        struct File {
            paths: Globs,
        }
        let globs = |text: &str| toml::from_str::<File>(&format!("paths = {text}")).map(|file| file.paths);
        let migrations = globs("['**/migrations/*.py', 'db/*.sql']").unwrap();
        assert!(migrations.is_match("migrations/0001.py"));
        assert!(migrations.is_match("a/b/migrations/0001.py"));
        assert!(!migrations.is_match("a/migrations/old/0001.py"));
        assert!(migrations.is_match("db/x.sql"));
        assert!(!migrations.is_match("app/db/x.sql"));
        assert_eq!(migrations.patterns(), ["**/migrations/*.py", "db/*.sql"]);
        for bad in ["[]", "['']", "['/etc/*']", "['../*']", "['a[']", "['{']"] {
            assert!(globs(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn variables_of_receiver_are_its_own() {
        for bad in ["", "1A", "A-B", "A=B", "RECEIVER_APP"] {
            assert!(bad.parse::<Variable>().is_err(), "{bad:?}");
        }
        assert!("_a1".parse::<Variable>().is_ok());
    }
}
