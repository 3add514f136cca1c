//! Where rows go to: one transaction, in which the app's triggers and the fence are off, and references are looked
//! at by its end. Before it is committed all of it is as it was; who reads meanwhile sees nothing of it.

use std::collections::{BTreeMap, BTreeSet};

use super::super::catalog::{self, Sequence};
use super::super::names::{ident, literal};
use super::super::server::Server;
use super::super::session::{Session, text};
use super::carrier::Carrier;
use super::tables::{self, Known};
use crate::data::way::Way;
use crate::support::{Context, Error, Result};

/// Triggers that are on, those of partitions included, but not what enforces references.
const TRIGGERS: &str = "SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname), quote_ident(t.tgname), t.tgenabled::text
    FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE t.tgenabled <> 'D' AND (NOT t.tgisinternal OR (t.tgparentid <> 0 AND t.tgconstraint = 0))
      AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'receiver') AND c.relkind IN ('r', 'p')
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
    ORDER BY t.oid";

/// References: table, name, whether it can wait, what it says, and what it does to a deleted row's children.
const REFERENCES: &str = "SELECT x.conrelid::regclass::text, quote_ident(x.conname), x.condeferrable, pg_get_constraintdef(x.oid),
        x.confrelid, x.confdeltype <> 'a', quote_ident(n.nspname) || '.' || quote_ident(x.conname),
        obj_description(x.oid, 'pg_constraint')
    FROM pg_constraint x JOIN pg_namespace n ON n.oid = x.connamespace
    WHERE x.contype = 'f' AND x.conparentid = 0 AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'receiver')
    ORDER BY x.oid";

pub(super) struct Target {
    carrier: Carrier,
    /// What makes everything as it was.
    restore: Vec<String>,
    /// The references to each table that act on their own, by its number: what drops them.
    acting: BTreeMap<u32, Vec<(String, Vec<String>)>>,
    loosened: BTreeSet<u32>,
}

impl Target {
    /// Begins to write. Answers the tables, too.
    pub(super) fn open(server: &Server, name: &str, way: &Way) -> Result<(Target, Vec<Known>)> {
        let carrier = Carrier::new(server, name)?;
        let mut target =
            Target { carrier, restore: Vec::new(), acting: BTreeMap::new(), loosened: BTreeSet::new() };
        target.session().run("BEGIN ISOLATION LEVEL READ COMMITTED")?;
        let known = tables::tables(target.session())?;
        target.lower(&known, way).context(|| "cannot switch off its triggers")?;
        Ok((target, known))
    }

    pub(super) fn session(&mut self) -> &mut Session {
        &mut self.carrier.session
    }

    fn lower(&mut self, known: &[Known], way: &Way) -> Result<()> {
        let mut lower = Vec::new();
        for row in self.session().query(TRIGGERS, &[])? {
            let (table, name) = (text(&row, 0)?, text(&row, 1)?);
            let how = match text(&row, 2)?.as_str() {
                "A" => "ENABLE ALWAYS",
                "R" => "ENABLE REPLICA",
                _ => "ENABLE",
            };
            lower.push(format!("ALTER TABLE ONLY {table} DISABLE TRIGGER {name}"));
            self.restore.push(format!("ALTER TABLE ONLY {table} {how} TRIGGER {name}"));
        }
        let mut wait = Vec::new();
        for row in self.session().query(REFERENCES, &[])? {
            let (table, name, says) = (text(&row, 0)?, text(&row, 1)?, text(&row, 3)?);
            if !row.get::<_, bool>(2) {
                lower.push(format!("ALTER TABLE {table} ALTER CONSTRAINT {name} DEFERRABLE"));
                self.restore.push(format!("ALTER TABLE {table} ALTER CONSTRAINT {name} NOT DEFERRABLE"));
            }
            if row.get(5) {
                let mut again = vec![format!("ALTER TABLE {table} ADD CONSTRAINT {name} {says}")];
                if let Some(comment) = row.get::<_, Option<String>>(7) {
                    again.push(format!("COMMENT ON CONSTRAINT {name} ON {table} IS {}", literal(&comment)));
                }
                let drop = format!("ALTER TABLE {table} DROP CONSTRAINT {name}");
                self.acting.entry(row.get(4)).or_default().push((drop, again));
            }
            wait.push(text(&row, 6)?);
        }
        for passage in &way.passages {
            let Some(known) = known.iter().find(|known| known.table.name == passage.table) else { continue };
            let fixed = passage
                .columns
                .iter()
                .filter(|(name, _)| known.of(name).always && !passage.key.contains(name));
            for (name, _) in fixed {
                let alter = format!("ALTER TABLE {} ALTER COLUMN {} SET GENERATED", known.sql, ident(name));
                lower.push(format!("{alter} BY DEFAULT"));
                self.restore.push(format!("{alter} ALWAYS"));
            }
        }
        run_all(self.session(), &lower)?;
        for some in wait.chunks(200) {
            self.session().run(&format!("SET CONSTRAINTS {} DEFERRED", some.join(", ")))?;
        }
        Ok(())
    }

