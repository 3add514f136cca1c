//! What stages and processes find in their environment: this, and nothing else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{branches, databases};
use crate::app::guard::Guard;
use crate::app::journal::refuse_newer;
use crate::app::layout::FORMAT;
use crate::app::record::{self, Record};
use crate::app::server;
use crate::app::{App, ReleaseId, Revision};
use crate::data::{Access, Database};
use crate::support::{Context, Error, Result, files};

/// Where programs are looked for, unless `receiver env APP set PATH` says otherwise. The pusher's
/// PATH plays no part: a deploy must not depend on who pushed.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Values shorter than this are not masked in output: `1` or `true` would hide half of it.
const SHORTEST_SECRET: usize = 6;

/// The environment of a stage or process.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    pairs: BTreeMap<String, String>,
    secrets: Vec<(String, String)>,
}

/// The release that an environment is for.
#[derive(Debug)]
pub struct Subject<'a> {
    /// The release.
    pub id: &'a ReleaseId,
    /// Its revision.
    pub revision: &'a Revision,
    /// The branch that it came by.
    pub branch: &'a str,
    /// The release that was live before it.
    pub previous: Option<&'a ReleaseId>,
}

impl Environment {
    /// The environment of a release, with what `receiver env` holds.
    pub fn of(app: &App, subject: &Subject) -> Result<Environment> {
        let mut environment = Environment::default();
        environment.set("PATH", PATH);
        environment.set("HOME", home(app));
        environment.set("LANG", std::env::var("LANG").unwrap_or_else(|_| "C.UTF-8".to_owned()));
        let mut values = Kept::read(app)?.values;
        // What a preview is granted; never what its parent keeps for itself.
        if let Some(grant) = branches::grant(app, app.lineage()?.as_ref())? {
            for (name, value) in grant.env {
                values.entry(name).or_insert(value);
            }
        }
        for (name, value) in values {
            if !["PATH", "HOME", "LANG"].contains(&name.as_str()) {
                // Line by line, as output is looked at: a key may have many.
                let lines = value.lines().filter(|line| line.len() >= SHORTEST_SECRET);
                environment.secrets.extend(lines.map(|line| (line.to_owned(), name.clone())));
            }
            environment.set(&name, value);
        }
        // The longest first: a secret that is part of another must not spoil its mask.
        environment.secrets.sort_by_key(|(value, _)| std::cmp::Reverse(value.len()));
        let shown = |path: std::path::PathBuf| path.display().to_string();
        environment.set("RECEIVER_APP", app.name().as_str());
        environment.set("RECEIVER_VERSION", subject.id.version.to_string());
        environment.set("RECEIVER_RELEASE", subject.id.to_string());
        environment.set("RECEIVER_REVISION", subject.revision.as_str());
        environment.set("RECEIVER_BRANCH", subject.branch);
        environment.set("RECEIVER_RELEASE_DIR", shown(app.release(subject.id)));
        environment.set("RECEIVER_SHARED_DIR", shown(app.shared()));
        if let Some(previous) = subject.previous {
            environment.set("RECEIVER_PREVIOUS_DIR", shown(app.release(previous)));
        }
        Ok(environment)
    }

    /// The environment of a release that stands, with its own database.
    pub fn of_release(app: &App, record: &Record) -> Result<Environment> {
        let subject =
            Subject { id: &record.id, revision: &record.revision, branch: &record.branch, previous: None };
        let mut environment = Environment::of(app, &subject)?;
        if let Some(database) = databases::of_release(app, record)? {
            environment = environment.with_database(&*database, Access::Write)?;
        }
        Ok(environment)
    }

    /// The environment of a release that runs beside what is live: the database of a version that is not live is
    /// only read.
    pub fn beside(app: &App, record: &Record) -> Result<Environment> {
        let environment = Environment::of_release(app, record)?;
        let live = record::live(app)?.map(|live| Record::read(&app.record(&live))).transpose()?.flatten();
        match databases::of_release(app, record)? {
            Some(database) if live.is_none_or(|live| live.database != record.database) => {
                environment.with_database(&*database, Access::Read)
            }
            _ => Ok(environment),
        }
    }

