//! Other branches, side by side: each becomes an app of its own, which reads its parent's repository.
//!
//! What `[branches]` says is a wish; a [`Claim`] is that wish after a look at who is there already. An app
//! or a host that is somebody else's is refused, and hinders no other branch of the same push.

use std::collections::BTreeMap;
use std::time::Instant;

use toml_edit::DocumentMut;

use super::look::{self, Scene};
use super::queue::{self, Job, Order};
use super::verdict::Verdict;
use super::{certificate, found, hand, joblog, joblog::JobLog, preview, spawn, worker};
use crate::app::guard::Guard;
use crate::app::journal::{Event, Outcome};
use crate::app::record::DatabaseRecord;
use crate::app::settings::{Branch, BranchData, BranchName, Domain, Settings};
use crate::app::slug::preview_name;
use crate::app::{App, AppName, Lineage, guard};
use crate::support::accounts::Account;
use crate::support::{Context, Error, Exit, Result, death, files};
use crate::vcs::Repository;

/// The app that a branch becomes, or is.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The app; it may not be there yet.
    pub app: App,
    /// What it is made for.
    pub lineage: Lineage,
    /// Whether it has to be made.
    pub is_new: bool,
    /// The server's file that it begins with.
    beginning: String,
}

impl Claim {
    /// The server's file that the app begins with.
    pub fn beginning(&self) -> &str {
        &self.beginning
    }

    /// The same, where the app is not made yet: what a look at its first revision goes by.
    pub fn unborn(&self) -> Option<Unborn<'_>> {
        self.is_new.then_some(Unborn { server_file: &self.beginning, lineage: &self.lineage })
    }
}

/// What will hold for an app that is not made yet.
#[derive(Clone, Copy, Debug)]
pub struct Unborn<'a> {
    /// Its server's file.
    pub server_file: &'a str,
    /// What it is made for.
    pub lineage: &'a Lineage,
}

/// Who is there already, as far as a new app could get in their way. What is claimed is added.
#[derive(Debug)]
pub struct Neighbours {
    domains: BTreeMap<Domain, AppName>,
    previews: u32,
}

impl Neighbours {
    /// Looks at all apps of the root.
    pub fn read(parent: &App) -> Result<Neighbours> {
        let domain = |app: &App| look::server_settings(app).ok()?.domain;
        let apps = parent.neighbours()?;
        let domains = apps.iter().filter_map(|app| Some((domain(app)?, app.name().clone()))).collect();
        let previews = parent.branch_apps()?.iter().filter(|(_, lineage)| lineage.preview).count();
        Ok(Neighbours { domains, previews: u32::try_from(previews).unwrap_or(u32::MAX) })
    }
}

/// The app that `settings`, which are the parent's, want for a branch; `None` where they want none.
///
/// # Errors
/// Where that app cannot be: its name or its host is somebody else's, or there are too many.
pub fn claim(
    parent: &App,
    settings: &Settings,
    neighbours: &mut Neighbours,
    branch: &str,
) -> Result<Option<Claim>> {
    let Some((pattern, wanted)) = settings.branch_for(branch).filter(|(_, wanted)| is_wanted(wanted)) else {
        return Ok(None);
    };
    let sound: Result<BranchName, String> = branch.parse();
    sound.map_err(|why| Error::new(format!("it {why}")))?;
    let name = match &wanted.app {
        Some(name) => name.clone(),
        None => preview_name(parent.name(), branch)?,
    };
    refuse_foreign_name(parent, settings, pattern, &name)?;
    let app = parent.sibling(&name);
    let lineage =
        Lineage { parent: parent.name().clone(), branch: branch.to_owned(), preview: wanted.preview };
    let is_new = !app.is_created();
    if !is_new {
        refuse_other_made(&app, &lineage)?;
        return Ok(Some(Claim { app, lineage, is_new, beginning: String::new() }));
    }
    found::refuse_taken(app.directory())?;
    let domain = domain_of(settings, wanted, &name)?;
    if let Some(domain) = &domain
        && let Some(taken) = neighbours.domains.get(domain)
    {
        return Err(Error::new(format!("{domain} is the domain of {taken} already")).hint(format!(
            "give it another `domain`: `receiver config {}` shows [branches]",
            parent.name()
        )));
    }
    if wanted.preview && neighbours.previews >= settings.preview_most {
        return Err(Error::new(format!(
            "there are {} previews, and no more may be (preview.most)",
            neighbours.previews
        ))
        .hint(format!(
            "delete a branch that has one, or `receiver config {} preview.most {}`",
            parent.name(),
            neighbours.previews.saturating_add(10)
        )));
    }
    let beginning = beginning(parent, branch, domain.as_ref(), settings)?;
    neighbours.previews += u32::from(wanted.preview);
    neighbours.domains.extend(domain.map(|domain| (domain, name)));
    Ok(Some(Claim { app, lineage, is_new, beginning }))
}

