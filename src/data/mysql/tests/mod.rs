//! Against a real MariaDB, one for the whole test process, started in a directory of its own.

mod copy;
mod dump;
mod fence;
mod hold;
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
        for statement in sql.split(";;") {
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

/// More than any test needs.
fn soon() -> Limit<'static> {
    Limit::within(Duration::from_secs(120))
}

fn one<T: mysql::prelude::FromValue>(connection: &mut Conn, sql: &str) -> T {
    connection.query_first(sql).unwrap().unwrap()
}
