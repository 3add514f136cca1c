//! What a deploy will do, decided before anything is done. Pure: values in, a value out; a dry run
//! prints it and stops.

use serde::Serialize;

use super::queue::{Options, SchemaSaid};
use crate::app::record::{DatabaseRecord, Record};
use crate::app::settings::{Carry, Engine, Settings};
use crate::app::{AppName, Revision, Version};
use crate::schema::{Changed, Difference};
use crate::support::text::{self, plural};
use crate::support::{Error, Result};
use crate::vcs::export::Size;

/// All that the decision depends on.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The app.
    pub app: &'a AppName,
    /// What is to be deployed.
    pub revision: &'a Revision,
    /// What holds.
    pub settings: &'a Settings,
    /// What the push asked for.
    pub options: &'a Options,
    /// The record of what is live.
    pub live: Option<&'a Record>,
    /// The database of another app that a first release begins with.
    pub seed: Option<DatabaseRecord>,
    /// The data that a first release begins with, where some was brought along.
    pub brought: Option<Brought>,
    /// The number that a version gets which opens now.
    pub next_version: Version,
    /// The version that a rollback left, while what it went back to is live.
    pub left: Option<LeftVersion>,
    /// What keeps the schema in the revision; `none` where nothing does.
    pub detector: String,
    /// How its schema differs from the live release's; absent where nothing is live.
    pub difference: Option<Difference>,
    /// How large the revision is.
    pub size: Size,
    /// How many of its files differ from the live release's.
    pub changed_files: usize,
    /// Whether the revision is deployed also where it is live already.
    pub again: bool,
}

/// A version that a rollback left.
#[derive(Clone, Debug)]
pub struct LeftVersion {
    /// The version.
    pub version: Version,
    /// Its database.
    pub database: DatabaseRecord,
    /// Whether the schema of the revision is its own, and has room for what was written since.
    pub returns: bool,
    /// Why nothing can be carried between it and the live one; `None` where it can.
    pub hindrance: Option<String>,
}

/// Data that was brought along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brought {
    /// The database that it is loaded into.
    pub database: DatabaseRecord,
    /// Whether it has the schema of this very revision: syncdb has nothing to do then.
    pub fits: bool,
}

/// Whether a schema changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SchemaChanged {
    /// It did: a version opens.
    Yes,
    /// It did not.
    No,
    /// The framework is asked, in the built release.
    Ask,
}

/// What becomes of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// There is none that receiver keeps.
    None,
    /// That of the version which the release joins.
    Join(DatabaseRecord),
    /// A new and empty one: there is none to carry from.
    Fresh,
    /// A new one, which begins with a snapshot of the live one of the app that this is a preview of.
    Seeded(Carry, DatabaseRecord),
    /// A new one, from the dump that the app was made with.
    Brought(Brought),
    /// A new one, carried over from the live one.
    Carried(Carry, DatabaseRecord),
    /// That of the version which a rollback left, with what was written to the live one since.
    Returned {
        /// The live one.
        from: DatabaseRecord,
        /// The one that was left.
        to: DatabaseRecord,
    },
}

/// What is done for a schema.
#[derive(Clone, Debug, Serialize)]
pub struct SchemaPlan {
    /// Whether it changed.
    pub changed: SchemaChanged,
    /// What it is kept in: `django`, `sql`, … `none`.
    pub detector: String,
    /// The files that decided.
    pub files: Vec<String>,
}

/// How many files.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct FilesPlan {
    /// In the release.
    pub total: u64,
    /// Different from the live release's.
    pub changed: u64,
}

/// What a deploy does: `deploy`, or `skip` with the reason. The shape of `plan --json`.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// The app.
    pub app: String,
    /// What is deployed.
    pub revision: String,
    /// `deploy` or `skip`.
    pub action: Action,
    /// Why.
    pub reason: String,
    /// The version that the release joins or opens.
    pub version: Version,
    /// About the schema.
    pub schema: SchemaPlan,
    /// The stages that run, in order.
    pub stages: Vec<String>,
    /// About the files.
    pub files: FilesPlan,
    /// Bytes in the files.
    pub bytes: u64,
    /// Whether the version opens.
    pub opens: bool,
    /// What becomes of the database.
    #[serde(skip)]
    pub data: Data,
    /// Whether the push itself said whether the schema changed.
    #[serde(skip)]
    pub schema_said: bool,
    /// What is not brought along from a version that a rollback left, in a sentence.
    #[serde(skip)]
    pub stays: Option<String>,
    /// The database of a version that a rollback left, which may alone hold what the opening version can hold.
    #[serde(skip)]
    pub merges: Option<DatabaseRecord>,
}

/// Whether anything is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// A release is made.
    Deploy,
    /// Nothing is done.
    Skip,
}

