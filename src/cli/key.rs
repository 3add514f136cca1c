//! `receiver key`: who may come over ssh, to which apps, as what.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use serde_json::json;

use super::request::DryRun;
use super::{Global, identity, talk};
use crate::app::Sight;
use crate::server::grant;
use crate::server::keys::{self, Key as Granted, KeyName, Keys, Role};
use crate::server::place::Place;
use crate::server::pubkey::{MOST_BYTES, PublicKey};
use crate::support::{Context, Error, Result, clock};

/// Arguments of `key`.
#[derive(Args)]
pub struct Key {
    #[command(subcommand)]
    act: Act,
}

#[derive(Subcommand)]
enum Act {
    /// Let somebody in, by a public key from stdin or a file
    Add(Add),
    /// Who may do what, and when they last did
    List,
    /// Let somebody in no longer
    Remove(Remove),
}

/// Arguments of `key add`.
#[derive(Args)]
#[command(after_help = "\
read    looks: list, status, show, history, logs, plan, verify, doctor; git fetch and clone
deploy  also pushes, deploys, goes back, runs commands in a release
admin   also has data, secrets, settings and keys

Example: receiver key add alice --app agroguia --role deploy < alice.pub")]
struct Add {
    /// Whose it is: a-z, 0-9, '.', '_' and '-', at most 32 of them
    name: String,
    /// The file with the public key; stdin where none is named
    file: Option<PathBuf>,
    /// An app that it opens, or * for all; can be said several times
    #[arg(long = "app", value_name = "APP", required = true)]
    apps: Vec<String>,
    /// What it may do there
    #[arg(long, value_name = "ROLE")]
    role: WantedRole,
    #[command(flatten)]
    dry: DryRun,
}

/// Arguments of `key remove`.
#[derive(Args)]
struct Remove {
    /// Whose it is
    name: String,
    #[command(flatten)]
    dry: DryRun,
}

#[derive(Clone, Copy, ValueEnum)]
enum WantedRole {
    Read,
    Deploy,
    Admin,
}

/// What `--json` prints of a key.
#[derive(Serialize)]
struct Listed {
    name: KeyName,
    apps: Sight,
    role: Role,
    #[serde(rename = "type")]
    kind: &'static str,
    fingerprint: String,
    added: jiff::Timestamp,
    by: String,
    last_use: Option<jiff::Timestamp>,
}

impl Key {
    /// Does it.
    pub fn run(self, global: &Global) -> Result<u8> {
        let place = Place::of(&global.root()?)?;
        if place.is_set_up() {
            identity::settle_at_server()?;
        }
        match self.act {
            Act::Add(add) => add.run(global, &place),
            Act::List => list(global, &place),
            Act::Remove(remove) => remove.run(global, &place),
        }
    }
}

impl Add {
    fn run(self, global: &Global, place: &Place) -> Result<u8> {
        let key = Granted {
            name: self.name.parse()?,
            role: match self.role {
                WantedRole::Read => Role::Read,
                WantedRole::Deploy => Role::Deploy,
                WantedRole::Admin => Role::Admin,
            },
            apps: self.apps(global)?,
            added: clock::now(),
            by: global.by(),
            public: PublicKey::parse(&self.text(global)?)?,
        };
        let (name, apps, role) = (key.name.clone(), key.apps.words().join(", "), key.role.as_str());
        let fingerprint = key.public.fingerprint();
        let about = format!("the key {name}, {fingerprint}, as {role} for {apps}");
        if self.dry.dry_run {
            grant::refuse_wider(&global.sight(), &key)?;
            let would = if Keys::read(place)?.add(key)? { "would be added" } else { "is there already" };
            let words = format!("{about}, {would}");
            talk::data(global, &json!({ "dry_run": words }), std::slice::from_ref(&words))?;
            return Ok(0);
        }
        let added = grant::add(place, key, &global.sight())?;
        talk::say(global, &format!("{about}, is {}", if added { "added" } else { "there already" }));
        if global.json {
            talk::data(global, &json!({ "key": name, "fingerprint": fingerprint, "added": added }), &[])?;
        }
        Ok(0)
    }

    fn apps(&self, global: &Global) -> Result<Sight> {
        let apps: Sight = self.apps.clone().try_into()?;
        if let Sight::Only(names) = &apps {
            let root = global.root()?;
            names.iter().try_for_each(|name| root.open(name).map(drop))?;
        }
        Ok(apps)
    }

    fn text(&self, global: &Global) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        let most = MOST_BYTES as u64 + 1;
        match &self.file {
            // It would be read as whoever receiver is.
            Some(_) if global.visitor.is_some() => {
                return Err(Error::usage(
                    "over ssh the key comes by stdin: `… key add NAME --app APP --role ROLE < FILE`",
                ));
            }
            Some(file) => {
                let cannot = || format!("cannot read {}", file.display());
                File::open(file).context(cannot)?.take(most).read_to_end(&mut text).context(cannot)?;
            }
            None => {
                if std::io::stdin().is_terminal() {
                    talk::say(global, "paste the public key, then Ctrl-D on a line of its own");
                }
                std::io::stdin().take(most).read_to_end(&mut text).context(|| "cannot read the key")?;
            }
        }
        Ok(text)
    }
}

impl Remove {
    fn run(self, global: &Global, place: &Place) -> Result<u8> {
        let name: KeyName = self.name.parse()?;
        if self.dry.dry_run {
            grant::refuse_removal(&Keys::read(place)?, &name, &global.sight())?;
            let words = format!("the key {name} would be removed");
            talk::data(global, &json!({ "dry_run": words }), std::slice::from_ref(&words))?;
            return Ok(0);
        }
        grant::remove(place, &name, &global.sight())?;
        talk::say(global, &format!("the key {name} opens nothing any more"));
        if global.json {
            talk::data(global, &json!({ "key": name, "removed": true }), &[])?;
        }
        Ok(0)
    }
}

fn list(global: &Global, place: &Place) -> Result<u8> {
    let sight = global.sight();
    let seen = |key: &Granted| {
        Some(Listed {
            name: key.name.clone(),
            apps: sight.of(&key.apps)?,
            role: key.role,
            kind: key.public.kind(),
            fingerprint: key.public.fingerprint(),
            added: key.added,
            by: key.by.clone(),
            last_use: keys::last_use(place, key),
        })
    };
    let listed: Vec<Listed> = Keys::read(place)?.all().iter().filter_map(seen).collect();
    if listed.is_empty() {
        talk::say(global, "there is no key yet: `receiver key add NAME --app APP --role ROLE < NAME.pub`");
    }
    let words: Vec<String> = listed.iter().map(words).collect();
    talk::data(global, &json!({ "keys": listed }), &words)?;
    Ok(0)
}

fn words(key: &Listed) -> String {
    let used = key.last_use.map_or_else(|| "never used".to_owned(), |then| format!("used {then}"));
    let apps = key.apps.words().join(", ");
    format!(
        "{:<12} {:<7} {apps:<24} {} {}  {used}",
        key.name.as_str(),
        key.role.as_str(),
        key.kind,
        key.fingerprint
    )
}
