//! MariaDB and MySQL: a version's database is a database of the server, with two roles of its own, which only
//! connect on this machine: one of its name that may do everything in it, one that can only read.
//!
//! Spoken to over the server's unix socket alone, by one code for both: MariaDB from 10.5, MySQL from 8.0. What is said of
//! MariaDB was tried on 10.11, what is said of MySQL on 9.7, but where it says otherwise.
//!
//! - **Whose it is**: a file of passwords in [`Ground::secrets`](super::Ground) says so. It is written before anything is
//!   made, and goes when all else is gone.
//! - **A hold** is `LOCK TABLES … READ` in a session; [`copy`](self::copy) is made by the server itself while it lasts.
//! - **A fence** is the role, locked, and gates: triggers that refuse the writes of everybody else ([`fence`](self::fence)
//!   says what goes past them).
//! - **Capture and the way back** are in [`way`](self::way).
//! - Beside a database receiver has one of its own, `NAME_log`, which the app's roles cannot reach.
//!
//! No transaction spans tables that are not InnoDB's: under a hold they are copied exactly, a snapshot of them is not of
//! one moment, and [`findings`](super::Database::findings) names them.

mod canon;
mod copy;
mod database;
mod definition;
mod dump;
mod events;
mod fence;
mod findings;
mod hold;
mod lexer;
mod lookout;
mod objects;
mod place;
mod proof;
mod quote;
mod rights;
mod roles;
mod script;
mod server;
mod session;
mod tables;
mod way;

pub use database::Mysql;

#[cfg(test)]
mod tests;

/// What receiver's own account needs on MariaDB.
pub fn administrator_rights() -> Vec<&'static str> {
    findings::on_mariadb()
}
