//! `receiver config`: reads and changes single keys of the server's file. All else in it stays as the
//! administrator wrote it, comments too.

use toml_edit::{DocumentMut, Item, Key, TableLike, Value};

use super::agreement::contradictions;
use super::complaint::{dotted, refusal};
use super::fragments::{File, Fragment, parse};
use super::inputs::Inputs;
use super::keys::{self, Owner, Place};
use crate::support::{Context, Error, Result};

/// What a person calls the file that is changed.
const SERVER_FILE: &str = "the server's receiver.toml";

/// What the server's file, with the content `text`, says for the dotted `key`: plain text for a string,
/// TOML for all else; `None` where it says nothing. The error says what is wrong with `key` or with `text`.
pub fn server_config_get(text: &str, key: &str) -> Result<Option<String>> {
    let path = key_path(key)?;
    let document = open(text)?;
    let mut item = document.as_item();
    for name in &path {
        match item.as_table_like().and_then(|table| table.get(name.get())) {
            Some(below) => item = below,
            None => return refuse_unknown(&path).map(|()| None),
        }
    }
    Ok(Some(match item {
        Item::Value(Value::String(text)) => text.value().clone(),
        // without the comment behind it
        Item::Value(value) => value.clone().decorated("", "").to_string(),
        table => table.to_string().trim().to_owned(),
    }))
}

/// Refuses a key that no file could have: silence would pass for an answer.
fn refuse_unknown(path: &[Key]) -> Result<()> {
    if !matches!(keys::find(&names(path)), Place::Unknown) {
        return Ok(());
    }
    let given: Vec<String> = names(path).into_iter().map(str::to_owned).collect();
    let error = Error::usage(format!("'{}' is not a key", shown(path)));
    Err(match keys::nearest(&given, Owner::Server) {
        Some(near) => error.hint(format!("the nearest is {}", near.join("."))),
        None => error.hint("docs/format.md and examples/server-receiver.toml have them all"),
    })
}

/// The server's file `text` with the dotted `key` set to `value`: as TOML where `value` is TOML of the
/// key's kind, else as a string. The result is sound; the error says why it would not be.
pub fn server_config_set(text: &str, key: &str, value: &str) -> Result<String> {
    let path = key_path(key)?;
    let mut first_refusal = None;
    for candidate in readings(value) {
        let mut document = open(text)?;
        set(document.as_table_mut(), &path, candidate)?;
        let changed = document.to_string();
        match validate(&changed) {
            Ok(()) => return Ok(changed),
            Err(refused) => first_refusal = first_refusal.or(Some(refused)),
        }
    }
    let why = first_refusal.unwrap_or_else(|| Error::new("the value cannot be read"));
    Err(Error::usage(format!("cannot set '{}'", shown(&path))).caused_by(why))
}

/// The server's file `text` without the dotted `key`. The error says that the key was not set, or why the
/// file would not be sound without it.
pub fn server_config_unset(text: &str, key: &str) -> Result<String> {
    let path = key_path(key)?;
    let mut document = open(text)?;
    if !remove(document.as_table_mut(), &path, 0) {
        return Err(Error::usage(format!("'{}' is not set in {SERVER_FILE}", shown(&path))));
    }
    let changed = document.to_string();
    validate(&changed).context(|| format!("cannot unset '{}'", shown(&path)))?;
    Ok(changed)
}

/// The same for keys that go together: each gets its text, or with none is as by default. Only what comes of all of
/// them has to be sound.
pub fn server_config_change(text: &str, changes: &[(&str, Option<&str>)]) -> Result<String> {
    let mut document = open(text)?;
    for (key, value) in changes {
        let path = key_path(key)?;
        match value {
            Some(value) => set(document.as_table_mut(), &path, Value::from(*value))?,
            None => drop(remove(document.as_table_mut(), &path, 0)),
        }
    }
    let changed = document.to_string();
    let keys: Vec<&str> = changes.iter().map(|(key, _)| *key).collect();
    validate(&changed).context(|| format!("cannot set {}", keys.join(" and ")))?;
    Ok(changed)
}

