//! The traps that others fell into, each looked for, each with its cure.

use std::path::Path;

use serde::Serialize;

use super::environment::Kept;
use super::look::{self, Scene};
use super::{branches, databases, hooked, plan, processes, queue, recovery, worker};
use crate::app::journal::History;
use crate::app::{App, Version, guard};
use crate::data::{Database, Fence};
use crate::serve::door;
use crate::support::text::{bytes, grouped, plural};
use crate::support::{Result, files};

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was seen.
    pub what: String,
    /// What to do about it; empty where it is fine.
    pub cure: String,
}

impl Finding {
    pub(super) fn fine(check: &'static str, what: impl Into<String>) -> Finding {
        Finding { check, ok: true, what: what.into(), cure: String::new() }
    }

    pub(super) fn trouble(check: &'static str, what: impl Into<String>, cure: impl Into<String>) -> Finding {
        Finding { check, ok: false, what: what.into(), cure: cure.into() }
    }

    /// A line or two for people.
    pub fn words(&self) -> Vec<String> {
        let mark = if self.ok { "ok     " } else { "trouble" };
        let mut lines = vec![format!("{mark}  {:<11} {}", self.check, self.what)];
        if !self.ok {
            lines.push(format!("         cure        {}", self.cure));
        }
        lines
    }
}

/// Looks at an app. Nothing is changed.
pub fn examine(app: &App) -> Vec<Finding> {
    let checks: [fn(&App) -> Vec<Finding>; 10] = [
        hooked::program,
        hooked::hooks,
        hooked::owner,
        settings,
        branches,
        state,
        live,
        processes_run,
        databases,
        space,
    ];
    checks.iter().flat_map(|check| check(app)).collect()
}

fn settings(app: &App) -> Vec<Finding> {
    match look::server_settings(app) {
        Ok(settings) => vec![Finding::fine("settings", format!("{} is deployed", settings.branch.as_str()))],
        Err(error) => vec![Finding::trouble(
            "settings",
            error.one_line(),
            format!("correct {}", app.server_config().display()),
        )],
    }
}

/// Other branches, as apps of their own.
fn branches(app: &App) -> Vec<Finding> {
    let name = app.name();
    let trouble = |what: String, cure: String| Finding::trouble("branches", what, cure);
    let Ok(settings) = look::server_settings(app) else { return Vec::new() };
    match app.lineage() {
        Ok(None) if settings.branches.is_empty() && app.branch_apps().is_ok_and(|apps| apps.is_empty()) => {
            Vec::new()
        }
        Ok(None) => match branches::complaints(app, &settings) {
            Ok(found) if found.is_empty() => {
                let there = app.branch_apps().map_or(0, |apps| apps.len());
                vec![Finding::fine("branches", format!("{there} have an app"))]
            }
            Ok(found) => found.into_iter().map(|(what, cure)| trouble(what, cure)).collect(),
            Err(error) => vec![trouble(error.one_line(), format!("`receiver doctor {name}` again"))],
        },
        Ok(Some(lineage)) if app.sibling(&lineage.parent).is_created() => {
            vec![Finding::fine("branches", format!("{} of {}", lineage.branch, lineage.parent))]
        }
        Ok(Some(lineage)) => {
            let what = format!("{}, whose repository it reads, is not there", lineage.parent);
            vec![trouble(what, format!("put it back, or move {} away", app.directory().display()))]
        }
        Err(error) => vec![trouble(error.one_line(), error.innermost_hint().unwrap_or_default().to_owned())],
    }
}