    /// Takes the references off that would act when rows of a table are replaced, until the end: then they are
    /// made again, and proved by the server. Whether there was any left to take off.
    pub(super) fn loosen(&mut self, table: &Known) -> Result<bool> {
        if !self.loosened.insert(table.oid) {
            return Ok(false);
        }
        let acting = self.acting.remove(&table.oid).unwrap_or_default();
        let any = !acting.is_empty();
        for (drop, again) in acting {
            self.session().run(&drop)?;
            // What it was made to be for the while is gone with it.
            let prefix = drop.replace(" DROP CONSTRAINT ", " ALTER CONSTRAINT ");
            let gone = format!("{prefix} NOT DEFERRABLE");
            self.restore.retain(|statement| *statement != gone);
            self.restore.extend(again);
        }
        Ok(any)
    }

    /// Whether references would act when rows of this table are replaced.
    pub(super) fn acts(&self, table: &Known) -> bool {
        self.acting.contains_key(&table.oid)
    }

    /// Proves that references are whole, and puts everything back as it was.
    pub(super) fn settle(&mut self) -> Result<()> {
        let restore = std::mem::take(&mut self.restore);
        let session = self.session();
        session.run("SET CONSTRAINTS ALL IMMEDIATE").context(|| "a reference leads nowhere")?;
        run_all(session, &restore)
    }

    /// Moves sequences on that the source's are ahead of. That is not undone by a rollback, so it comes last.
    pub(super) fn count_on(&mut self, source: &mut Session) -> Result<()> {
        let theirs: BTreeMap<String, Sequence> = positions(source)?;
        let mut set = Vec::new();
        let steps = steps(self.session())?;
        for (place, own) in positions(self.session())? {
            let Some(other) = theirs.get(&place) else { continue };
            let Some((step, least, most)) = steps.get(&own.sql).copied() else { continue };
            let ahead = if step > 0 { other.last > own.last } else { other.last < own.last };
            if ahead || (other.last == own.last && other.called && !own.called) {
                let last = other.last.clamp(least, most);
                set.push(format!("setval({}::regclass, {last}, {})", literal(&own.sql), other.called));
            }
        }
        for some in set.chunks(200) {
            self.session().run(&format!("SELECT {}", some.join(", ")))?;
        }
        Ok(())
    }

    pub(super) fn commit(mut self) -> Result<()> {
        self.session().run("COMMIT").context(|| "cannot commit what was carried")
    }
}

fn run_all(session: &mut Session, statements: &[String]) -> Result<()> {
    for some in statements.chunks(200) {
        session.run(&some.join(";\n"))?;
    }
    Ok(())
}

/// Every sequence, by the column that it is for, or its own name.
fn positions(session: &mut Session) -> Result<BTreeMap<String, Sequence>> {
    let owners = session.query(
        "SELECT sn.nspname::text, s.relname::text,
                quote_ident(n.nspname) || '.' || quote_ident(c.relname) || '.' || quote_ident(a.attname)
         FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S' JOIN pg_namespace sn ON sn.oid = s.relnamespace
         JOIN pg_class c ON c.oid = d.refobjid JOIN pg_namespace n ON n.oid = c.relnamespace
         JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid
         WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')",
        &[],
    )?;
    let mut columns = BTreeMap::new();
    for row in &owners {
        let sql = format!("{}.{}", ident(&text(row, 0)?), ident(&text(row, 1)?));
        columns.insert(sql, format!("of {}", text(row, 2)?));
    }
    let found = catalog::sequences(session)?.into_iter().map(|one| {
        let place = columns.get(&one.sql).unwrap_or(&one.name).clone();
        (place, one)
    });
    Ok(found.collect())
}

/// How each sequence counts: by what, from where, to where.
fn steps(session: &mut Session) -> Result<BTreeMap<String, (i64, i64, i64)>> {
    let rows = session.query(
        "SELECT n.nspname::text, c.relname::text, s.seqincrement, s.seqmin, s.seqmax
         FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace",
        &[],
    )?;
    let step = |row: &postgres::Row| -> Result<_> {
        let sql = format!("{}.{}", ident(&text(row, 0)?), ident(&text(row, 1)?));
        Ok((sql, (row.get(2), row.get(3), row.get(4))))
    };
    rows.iter().map(step).collect::<Result<_, Error>>()
}
