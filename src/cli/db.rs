//! `receiver db`: databases, the live one's where no version is named.

use clap::Args;
use serde_json::json;

use super::request::{self, DryRun};
use super::{Global, app, talk};
use crate::app::Version;
use crate::deploy::db::{self, Listed};
use crate::deploy::request::Request;
use crate::support::{Error, Result};

/// Arguments of `db`.
#[derive(Args)]
#[command(
    override_usage = "receiver db [APP] list|dump|load|shell|url [--version N]",
    after_help = "\
list   all databases: version, name, size, state
dump   to stdout: a SQLite database, SQL of mysqldump, or what pg_dump -Fc writes
load   a dump, or SQL, from stdin; what was there before is kept as a dump
shell  statements from stdin, each ended by ;
url    the address, as stages find it in DATABASE_URL"
)]
pub struct Db {
    /// The app, and what to do
    #[arg(value_name = "APP] ACTION", num_args = 1..=2, required = true)]
    words: Vec<String>,
    /// The version; the live one where none is named
    #[arg(long, value_name = "N")]
    version: Option<Version>,
    /// In the shell: only look
    #[arg(long)]
    read_only: bool,
    #[command(flatten)]
    dry: DryRun,
}

impl Db {
    /// Does it.
    pub fn run(self, global: &Global) -> Result<u8> {
        let (app, rest) = app::split(global, &self.words)?;
        let version = self.version;
        let request = match rest.first().map(String::as_str) {
            Some("list") => {
                let listed = db::list(&app)?;
                let words: Vec<String> = listed.iter().map(Listed::words).collect();
                talk::data(global, &json!({ "app": app.name(), "databases": listed }), &words)?;
                return Ok(0);
            }
            Some("dump") => Request::DbDump { version },
            Some("load") => Request::DbLoad { version },
            Some("shell") => Request::DbShell { version, read_only: self.read_only },
            Some("url") => Request::DbUrl { version },
            _ => return Err(Error::usage("db does one of: list, dump, load, shell, url")),
        };
        if let Request::DbLoad { .. } = request {
            return self.dry.send(global, &app, &request);
        }
        request::send(global, &app, &request)
    }
}