fn state(app: &App) -> Vec<Finding> {
    let scene = match Scene::read(app) {
        Ok(scene) => scene,
        Err(error) => {
            let cure = error.innermost_hint().unwrap_or("see what the sentence names").to_owned();
            return vec![Finding::trouble("state", error.one_line(), cure)];
        }
    };
    let mut findings = files_of_state(app);
    let next = format!("the next push or command mends it; or now: `receiver deploy {}`", app.name());
    // All of it, whatever a gist says.
    if let Some(damage) = History::read_whole(app).ok().and_then(|history| history.damage(app)) {
        findings.push(Finding::trouble("journal", damage, next.clone()));
    }
    for what in &scene.releases.unknown {
        findings.push(Finding::trouble(
            "releases",
            what.clone(),
            "look at it, and move it away; receiver leaves it alone",
        ));
    }
    for what in queue::strange(app).unwrap_or_else(|error| vec![error.one_line()]) {
        let cure = "push again, and move it away; receiver leaves it alone";
        findings.push(Finding::trouble("queue", what, cure));
    }
    if guard::holder(app).is_none() {
        for what in recovery::foresee(app).unwrap_or_else(|error| vec![error.one_line()]) {
            findings.push(Finding::trouble("recovery", what, next.clone()));
        }
        if let Some(tip) = worker::undeployed_tip(app) {
            findings.push(Finding::trouble(
                "branch",
                format!("the tip {} was never deployed: its hook was lost", tip.short()),
                next,
            ));
        }
    }
    if findings.is_empty() {
        let number = scene.releases.standing.len();
        findings.push(Finding::fine(
            "state",
            format!("{number} {}, nothing left over", plural(number, "release", "releases")),
        ));
    }
    findings
}

/// Files of state that a deploy will stumble over.
fn files_of_state(app: &App) -> Vec<Finding> {
    let looked = [
        ("lock", guard::examine_lock(app), "move it away: a new one is made"),
        ("env", Kept::read(app).map(drop), "put it back from a backup, or move it away and set all again"),
        ("app", app.marker_format().map(drop), "put it back, for instance from a backup"),
    ];
    let trouble = |(check, seen, cure): (_, Result<()>, &str)| {
        seen.err().map(|error| Finding::trouble(check, error.one_line(), cure))
    };
    looked.into_iter().filter_map(trouble).collect()
}

fn live(app: &App) -> Vec<Finding> {
    match crate::app::record::live(app) {
        Ok(Some(id)) => vec![Finding::fine("current", format!("points to {id}"))],
        Ok(None) => vec![Finding::fine("current", "nothing is live yet")],
        Err(error) => {
            let cure = error.innermost_hint().unwrap_or_default().to_owned();
            vec![Finding::trouble("current", error.one_line(), cure)]
        }
    }
}

/// The live database takes writes, the retired ones refuse them.
/// What should run does, and requests find it.
fn processes_run(app: &App) -> Vec<Finding> {
    let listed = match processes::list(app) {
        Ok(listed) => listed,
        Err(error) => return vec![Finding::trouble("processes", error.one_line(), "see what it says")],
    };
    let up = format!("`receiver up {}`", app.name());
    let mut found: Vec<Finding> = processes::attention(app, &listed)
        .into_iter()
        .map(|what| Finding::trouble("processes", what, up.clone()))
        .collect();
    if files::exists(&app.door()) && !door::is_open(app) && guard::holder(app).is_none() {
        found.push(Finding::trouble("door", "it is closed, and nobody deploys", up));
    }
    if found.is_empty() && !listed.is_empty() {
        let running = listed.iter().filter(|one| one.state == "running").count();
        found.push(Finding::fine("processes", format!("{running} {} up", plural(running, "is", "are"))));
    }
    found
}

fn databases(app: &App) -> Vec<Finding> {
    let Ok(scene) = Scene::read(app) else { return Vec::new() };
    let live = scene.live.as_ref().and_then(|live| scene.releases.database(live));
    let mut records: Vec<_> =
        scene.releases.standing.iter().filter_map(|record| record.database.clone()).collect();
    records.sort_by_key(|database| database.home);
    records.dedup();
    let mut findings = Vec::new();
    if live.is_none() {
        findings.extend(before_the_first(app));
    }
    for record in &records {
        let is_live = live == Some(record);
        let looked = databases::of(app, record).and_then(|database| look_at(app, &*database, is_live));
        findings.extend(looked.unwrap_or_else(|error| {
            vec![Finding::trouble(
                "database",
                error.one_line(),
                "see that its server runs; else put it back from a dump",
            )]
        }));
    }
    findings
}

