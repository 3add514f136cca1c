//! The app's triggers of a database that rows are carried into, put aside: they must not fire, and neither server
//! can switch a trigger off.
//!
//! They are written down in receiver's own database first, then dropped, and made again when the rows are there. A
//! death in between is mended by whatever looks at the triggers next ([`mend`]). Meanwhile nobody writes to that
//! database: it is retired. Who is at work has a lock of the server's that ends with its session, so that nobody
//! mends what is still under way.
//!
//! Receiver's own triggers stay. Its gates read a flag, which the carrying transaction takes down for itself and puts
//! up again before it commits: nobody else ever sees it down, and a death undoes it with all the rest.

use crate::data::Limit;
use crate::data::mysql::database::Mysql;
use crate::data::mysql::objects::{self, Made};
use crate::data::mysql::session::{Session, code, codes};
use crate::data::mysql::{fence, lookout, place, quote};
use crate::support::{Error, Result, text};

/// The table that they are written down in.
const ASIDE: &str = "aside";

/// The triggers of some tables, put aside as long as this lives and a little longer: until it is ended.
pub(in crate::data::mysql) struct Aside<'a> {
    database: &'a Mysql,
    session: Session,
}

impl<'a> Aside<'a> {
    /// Puts the app's triggers of these tables aside.
    pub(in crate::data::mysql) fn put(
        database: &'a Mysql,
        tables: &[&str],
        limit: &Limit<'_>,
    ) -> Result<Aside<'a>> {
        let name = database.name();
        let mut session = database.session()?;
        if !lock(&mut session, name)? {
            return Err(Error::new(format!("rows are carried into {name} by another process"))
                .hint("let it end, then try again"));
        }
        restore(&mut session, name)?;
        lookout::has_room(&mut session)?;
        let own = quote::name(&place::own(name)?);
        session.run(&format!("CREATE DATABASE IF NOT EXISTS {own} CHARACTER SET utf8mb4"))?;
        let mut triggers = objects::triggers_by_name(&mut session, name)?;
        triggers.retain(|(_, table, _)| tables.contains(&table.as_str()));
        let mut aside = Aside { database, session };
        if !triggers.is_empty() {
            let dropped = write_down(&mut aside.session, name, &triggers)
                .and_then(|()| drop_all(database, &mut aside.session, &triggers, limit));
            if let Err(why) = dropped {
                let _ = aside.end();
                return Err(why);
            }
        }
        Ok(aside)
    }

    /// Makes them again.
    pub(super) fn end(mut self) -> Result<()> {
        restore(&mut self.session, self.database.name())
    }

    /// A session that may change tables of the database meanwhile.
    pub(super) fn session(&mut self) -> &mut Session {
        &mut self.session
    }
}

/// Makes triggers again that one who died had put aside.
pub(in crate::data::mysql) fn mend(session: &mut Session, database: &str) -> Result<()> {
    if has(session, database)? && lock(session, database)? {
        restore(session, database)?;
        place::drop_own_if_empty(session, database)?;
        session.rows::<mysql::Row>("SELECT RELEASE_LOCK(?)", (name_of_lock(database),))?;
    }
    Ok(())
}

fn name_of_lock(database: &str) -> String {
    format!("receiver.{database}")
}

fn lock(session: &mut Session, database: &str) -> Result<bool> {
    let got: Option<u8> = session.value("SELECT GET_LOCK(?, 0)", (name_of_lock(database),))?;
    Ok(got == Some(1))
}

fn has(session: &mut Session, database: &str) -> Result<bool> {
    let query = "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?";
    Ok(session.value::<u64>(query, (place::own(database)?, ASIDE))? > 0)
}

fn table(database: &str) -> Result<String> {
    Ok(quote::table(&place::own(database)?, ASIDE))
}

/// All of them in one transaction, before any is dropped.
fn write_down(session: &mut Session, database: &str, triggers: &[(String, String, Made)]) -> Result<()> {
    let table = table(database)?;
    session.run(&format!(
        "CREATE TABLE {table} (n int NOT NULL PRIMARY KEY, name varchar(64) NOT NULL, statement longtext NOT NULL, \
         sql_mode text, client text NOT NULL, collation text NOT NULL) ENGINE=InnoDB"
    ))?;
    session.run("START TRANSACTION")?;
    for (number, (name, _, made)) in triggers.iter().enumerate() {
        session.rows::<mysql::Row>(
            &format!("INSERT INTO {table} VALUES (?, ?, ?, ?, ?, ?)"),
            (number, name, &made.statement, &made.sql_mode, &made.client, &made.collation),
        )?;
    }
    session.run("COMMIT")
}

fn drop_all(
    database: &Mysql,
    session: &mut Session,
    triggers: &[(String, String, Made)],
    limit: &Limit<'_>,
) -> Result<()> {
    for (name, ..) in triggers {
        let drop_it = format!("DROP TRIGGER IF EXISTS {}", quote::table(database.name(), name));
        fence::patiently(database, session, &drop_it, limit)
            .map_err(|why| why.unwrap_or_else(|| Error::new("the server lets nobody drop a trigger")))?;
    }
    Ok(())
}

/// What is written down of a trigger: name, statement, mode, character set, collation.
type Written = (String, String, Option<String>, String, String);

/// Makes again what is written down and not there, in its order; then nothing is written down any more.
fn restore(session: &mut Session, database: &str) -> Result<()> {
    if !has(session, database)? {
        return Ok(());
    }
    let table = table(database)?;
    let written: Vec<Written> = session
        .rows(&format!("SELECT name, statement, sql_mode, client, collation FROM {table} ORDER BY n"), ())?;
    let there: Vec<String> = session
        .rows("SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = ?", (database,))?;
    // A session that ended a moment ago may still have the table.
    session.run("SET SESSION lock_wait_timeout = 30")?;
    for (name, statement, sql_mode, client, collation) in written {
        if there.contains(&name) {
            continue;
        }
        let made = Made::trigger(&name, statement, sql_mode, client, collation);
        match objects::make(session, &made, database, database) {
            Ok(()) => {}
            // Its table was dropped since.
            Err(error) if code(&error) == Some(codes::NO_TABLE) => {}
            Err(error) => {
                let what = format!("cannot make the trigger {} of {database} again", text::printable(&name));
                return Err(Error::new(what)
                    .caused_by(session.told(&error))
                    .hint(format!("its statement is in {table}; it is tried again by the next command")));
            }
        }
    }
    session.run(super::super::session::COMMON)?;
    session.run(&format!("DROP TABLE {table}"))
}
