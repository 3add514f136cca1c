//! What git's hooks do: pre-receive refuses what cannot be deployed, post-receive queues and watches.
//!
//! Neither runs anything that was pushed, and neither holds a lock. Every ref of a push gets one
//! verdict line.

use std::io::Write;

use serde::{Deserialize, Serialize};

use super::branches::{self, Claim};
use super::fate::{self, Fate, Target};
use super::joblog::JobLog;
use super::look::{self, Scene, Submodules};
use super::queue::{Job, Options, Order};
use super::{follow, spawn};
use crate::app::settings::Settings;
use crate::app::{App, Revision};
use crate::support::{Context, Error, Result, text};
use crate::vcs::Repository;

/// One line of what a hook is told: a ref, and where it moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// Its full name.
    pub name: String,
    /// Its tip before; absent where it is new.
    pub old: Option<Revision>,
    /// Its tip after; absent where it is deleted.
    pub new: Option<Revision>,
    /// Whether its old tip is no ancestor of the new one, where that is known already.
    #[serde(default)]
    pub forced: Option<bool>,
}

/// What a push asked for.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// `-o plan`: print the plan, and refuse.
    pub plan: bool,
    /// The other options.
    pub options: Options,
}

/// Reads what git tells a hook: a line for each ref.
pub fn updates(input: &[u8]) -> Result<Vec<Update>> {
    let mut updates = Vec::new();
    for line in input.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        let line = text::printable_bytes(line);
        let mut words = line.splitn(3, ' ');
        let (Some(old), Some(new), Some(name)) = (words.next(), words.next(), words.next()) else {
            return Err(Error::new("a hook is called by git: OLD NEW REF, a line each"));
        };
        let tip = |hash: &str| hash.parse::<Revision>().map(|hash| Some(hash).filter(|hash| !hash.is_none()));
        updates.push(Update { name: name.to_owned(), old: tip(old)?, new: tip(new)?, forced: None });
    }
    Ok(updates)
}

/// Reads the push options that git hands over in the environment.
pub fn asked(variable: impl Fn(&str) -> Option<String>) -> Result<Asked> {
    let mut asked = Asked::default();
    let count = variable("GIT_PUSH_OPTION_COUNT").and_then(|count| count.parse().ok()).unwrap_or(0);
    for at in 0..count {
        let option = variable(&format!("GIT_PUSH_OPTION_{at}")).unwrap_or_default();
        if option == "plan" {
            asked.plan = true;
        } else {
            asked.options.take(&option)?;
        }
    }
    Ok(asked)
}

/// Whether the push goes through: `false` refuses all of it, with a verdict line for each ref. `repository` is
/// the app's, as a hook sees it, where it is open already.
pub fn pre_receive(
    app: &App,
    updates: &[Update],
    asked: Result<Asked>,
    repository: Option<Repository>,
    output: &mut dyn Write,
) -> Result<bool> {
    let judged = look::server_settings(app).and_then(|settings| {
        let asked = asked?;
        Ok((fate::of(app, &settings, updates)?, settings, asked))
    });
    let refusal = match judged {
        Ok((fates, settings, asked)) => match judge_all(app, &settings, fates, &asked, repository, output)? {
            Some(refusal) => refusal,
            None => return Ok(true),
        },
        Err(error) => {
            Refusal { reasons: updates.iter().map(|_| Some(error.to_string())).collect(), first: None, error }
        }
    };
    for (one, reason) in updates.iter().zip(&refusal.reasons) {
        let with = refusal.first.and_then(|first| updates.get(first));
        let line = match (reason, with) {
            (Some(reason), _) => reason.lines().next().unwrap_or_default().to_owned(),
            (None, Some(with)) => {
                write(
                    output,
                    &format!("=====> refused: {}, together with {}", shown(&one.name), shown(&with.name)),
                )?;
                continue;
            }
            (None, None) => "with the others".to_owned(),
        };
        write(output, &format!("=====> refused: {}: {line}", shown(&one.name)))?;
    }
    for line in refusal.error.to_string().lines().skip(1) {
        write(output, &format!("       {line}"))?;
    }
    explain(&refusal.error, output)?;
    Ok(false)
}

/// Why, and what to do about it, below a verdict line.
fn explain(error: &Error, output: &mut dyn Write) -> Result<()> {
    for cause in error.causes() {
        write(output, &format!("       caused by: {cause}"))?;
    }
    if let Some(hint) = error.innermost_hint() {
        write(output, &format!("       {}", format!("hint: {hint}").replace('\n', "\n       ")))?;
    }
    Ok(())
}

/// Why a push is refused.
struct Refusal {
    /// For each ref its own reason, where it has one.
    reasons: Vec<Option<String>>,
    /// The ref that the others are refused with.
    first: Option<usize>,
    /// The reason that is explained.
    error: Error,
}

impl Refusal {
    fn of(at: usize, error: Error, refs: usize) -> Refusal {
        let reasons = (0..refs).map(|one| (one == at).then(|| error.to_string())).collect();
        Refusal { reasons, first: Some(at), error }
    }
}