/// The names of a dotted key, which need not be known: a file with an unknown key can be cured.
fn key_path(key: &str) -> Result<Vec<Key>> {
    let unsound = || Error::usage(format!("'{}' is not a key", key.escape_debug()));
    let path = Key::parse(key).map_err(|_| unsound())?;
    if path.is_empty() { Err(unsound()) } else { Ok(path) }
}

fn names(path: &[Key]) -> Vec<&str> {
    path.iter().map(Key::get).collect()
}

fn shown(path: &[Key]) -> String {
    dotted(&names(path))
}

/// The file as a document that keeps its comments; first with the reader that bounds its depth.
fn open(text: &str) -> Result<DocumentMut> {
    let unreadable = || format!("{SERVER_FILE} is not TOML");
    if let Err(wrong) = parse(text) {
        let why = wrong.into_iter().next().map_or_else(String::new, |(_, why)| why);
        return Err(Error::new(unreadable()).caused_by(Error::new(why)));
    }
    text.parse().context(unreadable)
}

/// What `text` may mean: TOML first, if it is that, then plain text.
fn readings(text: &str) -> Vec<Value> {
    let toml = if parse(&format!("value = {text}")).is_ok() { text.parse().ok() } else { None };
    toml.into_iter().chain([Value::from(text)]).collect()
}

/// Each value by itself, and what contradicts itself. What is incomplete may be completed by the
/// repository's file.
fn validate(text: &str) -> Result<()> {
    let file = File { owner: Owner::Server, name: SERVER_FILE };
    let mut fragment = Fragment::read(file, text.as_bytes());
    let mut complaints = std::mem::take(&mut fragment.complaints);
    let mut inputs = Inputs::defaults();
    inputs.overlay(file, fragment);
    complaints.extend(contradictions(&inputs)?);
    if complaints.is_empty() { Ok(()) } else { Err(refusal(&complaints)) }
}

fn set(root: &mut dyn TableLike, path: &[Key], mut value: Value) -> Result<()> {
    let Some((last, parents)) = path.split_last() else { return Ok(()) };
    let mut table = root;
    for (at, parent) in parents.iter().enumerate() {
        let inline_parent = matches!(keys::find(&names(&path[..=at])), Place::Key(_));
        let new = if inline_parent { toml_edit::value(toml_edit::InlineTable::new()) } else { new_table() };
        table = table.entry(parent.get()).or_insert(new).as_table_like_mut().ok_or_else(|| {
            Error::usage(format!("'{}' is not a table in {SERVER_FILE}", shown(&path[..=at])))
        })?;
    }
    match table.get_mut(last.get()) {
        Some(Item::Value(old)) => {
            // the comment behind a value belongs to the line, not to the value
            *value.decor_mut() = old.decor().clone();
            *old = value;
        }
        Some(other) => *other = Item::Value(value),
        None => {
            table.insert(last.get(), Item::Value(value));
        }
    }
    Ok(())
}

/// A table whose header is written only once something stands in it.
fn new_table() -> Item {
    let mut table = toml_edit::Table::new();
    table.set_implicit(true);
    Item::Table(table)
}

