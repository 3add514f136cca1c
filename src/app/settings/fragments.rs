//! First step: one file, by itself. What TOML may say, and where it says it.
//!
//! A fragment holds only what is sound: every key is known, may stand in this file, and has a value of
//! its kind. Everything else is a complaint, and all of them are found in one reading.

use serde::Deserialize;
use toml::de::{DeTable, DeValue, ValueDeserializer};
use toml::{Spanned, Value};

use super::complaint::{Complaint, MOST_SHOWN, dotted};
use super::keys::{self, KEYS, Key, Owner, Place};
use super::values::NEWER;

/// The largest file that is read, in bytes.
pub const MOST_BYTES: usize = 256 * 1024;

/// Tables and arrays inside one another; what is known needs five.
const DEEPEST: usize = 16;

/// Which of the two files it is, and what a person calls it.
#[derive(Clone, Copy, Debug)]
pub(super) struct File<'a> {
    /// [`Owner::Code`] for the repository's, [`Owner::Server`] for the server's.
    pub(super) owner: Owner,
    pub(super) name: &'a str,
}

/// One sound value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) path: Vec<String>,
    /// The place of its key in [`KEYS`].
    pub(super) rank: usize,
    pub(super) value: Value,
    /// From 1.
    pub(super) line: usize,
}

/// What one file says.
#[derive(Debug, Default)]
pub(super) struct Fragment {
    /// What is sound.
    pub(super) entries: Vec<Entry>,
    /// Paths that are said, but whose value was refused.
    pub(super) refused: Vec<Vec<String>>,
    /// Whether the file could be taken for TOML: if not, what it would have said is not known.
    pub(super) is_toml: bool,
    /// What is not sound, in the order of the lines.
    pub(super) complaints: Vec<Complaint>,
}

impl Fragment {
    /// Reads `bytes`, which may be anything at all.
    pub(super) fn read(file: File<'_>, bytes: &[u8]) -> Fragment {
        let whole = |text: String| Fragment {
            complaints: vec![Complaint::new(file.name, None, &text)],
            ..Fragment::default()
        };
        if bytes.len() > MOST_BYTES {
            return whole(format!("has {} bytes, at most {MOST_BYTES} are read", bytes.len()));
        }
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(why) => return whole(format!("is not UTF-8 text, from byte {} on", why.valid_up_to() + 1)),
        };
        let lines = Lines::of(text);
        let table = match parse(text) {
            Ok(table) => table,
            Err(wrong) => {
                let complain = |(at, why): (Option<usize>, String)| {
                    Complaint::new(file.name, at.map(|at| lines.of_byte(at)), &why)
                };
                return Fragment {
                    complaints: wrong.into_iter().map(complain).collect(),
                    ..Fragment::default()
                };
            }
        };
        let mut walk = Walk { file, lines, found: Fragment::default(), wrong: Vec::new() };
        walk.table(&mut Vec::new(), table.get_ref());
        walk.finish()
    }
}

/// Text to a tree of tables, or what is wrong with it: each with the byte where it is, if that is known.
///
/// The parser bounds brackets and dots each by itself; together they still nest thousands deep, more
/// than a small stack can free. Such a tree is taken apart here, without recursion.
pub(super) fn parse(text: &str) -> Result<Spanned<DeTable<'_>>, Vec<(Option<usize>, String)>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if let Some(at) = too_deep(table.get_ref()) {
        dismantle(table.into_inner());
        return Err(vec![(Some(at), format!("more than {DEEPEST} tables or arrays in one another"))]);
    }
    if errors.is_empty() {
        return Ok(table);
    }
    let wrong = |error: &toml::de::Error| (error.span().map(|span| span.start), error.message().to_owned());
    Err(errors.iter().map(wrong).collect())
}

/// The byte where something lies deeper than [`DEEPEST`].
fn too_deep(table: &DeTable<'_>) -> Option<usize> {
    let mut waiting: Vec<_> = table.values().map(|value| (value, 1)).collect();
    while let Some((value, depth)) = waiting.pop() {
        if depth > DEEPEST {
            return Some(value.span().start);
        }
        match value.get_ref() {
            DeValue::Table(table) => waiting.extend(table.values().map(|value| (value, depth + 1))),
            DeValue::Array(array) => waiting.extend(array.iter().map(|value| (value, depth + 1))),
            _ => {}
        }
    }
    None
}

fn dismantle(table: DeTable<'_>) {
    let mut waiting: Vec<_> = table.into_iter().map(|(_, value)| value).collect();
    while let Some(value) = waiting.pop() {
        match value.into_inner() {
            DeValue::Table(table) => waiting.extend(table.into_iter().map(|(_, value)| value)),
            DeValue::Array(array) => waiting.extend(array),
            _ => {}
        }
    }
}

