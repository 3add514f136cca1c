//! What notes the changes of one table: a log of keys in receiver's own database, and the triggers that fill it.
//!
//! The log has the key's columns, with their types and collations, as its own primary key: however often a row
//! changes, it is in it once. `REPLACE` and `INSERT … ON DUPLICATE KEY UPDATE` fire the triggers of what they do.
//! The triggers run with the rights of receiver's administrator, so that the app's role can neither read nor
//! change what was noted.
//!
//! In another database they do nothing: who loads an administrator's own dump under another name has these triggers
//! there, too, and their logs are the original's. Inside a trigger `DATABASE()` is the one that the trigger is in.

use super::cascade::{self, Event};
use super::tables::{Key, Tables};
use crate::data::digest;
use crate::data::mysql::{place, quote};
use crate::data::way::{For, Table};
use crate::support::Result;

/// How the names of these triggers end.
const ENDS: [&str; 5] = ["_ai", "_au", "_ad", "_bu", "_bd"];

/// What the names of the triggers begin with.
fn ours(what: For) -> String {
    format!("receiver_{}note_", what.prefix())
}

/// Whether a trigger notes for this, by the form of its name.
pub(super) fn is_for(what: For, trigger: &str) -> bool {
    let middle = trigger.strip_prefix(&ours(what));
    let middle = middle.and_then(|rest| ENDS.iter().find_map(|end| rest.strip_suffix(end)));
    middle.is_some_and(|hash| hash.len() == 16 && hash.chars().all(|c| c.is_ascii_hexdigit()))
}

/// Whether a trigger is receiver's own, and notes.
pub(in crate::data::mysql) fn is_ours(name: &str) -> bool {
    is_for(For::Rollback, name) || is_for(For::Copy, name)
}

/// What the names of the logs begin with.
pub(super) fn logs(what: For) -> String {
    format!("{}log_", what.prefix())
}

/// The log of a table's keys.
fn log(what: For, table: &str) -> Result<String> {
    Ok(format!("{}{}", logs(what), &digest(table.as_bytes())?[..16]))
}

/// A table whose changes are noted.
pub(super) struct Watched {
    pub(super) table: String,
    pub(super) key: Vec<Key>,
    /// The log, without its database.
    pub(super) log: String,
    pub(super) triggers: Vec<Trigger>,
    /// Why not every change can be noted.
    pub(super) fault: Option<String>,
}

/// One trigger.
pub(super) struct Trigger {
    pub(super) name: String,
    /// `AFTER INSERT`.
    pub(super) when: String,
    /// What it does, exactly as the server keeps it.
    pub(super) body: String,
}

impl Watched {
    /// What notes a table that has a primary key.
    pub(super) fn of(tables: &Tables, database: &str, table: &Table, what: For) -> Result<Watched> {
        let key = tables.key(&table.name).to_vec();
        let hash = digest(table.name.as_bytes())?[..16].to_owned();
        let name = log(what, &table.name)?;
        let own = place::own(database)?;
        let mut watched =
            Watched { table: table.name.clone(), key, log: name.clone(), triggers: Vec::new(), fault: None };
        let (log, here) = (quote::table(&own, &name), quote::text(database));
        let (new, old) = (watched.note(&log, "NEW"), watched.note(&log, "OLD"));
        let mut triggers = vec![
            ("AFTER INSERT", "_ai", new.clone()),
            ("AFTER UPDATE", "_au", format!("{old} {new}")),
            ("AFTER DELETE", "_ad", old),
        ];
        for (event, when, end) in
            [(Event::Update, "BEFORE UPDATE", "_bu"), (Event::Delete, "BEFORE DELETE", "_bd")]
        {
            let follows = match cascade::follows(tables, database, table, event) {
                Ok(follows) => follows,
                Err(why) => {
                    watched.fault = Some(why);
                    continue;
                }
            };
            let mut body = String::new();
            for follow in follows {
                let names: Vec<_> = tables.key(&follow.table).iter().map(|key| &key.name).collect();
                let log = quote::table(&own, &self::log(what, &follow.table)?);
                body =
                    format!("{body}INSERT IGNORE INTO {log} ({}) {}; ", quote::names(&names), follow.query);
            }
            if body.is_empty() {
                continue;
            }
            if event == Event::Update {
                body = format!("IF NOT ({}) THEN {body}END IF; ", unmoved(tables, table));
            }
            triggers.push((when, end, body.trim_end().to_owned()));
        }
        watched.triggers = triggers
            .into_iter()
            .map(|(when, end, body)| Trigger {
                name: format!("{}{hash}{end}", ours(what)),
                when: when.to_owned(),
                body: format!("BEGIN IF DATABASE() <=> {here} THEN {body} END IF; END"),
            })
            .collect();
        Ok(watched)
    }

    /// Its key, as `NEW.a, NEW.b`.
    pub(super) fn of_key(&self, prefix: &str) -> String {
        let names = self.key.iter().map(|key| format!("{prefix}{}", quote::name(&key.name)));
        names.collect::<Vec<_>>().join(", ")
    }

    fn note(&self, log: &str, row: &str) -> String {
        format!(
            "INSERT IGNORE INTO {log} ({}) VALUES ({});",
            self.of_key(""),
            self.of_key(&format!("{row}."))
        )
    }

    /// The statement that makes the log.
    pub(super) fn create(&self, database: &str) -> Result<String> {
        let columns: Vec<_> =
            self.key.iter().map(|key| format!("{} {} NOT NULL", quote::name(&key.name), key.kind)).collect();
        Ok(format!(
            "CREATE TABLE {} ({}, PRIMARY KEY ({})) ENGINE=InnoDB",
            quote::table(&place::own(database)?, &self.log),
            columns.join(", "),
            self.of_key("")
        ))
    }
}

/// That an update leaves all as it is that anybody may refer to.
fn unmoved(tables: &Tables, table: &Table) -> String {
    // Byte by byte: a cascade also follows where only the case of a letter changes.
    let same = cascade::referred_to(tables, table).into_iter().map(|name| {
        let name = quote::name(name);
        format!("BINARY NEW.{name} <=> BINARY OLD.{name}")
    });
    same.collect::<Vec<_>>().join(" AND ")
}