    /// The same with a database to use.
    pub fn with_database(&self, database: &dyn Database, access: Access) -> Result<Environment> {
        let mut environment = self.with(database.variables(access)?);
        if let Some(password) = environment.pairs.get("RECEIVER_DATABASE_PASSWORD").cloned() {
            environment.hide(password, "RECEIVER_DATABASE_PASSWORD");
        }
        Ok(environment)
    }

    /// The same with the database of the version before, to read.
    pub fn with_previous(&self, previous: &dyn Database) -> Result<Environment> {
        let mut environment = self.with([("PREVIOUS_DATABASE_URL", previous.url(Access::Read)?)]);
        let variables = previous.variables(Access::Read)?;
        if let Some((name, password)) =
            variables.into_iter().find(|(name, _)| *name == "RECEIVER_DATABASE_PASSWORD")
        {
            environment.hide(password, name);
        }
        Ok(environment)
    }

    /// Masks a value in what is printed.
    fn hide(&mut self, value: String, name: &str) {
        if value.len() >= SHORTEST_SECRET {
            self.secrets.insert(0, (value, name.to_owned()));
        }
    }

    /// Sets a variable.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.pairs.insert(name.to_owned(), value.into());
    }

    /// The same with some more variables.
    #[must_use]
    pub fn with<'a>(&self, more: impl IntoIterator<Item = (&'a str, String)>) -> Environment {
        let mut environment = self.clone();
        for (name, value) in more {
            environment.set(name, value);
        }
        environment
    }

    /// All variables.
    pub fn pairs(&self) -> BTreeMap<String, String> {
        self.pairs.clone()
    }

    /// `line` with every known secret written as its name.
    pub fn mask(&self, line: &str) -> String {
        let mut masked = line.to_owned();
        for (value, name) in &self.secrets {
            if masked.contains(value.as_str()) {
                masked = masked.replace(value.as_str(), &format!("[{name}]"));
            }
        }
        masked
    }
}

fn home(app: &App) -> String {
    if app.user().is_some() {
        return server::home_of(app.name()).display().to_string();
    }
    std::env::var("HOME").ok().filter(|home| home.starts_with('/')).unwrap_or_else(|| "/".to_owned())
}

/// What `receiver env` keeps: settings and secrets of the processes, on the server only, 0600.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kept {
    format: u32,
    /// The variables by name.
    pub values: BTreeMap<String, String>,
}

impl Kept {
    /// Reads them.
    pub fn read(app: &App) -> Result<Kept> {
        let path = app.environment_file();
        let Some(text) = files::read_text(&path)? else {
            return Ok(Kept { format: FORMAT, values: BTreeMap::new() });
        };
        let kept: Kept = serde_json::from_str(&text)
            .map_err(|_| Error::new(format!("{} is damaged", path.display())))
            .map_err(|error| {
                error.hint(format!(
                    "move it away and set the variables again: `receiver env {} set …`",
                    app.name()
                ))
            })?;
        refuse_newer(kept.format, &path)?;
        Ok(kept)
    }

    /// Writes them down.
    pub fn write(&self, guard: &Guard) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).context(|| "cannot write down the environment")?;
        guard.write(&guard.app().environment_file(), &text, 0o600)
    }

    /// Refuses a name that no variable can have, or that is receiver's own.
    pub fn refuse_name(name: &str) -> Result<()> {
        let sound = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && !name.is_empty()
            && !name.as_bytes()[0].is_ascii_digit();
        let shown: String = name.escape_default().take(60).collect();
        if !sound {
            return Err(Error::usage(format!("'{shown}' cannot be a variable's name")));
        }
        let ours = ["DATABASE_URL", "PREVIOUS_DATABASE_URL"].contains(&name) || name.starts_with("RECEIVER_");
        if ours {
            return Err(Error::usage(format!("{shown} is set by receiver itself, for each version its own")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_the_longest_first() {
        let secrets = vec![("hunter22long".into(), "KEY".into()), ("hunter22".into(), "PASS".into())];
        let environment = Environment { secrets, ..Environment::default() };
        assert_eq!(environment.mask("a hunter22long b hunter22"), "a [KEY] b [PASS]");
    }

    #[test]
    fn names_that_receiver_sets_are_refused() {
        for bad in ["", "1A", "A B", "A=B", "RECEIVER_APP", "DATABASE_URL", "A\n"] {
            assert!(Kept::refuse_name(bad).is_err(), "{bad:?}");
        }
        assert!(Kept::refuse_name("SECRET_KEY").is_ok());
    }
}