/// What the server lacks that the server's file names, before anything is there.
fn before_the_first(app: &App) -> Vec<Finding> {
    let Ok(settings) = look::server_settings(app) else { return Vec::new() };
    let engine = plan::engine_name(settings.database.engine);
    if engine == "none" {
        return Vec::new();
    }
    let found = databases::record_for(app, engine, Version(0))
        .and_then(|record| databases::of(app, &record))
        .and_then(|database| database.findings());
    match found {
        Ok(found) => found.into_iter().map(|one| Finding::trouble("database", one.what, one.cure)).collect(),
        Err(error) => vec![Finding::trouble(
            "database",
            error.one_line(),
            error.innermost_hint().unwrap_or("see that the server runs, and that it lets receiver in"),
        )],
    }
}

/// One version's database: whether it takes writes as it should, who is connected, and what its server lacks.
fn look_at(app: &App, database: &dyn Database, is_live: bool) -> Result<Vec<Finding>> {
    let name = &database.spot().name;
    let trouble = |what: String, cure: String| Finding::trouble("database", what, cure);
    let mut findings = vec![match database.fence()? {
        Fence::Open if is_live => Finding::fine("database", format!("{name} is live")),
        _ if is_live => trouble(
            format!("{name} is live, and refuses writes: a worker died between fence and switch"),
            format!("`receiver deploy {}` takes the fence back first", app.name()),
        ),
        Fence::Whole => Finding::fine("database", format!("{name} is retired, and refuses writes")),
        Fence::Gaps(tables) => trouble(
            format!("{name} is retired, and takes writes all the same: {}", tables.join(", ")),
            "somebody changed its schema after the switch: find out who still uses it".to_owned(),
        ),
        Fence::Open => trouble(
            format!(
                "{name} is not live, and takes writes: what is written there is lost to the live version"
            ),
            "find out who took its fence down".to_owned(),
        ),
    }];
    if is_live {
        findings.extend(database.findings()?.into_iter().map(|found| trouble(found.what, found.cure)));
    } else {
        findings.extend(database.connected()?.into_iter().map(|who| {
            trouble(
                format!("{name} is retired, and {who} is connected"),
                "restart it: it finds the live one then".to_owned(),
            )
        }));
    }
    Ok(findings)
}

fn space(app: &App) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Ok((free, inodes)) = files::free_space(app.directory()) {
        let least = 256 << 20;
        let what = format!(
            "{} and {} inodes are free",
            bytes(free),
            if inodes == u64::MAX { "all".to_owned() } else { grouped(inodes) }
        );
        findings.push(if free < least || inodes < 10_000 {
            Finding::trouble("disk", what, format!("`receiver prune {}`, or keep less", app.name()))
        } else {
            Finding::fine("disk", what)
        });
    }
    let network = files::filesystem_magic(app.directory()).is_ok_and(files::is_network_filesystem);
    if network {
        findings.push(Finding::trouble(
            "disk",
            "the app lies on a network filesystem, where locks promise less",
            "move it to a local one",
        ));
    }
    if kills_sessions() && !Path::new("/var/lib/systemd/linger").join(crate::support::user_name()).exists() {
        findings.push(Finding::trouble(
            "session",
            "systemd ends what a login started when the login ends (KillUserProcesses=yes)",
            "`loginctl enable-linger`, so that deploys outlive the pusher's connection",
        ));
    }
    let trash = files::names_in(&app.trash()).map_or(0, |names| names.len());
    if trash > 0 && guard::holder(app).is_none() {
        findings.push(Finding::trouble(
            "trash",
            format!("{trash} removed releases are not deleted yet"),
            format!("`receiver prune {}`", app.name()),
        ));
    }
    findings
}

fn kills_sessions() -> bool {
    let text = std::fs::read_to_string("/etc/systemd/logind.conf").unwrap_or_default();
    text.lines().any(|line| line.trim().eq_ignore_ascii_case("KillUserProcesses=yes"))
}