/// An entry with `preview = false` keeps a branch from a wider pattern.
fn is_wanted(wanted: &Branch) -> bool {
    wanted.preview || wanted.app.is_some()
}

/// The app is called after its parent, and no other branch has it.
fn refuse_foreign_name(parent: &App, settings: &Settings, pattern: &str, name: &AppName) -> Result<()> {
    if name.parent().as_ref() != Some(parent.name()) {
        return Err(Error::new(format!(
            "[branches] wants the app {name}, which {} cannot make",
            parent.name()
        ))
        .hint(format!("its app has to be called {}--SOMETHING", parent.name())));
    }
    let other = settings
        .branches
        .iter()
        .find(|(other, branch)| *other != pattern && branch.app.as_ref() == Some(name));
    match other {
        Some((other, _)) => {
            Err(Error::new(format!("[branches] wants the app {name} for {other}, too: one app, one branch")))
        }
        None => Ok(()),
    }
}

/// An app that is there is ours where it was made for this very branch.
fn refuse_other_made(app: &App, wanted: &Lineage) -> Result<()> {
    let made = app.lineage()?;
    match made {
        Some(made) if made == *wanted => Ok(()),
        Some(made) if made.branch != wanted.branch => {
            Err(Error::new(format!("{} is the app of the branch {}", app.name(), made.branch))
                .hint("rename one of the two branches"))
        }
        _ => Err(Error::new(format!(
            "{} is there, and was {} as a preview",
            app.name(),
            if wanted.preview { "not made" } else { "made" }
        ))
        .hint("give [branches] another app for it, or remove that one")),
    }
}

/// `SLUG.DOMAIN` for a preview, DOMAIN being its pattern's or else the parent's.
fn domain_of(settings: &Settings, wanted: &Branch, name: &AppName) -> Result<Option<Domain>> {
    if !wanted.preview {
        return Ok(wanted.domain.clone());
    }
    let Some(base) = wanted.domain.as_ref().or(settings.domain.as_ref()) else { return Ok(None) };
    let slug = name.as_str().split_once("--").map_or("", |(_, slug)| slug);
    let whole: Result<Domain, String> = format!("{slug}.{base}").parse();
    whole.map(Some).map_err(|why| Error::new(format!("{slug}.{base} {why}")))
}

/// What the parent's file says of itself, and not of its branches.
const ITS_OWN: [&str; 6] = ["branch", "domain", "branches", "preview", "versions", "metrics"];

/// The server's file of an app that is made for a branch: its parent's, so that the same limits and grants
/// hold, with what is its own.
fn beginning(parent: &App, branch: &str, domain: Option<&Domain>, settings: &Settings) -> Result<String> {
    let text = files::read_text(&parent.server_config())?.unwrap_or_default();
    let mut document: DocumentMut =
        text.parse().context(|| format!("cannot read {}", parent.server_config().display()))?;
    for key in ITS_OWN {
        document.remove(key);
    }
    if let Some(nginx) = document.get_mut("nginx").and_then(toml_edit::Item::as_table_like_mut) {
        // Two apps must not write one file.
        nginx.remove("site");
        // A certificate that is not for its host would have browsers refuse it: it is served by http then.
        let chain = settings.nginx.certificate.as_ref().map(|certificate| &certificate.chain);
        if domain.zip(chain).is_some_and(|(host, chain)| certificate::is_for(chain, host) == Some(false)) {
            nginx.remove("certificate");
            nginx.remove("certificate_key");
        }
    }
    let branch = format!("branch = {}\n", toml::Value::from(branch));
    let domain =
        domain.map(|domain| format!("domain = {}\n", toml::Value::from(domain.as_str()))).unwrap_or_default();
    Ok(branch + &domain + document.to_string().trim_start())
}