fn judge_all(
    app: &App,
    settings: &Settings,
    mut fates: Vec<Fate>,
    asked: &Asked,
    mut repository: Option<Repository>,
    output: &mut dyn Write,
) -> Result<Option<Refusal>> {
    let refs = fates.len();
    if let Some(at) = fates.iter().position(|fate| matches!(fate, Fate::Undeletable(_)))
        && let Fate::Undeletable(error) = fates.swap_remove(at)
    {
        return Ok(Some(Refusal::of(at, error, refs)));
    }
    let mut planned = None;
    for (at, fate) in fates.iter().enumerate() {
        let judged = match fate {
            Fate::Deploy(target) => {
                planned = planned.or(Some(at));
                let opened = match &repository {
                    Some(opened) => opened,
                    None => repository.insert(Repository::open_in_hook(&app.repository())?),
                };
                judge(opened, target, asked, output)
            }
            Fate::Remove(preview) if asked.plan => {
                planned = planned.or(Some(at));
                write(output, &format!("       {}: would be removed, with its data", preview.name()))
            }
            Fate::Remove(_) | Fate::Ignored | Fate::Unclaimed(_) | Fate::Undeletable(_) => Ok(()),
        };
        if let Err(error) = judged {
            return Ok(Some(Refusal::of(at, error, refs)));
        }
    }
    if let Some(refusal) = refuse_unclaimed(&mut fates) {
        return Ok(Some(refusal));
    }
    Ok(match planned {
        _ if !asked.plan => None,
        Some(at) => Some(Refusal::of(at, Error::new("this was only the plan; nothing was pushed"), refs)),
        None => {
            let branch = settings.branch.as_str();
            let why = format!("nothing in this push is deployed: {} deploys {branch}", app.name());
            Some(Refusal { reasons: vec![Some(why.clone()); refs], first: None, error: Error::new(why) })
        }
    })
}

/// A branch whose app cannot be hinders no other; where there is no other to be deployed, nothing needs to
/// move, and the pusher's exit code says so.
fn refuse_unclaimed(fates: &mut Vec<Fate>) -> Option<Refusal> {
    if fates.iter().any(|fate| matches!(fate, Fate::Deploy(_) | Fate::Remove(_))) {
        return None;
    }
    let reason = |fate: &Fate| match fate {
        Fate::Unclaimed(error) => Some(error.to_string()),
        _ => None,
    };
    let reasons: Vec<_> = fates.iter().map(reason).collect();
    let first = reasons.iter().position(Option::is_some)?;
    match fates.swap_remove(first) {
        Fate::Unclaimed(error) => Some(Refusal { reasons, first: Some(first), error }),
        _ => None,
    }
}

fn judge(repository: &Repository, target: &Target, asked: &Asked, output: &mut dyn Write) -> Result<()> {
    let (app, revision) = (&target.app, &target.revision);
    repository.refuse(&target.branch, revision)?;
    if repository.lacks_history(revision)? {
        return Err(Error::new("it comes from a shallow clone, and its history is not here")
            .hint("`git fetch --unshallow`, then push again"));
    }
    let scene = Scene::read(app)?;
    if let Some(why) = scene.history.locked()
        && !asked.plan
    {
        return Err(Error::new(format!("{} is locked: {why}", app.name())));
    }
    let request = look::Request {
        revision,
        options: &asked.options,
        again: false,
        submodules: Submodules::Judge,
        unborn: target.claim.as_ref().and_then(Claim::unborn),
    };
    let look = look::at(app, repository, &scene, &request)?;
    if asked.plan {
        for line in look.plan.words() {
            write(output, &format!("       {line}"))?;
        }
    }
    Ok(())
}

/// Queues what is to be deployed, each ref with its own app, and follows it. Returns the exit code.
pub fn post_receive(
    app: &App,
    updates: &[Update],
    asked: &Asked,
    by: &str,
    output: &mut dyn Write,
) -> Result<u8> {
    let settings = look::server_settings(app)?;
    let fates = fate::of(app, &settings, updates)?;
    let mut jobs: Vec<Queued> = Vec::new();
    let mut worst = 0;
    for (update, fate) in updates.iter().zip(fates) {
        let queued = match fate {
            Fate::Ignored => {
                ignore(app, settings.branch.as_str(), update, output);
                continue;
            }
            Fate::Deploy(target) => queue(app, target, update, asked, by),
            Fate::Remove(preview) => queue_removal(app, &preview, update, by),
            Fate::Unclaimed(error) | Fate::Undeletable(error) => Err(error),
        };
        match queued {
            Ok(queued) => jobs.push(queued),
            Err(error) => {
                worst = 1;
                // Nobody may be there to read it any more; the others are queued all the same.
                let _ =
                    write(output, &format!("=====> refused: {}: {}", shown(&update.name), error.one_line()));
                let _ = explain(&error, output);
            }
        }
    }
    // The app's own first: those who look at it are more than those who look at a preview.
    jobs.sort_by_key(|queued| queued.about.name() != app.name());
    let mut apps: Vec<App> = Vec::new();
    for queued in &jobs {
        if !apps.iter().any(|known| known.name() == queued.place.name()) {
            apps.push(queued.place.clone());
        }
    }
    spawn::workers(&apps)?;
    if let [queued] = jobs.as_slice() {
        return Ok(worse(worst, queued.follow(output)?));
    }
    for queued in &jobs {
        let name = queued.about.name();
        let code = queued.follow(&mut follow::Named::new(name, output)).or_else(|error| {
            // A worker that cannot go on is one app's trouble; where nobody reads this, it is over.
            write(output, &format!("=====> {name}: {}", error.one_line())).map(|()| 1)
        })?;
        worst = worse(worst, code);
    }
    Ok(worst)
}

