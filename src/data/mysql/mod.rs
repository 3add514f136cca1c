//! MariaDB and MySQL: a version's database is a database of the server, with a role of its own.

mod database;
mod place;
mod quote;
mod rights;
mod roles;
mod server;
mod session;

pub use database::Mysql;

#[cfg(test)]
mod tests;