/// Whether the app of a claim is still to be made, by root: then a hook can only ask its parent's worker for it.
pub fn is_roots_to_make(claim: &Claim) -> bool {
    claim.is_new && claim.app.sibling(&claim.lineage.parent).user().is_some()
}

/// Makes the app of a claim, where it is not there yet.
pub fn make(claim: &Claim) -> Result<()> {
    if !claim.is_new {
        return Ok(());
    }
    let parent = claim.app.sibling(&claim.lineage.parent);
    if parent.user().is_some() {
        return hand::make_branch(&parent, &claim.lineage.branch).map(drop);
    }
    found::branch_app(&claim.app, &claim.lineage, &claim.beginning)
}

/// Carries out the order to make the app of a branch, and hands the push on to it: under the same name, so that whoever
/// follows it finds it there, and so that a death on the way hands on nothing twice.
pub fn perform(guard: &mut Guard, job: &Job, push: &Order, log: &JobLog) -> Verdict {
    match hand_on(guard, job, push, log) {
        Ok(verdict) => verdict,
        Err(error) => Verdict {
            outcome: Outcome::Failed,
            release: None,
            why: Some(error.one_line()),
            notes: error.innermost_hint().map(|hint| format!("hint: {hint}")).into_iter().collect(),
            line: format!("NOT LIVE: {}; the next push of that branch tries again", error.one_line()),
            code: 1,
        },
    }
}

fn hand_on(guard: &mut Guard, job: &Job, push: &Order, log: &JobLog) -> Result<Verdict> {
    let parent = guard.app().clone();
    let Order::Push { branch, .. } = push else {
        return Err(Error::new("only a push makes the app of a branch"));
    };
    if Repository::open(&parent.repository())?.tip(branch)?.is_none() {
        return Ok(Verdict::done(format!("{branch} is gone again: nothing was made for it")));
    }
    let settings = look::server_settings(&parent)?;
    let claim = claim(&parent, &settings, &mut Neighbours::read(&parent)?, branch)?
        .ok_or_else(|| Error::new(format!("[branches] says nothing of {branch} any more")))?;
    let begun = Instant::now();
    let name = claim.app.name();
    if claim.is_new {
        make(&claim)?;
        log.timed("make", format!("{name}, with a user of its own, for {branch}"), begun);
        guard.append(Some(&job.by), Event::Change { what: format!("{name} was made for {branch}") })?;
    }
    death::point("branch-made");
    if joblog::end(&claim.app, &job.id).is_none() {
        let handed = job.handing_on(push.clone());
        JobLog::open(&claim.app, &handed.id)?;
        handed.put(&claim.app)?;
        spawn::worker(&claim.app)?;
    }
    Ok(Verdict::done(""))
}

/// What the parent grants to one of its previews, as its file says now.
#[derive(Debug)]
pub struct Grant {
    /// What it begins with.
    pub data: BranchData,
    /// Whether processes beside the web process run.
    pub process: bool,
    /// What it finds in its environment.
    pub env: BTreeMap<String, String>,
}

/// The grant of a preview; `None` for any other app.
pub fn grant(app: &App, lineage: Option<&Lineage>) -> Result<Option<Grant>> {
    let Some(lineage) = lineage.filter(|lineage| lineage.preview) else { return Ok(None) };
    let settings = look::server_settings(&app.sibling(&lineage.parent))?;
    let wanted = settings.branch_for(&lineage.branch).map(|(_, branch)| branch.clone());
    let wanted = wanted.filter(|wanted| wanted.preview);
    Ok(Some(Grant {
        data: wanted.as_ref().map_or(BranchData::Empty, |wanted| wanted.data),
        process: wanted.is_some_and(|wanted| wanted.process),
        env: settings.preview_env,
    }))
}

/// What holds for the app of a branch, whatever its files say: its branch is that which it was made for,
/// and a preview runs its web process alone, unless it was granted more.
pub fn hold_to(app: &App, lineage: Option<&Lineage>, settings: &mut Settings) -> Result<()> {
    let Some(lineage) = lineage else { return Ok(()) };
    settings.branch = lineage.branch.parse().map_err(|why| {
        Error::new(format!("{} is damaged: {} {why}", app.marker().display(), lineage.branch))
    })?;
    settings.branches.clear();
    if grant(app, Some(lineage))?.is_some_and(|grant| !grant.process) {
        settings.processes.clear();
        settings.cron.clear();
    }
    Ok(())
}