/// A job that a hook queued.
struct Queued {
    /// The app in whose queue it is.
    place: App,
    /// The app that it is about. Where that is to be made first, it is not the one in whose queue it is, and the job comes
    /// to its queue under the same name.
    about: App,
    job: Job,
}

impl Queued {
    fn follow(&self, output: &mut dyn Write) -> Result<u8> {
        let code = follow::follow(&self.place, &self.job.id, output)?;
        if code == 0 && self.about.name() != self.place.name() && self.about.is_created() {
            return follow::follow(&self.about, &self.job.id, output);
        }
        Ok(code)
    }
}

/// 1, not live, is worse than 3, live and in need of attention.
fn worse(one: u8, other: u8) -> u8 {
    if one == 1 || other == 1 { 1 } else { one.max(other) }
}

fn ignore(app: &App, branch: &str, update: &Update, output: &mut dyn Write) {
    let what = if update.new.is_none() { " was deleted" } else { "" };
    // Nobody may be there to read it any more; the deploy is queued all the same.
    let _ = write(
        output,
        &format!("=====> ignored: {}{what} ({} deploys {branch})", shown(&update.name), app.name()),
    );
}

fn queue(parent: &App, target: Target, update: &Update, asked: &Asked, by: &str) -> Result<Queued> {
    let new = &target.revision;
    let forced = match (update.forced, &update.old) {
        (Some(forced), _) => forced,
        (None, Some(old)) => !Repository::open(&target.app.repository())?.is_ancestor(old, new),
        (None, None) => false,
    };
    let branch = target.branch.clone();
    let push = Order::Push { branch, old: update.old.clone(), new: new.clone(), forced };
    let (place, order) = match &target.claim {
        Some(claim) if branches::is_roots_to_make(claim) => {
            (parent.clone(), Order::Branch { push: Box::new(push) })
        }
        Some(claim) => {
            branches::make(claim)?;
            (target.app.clone(), push)
        }
        None => (target.app.clone(), push),
    };
    let mut job = Job::new(order, by);
    job.options = asked.options.clone();
    JobLog::open(&place, &job.id)?;
    job.put(&place)?;
    Ok(Queued { place, about: target.app, job })
}

fn queue_removal(app: &App, preview: &App, update: &Update, by: &str) -> Result<Queued> {
    let branch = update.name.strip_prefix("refs/heads/").unwrap_or(&update.name).to_owned();
    let job = Job::new(Order::RemovePreview { app: preview.name().clone(), branch }, by);
    JobLog::open(app, &job.id)?;
    job.put(app)?;
    Ok(Queued { place: app.clone(), about: app.clone(), job })
}

/// A ref's name for people: `main`, `tag v1`.
fn shown(name: &str) -> String {
    let short = name.strip_prefix("refs/heads/").map(str::to_owned);
    let tag = || name.strip_prefix("refs/tags/").map(|tag| format!("tag {tag}"));
    short.or_else(tag).unwrap_or_else(|| name.to_owned())
}

/// The only way to the pusher's terminal: whatever a sentence quotes, no control sequence passes.
fn write(output: &mut dyn Write, lines: &str) -> Result<()> {
    let lines: String = lines.lines().map(|line| text::printable(line) + "\n").collect();
    output.write_all(lines.as_bytes()).context(|| "nobody reads what is said here")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refs_with_shell_in_their_names_are_only_names() {
        let line = format!("{} {} refs/heads/$(touch x)\n", "0".repeat(40), "a".repeat(40));
        let update = &updates(line.as_bytes()).unwrap()[0];
        assert_eq!((update.name.as_str(), update.old.is_none()), ("refs/heads/$(touch x)", true));
        assert_eq!(shown(&update.name), "$(touch x)");
    }

    #[test]
    fn push_options_are_read_strictly() {
        let given = |options: &'static [&str]| {
            asked(move |name| match name {
                "GIT_PUSH_OPTION_COUNT" => Some(options.len().to_string()),
                _ => options
                    .get(name.strip_prefix("GIT_PUSH_OPTION_")?.parse::<usize>().ok()?)
                    .map(|o| (*o).to_owned()),
            })
        };
        assert!(given(&["plan", "schema=new"]).unwrap().plan);
        assert_eq!(given(&["max-pause=1m"]).unwrap().options.max_pause_ms, Some(60_000));
        for bad in ["schema=maybe", "carry=copy", "x", "max-pause=-1s", ""] {
            assert!(
                asked(|name| (name.ends_with('T')).then(|| "1".to_owned()).or(Some(bad.to_owned()))).is_err(),
                "{bad}"
            );
        }
    }
}