/// Decides what to do about a revision.
///
/// # Errors
/// Where the settings ask for what cannot be.
pub fn decide(facts: &Facts) -> Result<Plan> {
    let schema = schema(facts);
    let brought = facts.brought.is_some();
    let changed = facts.live.is_none() || brought || schema.changed == SchemaChanged::Yes;
    let back = (changed && !brought).then(|| returned(facts)).flatten();
    let opens = changed && back.is_none();
    let version = match (facts.live, &back) {
        (_, Some((left, _))) => *left,
        (Some(live), None) if !opens => live.id.version,
        _ => facts.next_version,
    };
    let data = match back {
        Some((_, data)) => data,
        None => data(facts, opens)?,
    };
    let left = facts.left.as_ref().filter(|_| opens);
    let merges = left.filter(|left| left.hindrance.is_none()).map(|left| left.database.clone());
    let stays = left.and_then(|left| {
        let why = left.hindrance.as_ref()?;
        Some(format!("what {} alone holds, which a rollback left, stays there: {why}", left.database.name))
    });
    let is_live = facts.live.is_some_and(|live| live.revision == *facts.revision);
    let (action, reason) = if is_live && !facts.again {
        (Action::Skip, "it is live already".to_owned())
    } else {
        (Action::Deploy, reason(facts, &schema, version))
    };
    let over = facts.live.is_some() && !brought || matches!(data, Data::Seeded(..));
    let stages = facts.settings.stages().filter(|(name, _)| match name.as_str() {
        "syncdb" => opens && !matches!(&data, Data::Brought(brought) if brought.fits),
        "migration" => opens && over,
        _ => true,
    });
    Ok(Plan {
        app: facts.app.to_string(),
        revision: facts.revision.to_string(),
        action,
        reason,
        version,
        stages: stages.map(|(name, _)| name.to_string()).collect(),
        schema,
        files: FilesPlan { total: facts.size.files, changed: facts.changed_files as u64 },
        bytes: facts.size.bytes,
        opens,
        data,
        schema_said: facts.options.schema.is_some(),
        stays,
        merges,
    })
}

/// The version that a rollback left, where the revision's schema is its own: it is live again, with what was
/// written since.
fn returned(facts: &Facts) -> Option<(Version, Data)> {
    let left = facts.left.as_ref().filter(|left| left.returns && facts.options.schema.is_none())?;
    let from = facts.live?.database.clone()?;
    Some((left.version, Data::Returned { from, to: left.database.clone() }))
}

fn schema(facts: &Facts) -> SchemaPlan {
    let (changed, files) = match &facts.difference {
        None => (SchemaChanged::Yes, Vec::new()),
        Some(difference) => {
            let files = difference.files.iter().map(|file| file.path.clone()).collect();
            let changed = match difference.changed {
                Changed::Yes => SchemaChanged::Yes,
                Changed::No => SchemaChanged::No,
                Changed::Ask(_) => SchemaChanged::Ask,
            };
            (changed, files)
        }
    };
    let changed = match facts.options.schema {
        Some(_) if facts.live.is_none() => SchemaChanged::Yes,
        Some(SchemaSaid::Same) => SchemaChanged::No,
        Some(SchemaSaid::New) => SchemaChanged::Yes,
        None if engine_changes(facts) || facts.brought.is_some() => SchemaChanged::Yes,
        None => changed,
    };
    SchemaPlan { changed, detector: facts.detector.clone(), files }
}

/// Whether what keeps the data is another thing than for the live release.
fn engine_changes(facts: &Facts) -> bool {
    facts.live.is_some_and(|live| {
        live.database.as_ref().map_or("none", |database| &database.engine)
            != engine_name(facts.settings.database.engine)
    })
}

/// The engine's name in records and environments.
pub fn engine_name(engine: Engine) -> &'static str {
    match engine {
        Engine::None => "none",
        Engine::Sqlite => "sqlite",
        Engine::Mysql => "mysql",
        Engine::Postgres => "postgres",
    }
}

fn data(facts: &Facts, opens: bool) -> Result<Data> {
    let wanted = &facts.settings.database;
    let engine = engine_name(wanted.engine);
    if let Some(brought) = &facts.brought {
        return brought_by(brought, engine);
    }
    if wanted.engine == Engine::None {
        return Ok(Data::None);
    }
    let Some(database) = facts.live.and_then(|live| live.database.clone()) else {
        let seed = facts.seed.clone().filter(|seed| facts.live.is_none() && seed.engine == engine);
        let carry = if wanted.carry == Carry::Empty { Carry::Empty } else { Carry::Copy };
        return Ok(seed.map_or(Data::Fresh, |seed| Data::Seeded(carry, seed)));
    };
    if database.engine != engine && (wanted.carry != Carry::Empty || facts.options.carry_shared) {
        return Err(Error::new(format!(
            "the live version's data is in {}, and {engine} cannot carry it over",
            database.engine
        ))
        .hint("with [database] carry = \"empty\" syncdb makes the new one, and migration fills it"));
    }
    if !opens {
        return Ok(Data::Join(database));
    }
    let carry = if facts.options.carry_shared { Carry::Shared } else { wanted.carry };
    Ok(Data::Carried(carry, database))
}