/// The parent's database that a preview's first release begins with; `None` where it begins empty.
pub fn seed(app: &App, lineage: Option<&Lineage>, scene: &Scene) -> Result<Option<DatabaseRecord>> {
    let Some(lineage) = lineage.filter(|_| scene.live.is_none()) else { return Ok(None) };
    if grant(app, Some(lineage))?.is_none_or(|grant| grant.data == BranchData::Empty) {
        return Ok(None);
    }
    let parent = app.sibling(&lineage.parent);
    Ok(Scene::read(&parent)?.live_record(&parent)?.and_then(|live| live.database.clone()))
}

/// The branches whose tip nobody ever looked at: those that have no app yet, and those whose app has no
/// verdict about it. A hook was lost, or a mirror fetched them, or `[branches]` speaks of them since today.
pub fn lost(parent: &App) -> Result<Vec<Claim>> {
    let settings = look::server_settings(parent)?;
    if settings.branches.is_empty() {
        return Ok(Vec::new());
    }
    let mut neighbours = Neighbours::read(parent)?;
    let mut lost = Vec::new();
    for branch in Repository::open(&parent.repository())?.branches()? {
        match claim(parent, &settings, &mut neighbours, &branch) {
            Ok(Some(claim)) if claim.is_new || is_behind(&claim.app) => lost.push(claim),
            Ok(_) => {}
            Err(error) => log::info!("{branch}: {}", error.one_line()),
        }
    }
    Ok(lost)
}

/// The branches that are to have an app, and have none; the others' apps speak for themselves.
pub fn never_made(parent: &App) -> Result<Vec<String>> {
    let lost = lost(parent)?.into_iter().filter(|claim| claim.is_new);
    Ok(lost.map(|claim| claim.lineage.branch).collect())
}

/// What makes the apps of branches that have none.
pub fn see_to(parent: &App) -> String {
    format!("`receiver watch --once {}`", parent.name())
}

/// Whether somebody has to look at an app's branch, and nobody is about to.
fn is_behind(app: &App) -> bool {
    guard::holder(app).is_none()
        && (worker::undeployed_tip(app).is_some() || queue::waiting(app).is_ok_and(|jobs| !jobs.is_empty()))
}

/// Deploys the branches that were [`lost`], each as its own app.
pub fn reconcile(parent: &App) -> Result<()> {
    let lost = lost(parent)?;
    let repository = Repository::open(&parent.repository())?;
    for claim in lost.iter().filter(|claim| claim.is_new) {
        let Some(revision) = repository.tip(&claim.lineage.branch)? else { continue };
        if let Err(error) = make(claim) {
            log::warn!("cannot make {}: {}", claim.app.name(), error.one_line());
            continue;
        }
        let order = Order::Deploy { branch: claim.lineage.branch.clone(), revision, reconcile: true };
        let job = Job::new(order, "receiver");
        JobLog::open(&claim.app, &job.id)?;
        job.put(&claim.app)?;
    }
    let (there, unmade): (Vec<App>, Vec<App>) =
        lost.into_iter().map(|claim| claim.app).partition(App::is_created);
    spawn::workers(&there)?;
    // What is half there of no branch that wants it is nobody's any more: a branch came and went.
    if unmade.is_empty() && has_half(parent)? { hand::sweep_branches(parent).map(drop) } else { Ok(()) }
}

/// Whether there are users of apps of this one's branches without an app.
fn has_half(parent: &App) -> Result<bool> {
    if parent.user().is_none() {
        return Ok(false);
    }
    let of_app = |account: Account| account.name.strip_prefix("app-").and_then(|name| name.parse().ok());
    let names = Account::all()?.into_iter().filter_map(of_app);
    let mut ours = names.filter(|name: &AppName| name.parent().as_ref() == Some(parent.name()));
    Ok(ours.any(|name| !parent.sibling(&name).is_created()))
}