/// Whether there was anything at `path`, of which `table` is the part from `at` on. A chosen name goes with
/// the last of what was said about it, since an empty `[process.NAME]` is an error.
fn remove(table: &mut dyn TableLike, path: &[Key], at: usize) -> bool {
    let name = path[at].get();
    if at + 1 == path.len() {
        return table.remove(name).is_some();
    }
    let Some(below) = table.get_mut(name).and_then(Item::as_table_like_mut) else { return false };
    let removed = remove(below, path, at + 1);
    let chosen =
        || matches!(keys::find(&names(&path[..=at])), Place::Table { segment, .. } if keys::is_wild(segment));
    if removed && below.is_empty() && chosen() {
        table.remove(name);
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# ours\nbranch = \"main\" # the branch\n\n[keep]\n# few\nreleases = 3 # three\n";

    #[test]
    fn setting_a_key_keeps_everything_else() {
        let changed = server_config_set(FILE, "keep.releases", "7").unwrap();
        assert_eq!(changed, FILE.replace("= 3", "= 7"));
        let changed = server_config_set(FILE, "branch", "release").unwrap();
        assert_eq!(changed, FILE.replace("\"main\"", "\"release\""));
        let changed = server_config_set(FILE, "keep.dumps", "10d").unwrap();
        assert_eq!(changed, format!("{FILE}dumps = \"10d\"\n"));
        let changed = server_config_set(FILE, "process.mailer.overlap", "true").unwrap();
        assert_eq!(changed, format!("{FILE}\n[process.mailer]\noverlap = true\n"));
    }

    #[test]
    fn a_value_is_toml_where_the_key_wants_it_and_text_otherwise() {
        let set = |key: &str, value: &str| {
            let changed = server_config_set("", key, value).unwrap();
            server_config_get(&changed, key).unwrap().unwrap()
        };
        assert_eq!(set("keep.releases", "7"), "7");
        assert_eq!(set("branch", "7"), "7");
        assert_eq!(set("branch", "\"main\""), "main");
        assert_eq!(set("stages.check", "true"), "true");
        assert_eq!(set("export.outside_links", "true"), "true");
        assert_eq!(set("shared.files", "[\".env\"]"), "[\".env\"]");
        assert_eq!(
            set("stages.build", "{ run = \"make\", timeout = \"1h\" }"),
            "{ run = \"make\", timeout = \"1h\" }"
        );
        assert_eq!(set("branches.\"feature/*\".preview", "true"), "true");
        assert_eq!(set("stages.build.run", "make"), "make");
    }

    #[test]
    fn what_would_not_be_sound_is_not_set() {
        let refused = |key: &str, value: &str| server_config_set(FILE, key, value).unwrap_err().render();
        let few = refused("keep.releases", "0");
        assert!(
            few.contains("the server's receiver.toml:6: 'keep.releases': invalid value: integer `0`"),
            "{few}"
        );
        let unknown = refused("keep.relases", "5");
        assert!(unknown.contains("unknown key 'keep.relases' (did you mean 'keep.releases'?)"), "{unknown}");
        assert!(refused("branch", "a\nb = 1").contains("cannot be a branch's name"));
        assert!(refused("keep", "5").contains("expected a table"));
        assert!(refused("branch.x", "5").contains("'branch' is not a table"));
        assert!(refused("", "5").contains("is not a key"));
        assert!(refused("a..b", "5").contains("is not a key"));
    }

    #[test]
    fn a_key_that_is_not_set_is_none() {
        assert_eq!(server_config_get(FILE, "domain").unwrap(), None);
        assert_eq!(server_config_get(FILE, "keep.releases").unwrap().as_deref(), Some("3"));
        assert!(server_config_get("a = = 1", "domain").is_err());
    }

    #[test]
    fn unsetting_takes_the_line_and_an_emptied_name() {
        assert_eq!(
            server_config_unset(FILE, "keep.releases").unwrap(),
            "# ours\nbranch = \"main\" # the branch\n\n[keep]\n"
        );
        let with_process = format!("{FILE}\n[process.mailer]\noverlap = true\n");
        assert_eq!(server_config_unset(&with_process, "process.mailer.overlap").unwrap(), FILE);
        assert!(server_config_unset(FILE, "domain").unwrap_err().to_string().contains("'domain' is not set"));
        // a file that an older receiver wrote can be cured
        assert_eq!(server_config_unset("odd = 1\n", "odd").unwrap(), "");
    }
}