/// Data that was brought along is never passed over: it has to fit.
fn brought_by(brought: &Brought, engine: &str) -> Result<Data> {
    let had = &brought.database.engine;
    if had == engine {
        return Ok(Data::Brought(brought.clone()));
    }
    Err(Error::new(format!("the app begins with data of {had}, and the settings say {engine}"))
        .hint(format!("say [database] engine = \"{had}\" in receiver.toml")))
}

fn reason(facts: &Facts, schema: &SchemaPlan, version: Version) -> String {
    let Some(_) = facts.live else { return "nothing is live yet".to_owned() };
    if facts.brought.is_some() {
        return format!("data is brought along: version {version} opens");
    }
    match (facts.options.schema, schema.changed) {
        (Some(SchemaSaid::Same), _) => {
            format!("the push says that the schema is the same: it joins version {version}")
        }
        (Some(SchemaSaid::New), _) => {
            format!("the push says that the schema is new: version {version} opens")
        }
        (None, SchemaChanged::Yes) if returned(facts).is_some() => {
            format!("the schema is that of version {version}, which a rollback left: it is live again")
        }
        (None, SchemaChanged::Yes) if engine_changes(facts) => {
            format!("the database engine changes: version {version} opens")
        }
        (None, SchemaChanged::Yes) => format!("the schema changed: version {version} opens"),
        (None, SchemaChanged::No) => format!("the schema is the same: it joins version {version}"),
        (None, SchemaChanged::Ask) => {
            format!("files alone cannot tell: the framework is asked whether it joins version {version}")
        }
    }
}

impl Plan {
    /// What changed in the schema, in a line.
    pub fn schema_line(&self) -> String {
        let files = match self.schema.files.as_slice() {
            [] => String::new(),
            [one] => format!(": {one}"),
            [first, rest @ ..] => format!(": {first} and {} more", rest.len()),
        };
        match self.schema.changed {
            SchemaChanged::Yes if self.schema.files.is_empty() => {
                format!("{} → version {}", self.reason_short(), self.version)
            }
            SchemaChanged::Yes => format!("changed{files} → version {}", self.version),
            SchemaChanged::No if self.schema.files.is_empty() => {
                format!("unchanged, version {}", self.version)
            }
            SchemaChanged::No => format!("taken as unchanged{files}, version {}", self.version),
            SchemaChanged::Ask => format!("perhaps changed{files}: the framework is asked"),
        }
    }

    fn reason_short(&self) -> &str {
        self.reason.split(':').next().unwrap_or_default()
    }

    /// The plan in words, a line each.
    pub fn words(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "{}: {} {} — {}",
            self.app,
            if self.action == Action::Skip { "skip" } else { "deploy" },
            &self.revision[..12],
            self.reason
        )];
        let total = usize::try_from(self.files.total).unwrap_or(usize::MAX);
        let files = plural(total, "file", "files");
        lines.push(format!(
            "export     {} {files}, {} changed, {}",
            text::grouped(self.files.total),
            text::grouped(self.files.changed),
            text::bytes(self.bytes)
        ));
        lines.push(format!("schema     {} ({})", self.schema_line(), self.schema.detector));
        for file in self.schema.files.iter().skip(1) {
            lines.push(format!("           {file}"));
        }
        if !self.stages.is_empty() {
            lines.push(format!("stages     {}", self.stages.join(", ")));
        }
        lines.push(format!("database   {}", self.data_words()));
        lines
    }

    fn data_words(&self) -> String {
        match &self.data {
            Data::None => "none: the application looks after its data itself".to_owned(),
            Data::Join(database) => format!("{}, shared with the live release", database.name),
            Data::Fresh => "a new and empty one".to_owned(),
            Data::Brought(_) => "a new one, from the dump that the app was made with".to_owned(),
            Data::Seeded(_, from) => {
                format!("a new one, from a snapshot of {} (nobody is held)", from.name)
            }
            Data::Carried(Carry::Copy, from) => {
                format!("a new one, copied from {} (rehearsed first)", from.name)
            }
            Data::Returned { from, to } => {
                format!("{}, which a rollback left, with what was written to {} since", to.name, from.name)
            }
            Data::Carried(Carry::Empty, from) => {
                format!("a new one, filled by the migration from {} (rehearsed first)", from.name)
            }
            Data::Carried(Carry::Shared, from) => {
                format!(
                    "{} itself, changed in place: a rollback will not bring its old schema back",
                    from.name
                )
            }
        }
    }
}