/// What is wrong about the apps of branches, with its cure, for `doctor`.
pub fn complaints(parent: &App, settings: &Settings) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    let cure = format!("`receiver config {}` shows [branches]", parent.name());
    for (pattern, wanted) in &settings.branches {
        let named =
            wanted.app.as_ref().map_or(Ok(()), |app| refuse_foreign_name(parent, settings, pattern, app));
        found.extend(named.err().map(|error| (format!("{pattern}: {}", error.one_line()), cure.clone())));
    }
    let mut neighbours = Neighbours::read(parent)?;
    for branch in Repository::open(&parent.repository())?.branches()? {
        if let Err(error) = claim(parent, settings, &mut neighbours, &branch) {
            let hint = error.innermost_hint().map_or_else(|| cure.clone(), str::to_owned);
            found.push((format!("{branch} has no app: {}", error.one_line()), hint));
        }
    }
    for branch in never_made(parent)? {
        found.push((format!("{branch} was never deployed: its hook was lost"), see_to(parent)));
    }
    for app in preview::orphans(parent)? {
        let what = format!("{} is the preview of a branch that is gone", app.name());
        found.push((what, format!("`receiver prune {}`", parent.name())));
    }
    for (app, lineage) in parent.branch_apps()? {
        found.extend(moved(settings, &app, &lineage)?);
        if !settings.branch_for(&lineage.branch).is_some_and(|(_, wanted)| is_wanted(wanted)) {
            let what = format!(
                "{} is there, and [branches] says nothing of {} any more",
                app.name(),
                lineage.branch
            );
            found.push((what, format!("say it again, or move {} away", app.directory().display())));
        }
    }
    Ok(found)
}

/// An app keeps the domain that it was made with, or that somebody gave it since.
fn moved(settings: &Settings, app: &App, lineage: &Lineage) -> Result<Option<(String, String)>> {
    let Some((_, wanted)) = settings.branch_for(&lineage.branch) else { return Ok(None) };
    let Some(domain) = domain_of(settings, wanted, app.name())? else { return Ok(None) };
    let own = look::server_settings(app)?.domain;
    if own.as_ref() == Some(&domain) {
        return Ok(None);
    }
    let own = own.map_or_else(|| "no domain".to_owned(), |own| own.to_string());
    let what = format!("{} answers for {own}, and [branches] says {domain}", app.name());
    Ok(Some((what, format!("`receiver config {} domain {domain}`", app.name()))))
}

/// Refuses settings that speak of apps which the parent cannot make.
pub fn refuse(app: &App, settings: &Settings) -> Result<()> {
    if app.name().parent().is_some() && !settings.branches.is_empty() {
        return Err(Error::usage(format!("{} is the app of a branch itself, and has none", app.name())));
    }
    let mut named =
        settings.branches.iter().filter_map(|(pattern, branch)| Some((pattern, branch.app.as_ref()?)));
    let refused = named.try_for_each(|(pattern, name)| refuse_foreign_name(app, settings, pattern, name));
    refused.map_err(|error| error.exit(Exit::Usage))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::{Root, Vcs};

    #[test]
    fn a_preview_runs_its_processes_only_where_that_is_granted() {
        let place = tempfile::tempdir().unwrap();
        let root = Root::find(Some(place.path())).unwrap();
        let (parent, _) = found::app(&root, &"shop".parse().unwrap(), Vcs::Git, None).unwrap();
        let server = "[branches]\n'a/*' = { preview = true }\n'b/*' = { preview = true, process = true }\n\
                      c = { app = 'shop--c' }\n";
        std::fs::write(parent.server_config(), server).unwrap();
        let granted = look::server_settings(&parent).unwrap();
        let code = b"[process.mailer]\ncommand = 'x'\n[cron]\nclean = { at = 'daily', command = 'x' }\n";
        for (branch, runs) in [("a/x", false), ("b/x", true), ("c", true)] {
            let mut neighbours = Neighbours::read(&parent).unwrap();
            let claim = claim(&parent, &granted, &mut neighbours, branch).unwrap().unwrap();
            make(&claim).unwrap();
            let lineage = claim.app.lineage().unwrap();
            assert_eq!(lineage.as_ref(), Some(&claim.lineage));
            let mut settings = Settings::load(Some(code), None, "server").unwrap();
            hold_to(&claim.app, lineage.as_ref(), &mut settings).unwrap();
            let running = settings.processes.len() + settings.cron.len();
            assert_eq!((running > 0, settings.branch.as_str()), (runs, branch));
        }
    }
}