/// Where the lines of a text begin.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        let after_breaks = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1);
        Lines(std::iter::once(0).chain(after_breaks).collect())
    }

    /// The line, from 1, that holds the byte `at`.
    fn of_byte(&self, at: usize) -> usize {
        self.0.partition_point(|start| *start <= at)
    }
}

struct Walk<'a> {
    file: File<'a>,
    lines: Lines,
    found: Fragment,
    /// What is wrong, by line.
    wrong: Vec<(usize, String)>,
}

impl Walk<'_> {
    fn table(&mut self, path: &mut Vec<String>, table: &DeTable<'_>) {
        for (name, value) in table {
            path.push(name.get_ref().to_string());
            self.item(path, self.lines.of_byte(name.span().start), value);
            path.pop();
        }
    }

    fn item(&mut self, path: &mut Vec<String>, line: usize, value: &Spanned<DeValue<'_>>) {
        let foreign = |owner| owner == Owner::Server && self.file.owner == Owner::Code;
        match keys::find(path) {
            Place::Unknown => self.unknown(path, line),
            Place::Key(rank) if foreign(KEYS[rank].owner) => self.not_here(path, line),
            Place::Table { owner, .. } if foreign(owner) => self.not_here(path, line),
            Place::Key(rank) => self.value(path, rank, line, value),
            Place::Table { segment, .. } => match value.get_ref() {
                DeValue::Table(_) if !self.name_is_sound(path, segment, line) => {}
                // `[process.mailer]` with nothing below it names a process and does not say what it is
                DeValue::Table(table) if table.is_empty() && keys::is_wild(segment) => {
                    self.complain(line, format!("'{}' is empty", dotted(path)));
                }
                DeValue::Table(table) => self.table(path, table),
                other => {
                    let found = other.type_str();
                    self.complain(line, format!("'{}': found {found}, expected a table", dotted(path)));
                }
            },
        }
    }

    fn value(&mut self, path: &[String], rank: usize, line: usize, value: &Spanned<DeValue<'_>>) {
        let Key { check, parts, .. } = &KEYS[rank];
        let segment = KEYS[rank].segments().last().unwrap_or_default();
        let mut sound = self.name_is_sound(path, segment, line);
        if let (DeValue::Table(table), false) = (value.get_ref(), parts.is_empty()) {
            for name in table.keys().filter(|name| !parts.contains(&name.get_ref().as_ref())) {
                let below = [path, &[name.get_ref().to_string()]].concat();
                self.unknown(&below, self.lines.of_byte(name.span().start));
                sound = false;
            }
        }
        let read =
            check(value.clone()).and_then(|()| Value::deserialize(ValueDeserializer::from(value.clone())));
        match read {
            Ok(value) if sound => self.found.entries.push(Entry { path: path.to_vec(), rank, value, line }),
            Ok(_) => self.found.refused.push(path.to_vec()),
            Err(why) => {
                let line = why.span().map_or(line, |span| self.lines.of_byte(span.start));
                self.complain(line, format!("'{}': {}", dotted(path), why.message()));
                self.found.refused.push(path.to_vec());
            }
        }
    }

    /// Whether the last name of `path` may stand for `segment`; a complaint if not.
    fn name_is_sound(&mut self, path: &[String], segment: &str, line: usize) -> bool {
        let name = path.last().map_or("", String::as_str);
        let checked = keys::check_name(segment, name);
        if let Err(why) = &checked {
            self.complain(line, format!("'{}': '{name}' {why}", dotted(path)));
        }
        checked.is_ok()
    }

    fn unknown(&mut self, path: &[String], line: usize) {
        // beyond what is shown, nobody asks what was meant
        let nearest = if self.wrong.len() < MOST_SHOWN { keys::nearest(path, self.file.owner) } else { None };
        let meant = nearest.map_or_else(String::new, |key| format!(" (did you mean '{}'?)", dotted(&key)));
        self.complain(line, format!("unknown key '{}'{meant}", dotted(path)));
    }

    fn not_here(&mut self, path: &[String], line: usize) {
        let why = "belongs in the server's receiver.toml, not in the repository's";
        self.complain(line, format!("'{}' {why}", dotted(path)));
    }

    fn complain(&mut self, line: usize, text: String) {
        self.wrong.push((line, text));
    }

    fn finish(mut self) -> Fragment {
        // who wrote for a newer receiver need not hear which of its keys this one does not know
        let newer = |(_, text): &(usize, String)| text.starts_with(&format!("'format': {NEWER}"));
        if self.wrong.iter().any(newer) {
            self.wrong.retain(newer);
        }
        self.wrong.sort();
        let complain = |(line, text): &(usize, String)| Complaint::new(self.file.name, Some(*line), text);
        self.found.is_toml = true;
        self.found.complaints = self.wrong.iter().map(complain).collect();
        self.found
    }
}
