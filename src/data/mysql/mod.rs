//! MariaDB and MySQL: a version's database is a database of the server, with a role of its own.

mod canon;
mod copy;
mod database;
mod fence;
mod findings;
mod hold;
mod lexer;
mod objects;
mod place;
mod proof;
mod quote;
mod rights;
mod roles;
mod server;
mod session;
mod tables;

pub use database::Mysql;

#[cfg(test)]
mod tests;
