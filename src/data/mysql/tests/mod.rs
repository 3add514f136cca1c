//! Against a real MariaDB, one for the whole test process, started in a directory of its own; or against MySQL, where
//! `RECEIVER_TEST_MYSQL` names the directory of its programs ([`is_mysql`]).

mod behind;
mod copy;
mod dump;
mod fence;
mod hold;
mod lookout;
mod place;
mod proof;
mod script;
mod server;
mod two;
mod way;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};

use self::server::TestServer;
use super::Mysql;
use crate::data::{Access, Database, Ground, Limit, Spot};

/// A server and a place for passwords.
struct World {
    server: &'static TestServer,
    place: tempfile::TempDir,
}

impl World {
    fn new() -> World {
        World { server: TestServer::shared(), place: tempfile::tempdir().unwrap() }
    }

    fn ground(&self) -> Ground {
        Ground {
            agent: None,
            lender: None,
            secrets: self.place.path().join("secrets"),
            server: Some(self.server.socket.clone()),
            admin: Some("root".into()),
            password_file: None,
        }
    }

    fn at(&self, name: &str) -> Mysql {
        let spot = Spot { directory: self.place.path().join(name), name: name.into() };
        Mysql::at(&self.ground(), spot)
    }

    /// A database of its own, empty, whose tests' names never meet.
    fn fresh(&self) -> Mysql {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let database = self.at(&format!("shop{}_v1", NEXT.fetch_add(1, Ordering::Relaxed)));
        database.create().unwrap();
        database
    }

    /// One in which this SQL was run, as its own role.
    fn filled(&self, sql: &str) -> Mysql {
        let database = self.fresh();
        let mut app = self.role(&database, Access::Write);
        for statement in said(sql).split(";;") {
            if !statement.trim().is_empty() {
                app.query_drop(statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
            }
        }
        database
    }

    fn root(&self) -> Conn {
        self.server.root()
    }

    /// A connection as the app has one.
    fn role(&self, database: &Mysql, access: Access) -> Conn {
        self.try_role(database, access).unwrap()
    }

    fn try_role(&self, database: &Mysql, access: Access) -> mysql::Result<Conn> {
        let (role, password) = database.role(access).unwrap();
        let options = OptsBuilder::new()
            .socket(self.server.socket.to_str())
            .user(Some(role))
            .pass(Some(password))
            .prefer_socket(false)
            .db_name(Some(database.name()));
        Conn::new(options)
    }
}

/// Whether the tests run on MySQL.
fn is_mysql() -> bool {
    std::env::var_os("RECEIVER_TEST_MYSQL").is_some_and(|place| !place.is_empty())
}

/// SQL as the server of the tests has it: MySQL knows neither MariaDB's sequences, nor its tables of numbers, nor its
/// type for UUIDs.
fn said(sql: &str) -> String {
    if !is_mysql() {
        return sql.to_owned();
    }
    let known = |statement: &&str| !statement.trim_start().starts_with("CREATE SEQUENCE");
    let known = sql.split(";;").filter(known).collect::<Vec<_>>().join(";;");
    let mut said =
        known.replace("DEFAULT NEXTVAL(numbers)", "AUTO_INCREMENT").replace("k uuid", "k char(36)");
    // There a check is its table's, also where it was written beside a column.
    said = said.replace("MODIFY age int", "DROP CHECK u_chk_1, MODIFY age int");
    while let Some((before, rest)) = said.split_once("FROM seq_1_to_") {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (last, after) = rest.split_at(digits);
        let digit = "(SELECT 0 d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 \
                     UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9)";
        said = format!(
            "{before}FROM (SELECT 1 + a.d + 10 * b.d + 100 * c.d + 1000 * d.d + 10000 * e.d + 100000 * f.d AS seq \
             FROM {digit} a, {digit} b, {digit} c, {digit} d, {digit} e, {digit} f) n WHERE seq <= {last}{after}"
        );
    }
    said
}

/// More than any test needs.
fn soon() -> Limit<'static> {
    Limit::within(Duration::from_secs(120))
}

fn one<T: mysql::prelude::FromValue>(connection: &mut Conn, sql: &str) -> T {
    connection.query_first(sql).unwrap().unwrap()
}
