//! PostgreSQL (13 and later): a version's database is one of the server's, with an owner of its name, and a
//! role that can only read, `NAME_ro`.
//!
//! **Who does what.** The administrator of [`Ground`](super::Ground) (`CREATEDB CREATEROLE`, no superuser) makes
//! and removes databases and roles, reads catalogs and tables, holds and fences. Whatever may call a function
//! of the app (its SQL, defaults, checks, indexes, views) runs as the version's own role, by its password:
//! `SET ROLE` could be taken back by such a function. So no statement of ours that runs as the administrator
//! names an object of the app without its schema, and row security is off there. Rows on their way between two
//! versions go through a role made for it, `NAME_way`, as the role of a retired one cannot log in.
//!
//! **The hold** is one transaction with `LOCK TABLE … IN EXCLUSIVE MODE` on every table: readers go on, writers
//! wait, and a death ends it. **The fence** is a statement trigger on every table, made in that same
//! transaction, so that who waited for the lock meets it; then the owner cannot log in any more, and its
//! connections are ended.
//!
//! **Not held, and not fenced**: `nextval` and `setval` (a copy reads sequences after the lock, so that
//! they are never behind its rows), large objects (refused by name), foreign tables (their rows are elsewhere), and
//! who may `ALTER` a table. A table that is made during the hold is found out by the fence, which then fails.

mod canon;
mod catalog;
mod closed;
mod copy;
mod database;
mod dump;
mod fence;
mod findings;
mod grants;
mod hold;
mod lexer;
mod load;
mod names;
mod parallel;
mod place;
mod program;
mod proof;
mod script;
mod server;
mod session;
mod shell;
mod way;

pub use database::Postgres;

#[cfg(test)]
mod tests;
