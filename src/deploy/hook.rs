//! What git's hooks do: pre-receive refuses what cannot be deployed, post-receive queues and watches.
//!
//! Neither runs anything that was pushed, and neither holds a lock. Every ref of a push gets one
//! verdict line.

use std::io::Write;

use super::joblog::JobLog;
use super::look::{self, Scene, Submodules};
use super::queue::{Job, Options, Order};
use super::{follow, spawn};
use crate::app::{App, Revision};
use crate::support::{Context, Error, Result, text};
use crate::vcs::Repository;

/// One line of what a hook is told: a ref, and where it moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// Its full name.
    pub name: String,
    /// Its tip before; absent where it is new.
    pub old: Option<Revision>,
    /// Its tip after; absent where it is deleted.
    pub new: Option<Revision>,
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
        updates.push(Update { name: name.to_owned(), old: tip(old)?, new: tip(new)? });
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

/// Whether the push goes through: `false` refuses all of it, with a verdict line for each ref.
pub fn pre_receive(
    app: &App,
    updates: &[Update],
    asked: Result<Asked>,
    output: &mut dyn Write,
) -> Result<bool> {
    let (update, judged) = match (look::server_settings(app), asked) {
        (Err(error), _) | (Ok(_), Err(error)) => (None, Err(error)),
        (Ok(settings), Ok(asked)) => {
            let branch = settings.branch.as_str();
            let deployed = format!("refs/heads/{branch}");
            let update = updates.iter().find(|update| update.name == deployed);
            let judged = match update {
                Some(update) => judge(app, branch, update, &asked, output),
                None if asked.plan => Err(Error::new(format!(
                    "nothing in this push is deployed: {} deploys {branch}",
                    app.name()
                ))),
                None => Ok(()),
            };
            (update, judged)
        }
    };
    let Err(refusal) = judged else { return Ok(true) };
    let message = refusal.to_string();
    let (first, more) = message.split_once('\n').unwrap_or((&message, ""));
    for one in updates {
        match update {
            Some(judged) if judged.name != one.name => {
                let with = shown(&judged.name);
                write(output, &format!("=====> refused: {}, together with {with}", shown(&one.name)))?;
            }
            _ => write(output, &format!("=====> refused: {}: {first}", shown(&one.name)))?,
        }
    }
    for line in more.lines() {
        write(output, &format!("       {line}"))?;
    }
    for cause in refusal.causes() {
        write(output, &format!("       caused by: {cause}"))?;
    }
    if let Some(hint) = refusal.innermost_hint() {
        write(output, &format!("       {}", format!("hint: {hint}").replace('\n', "\n       ")))?;
    }
    Ok(false)
}

fn judge(app: &App, branch: &str, update: &Update, asked: &Asked, output: &mut dyn Write) -> Result<()> {
    let Some(revision) = &update.new else {
        return Err(Error::new(format!("{} deploys {branch}, which cannot be deleted", app.name())).hint(
            format!("on the server, `receiver config {} branch OTHER` deploys another one", app.name()),
        ));
    };
    let repository = Repository::open_in_hook(&app.repository())?;
    if let Some(why) = repository.refuse_non_commit(revision) {
        return Err(Error::new(why));
    }
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
    let request =
        look::Request { revision, options: &asked.options, again: false, submodules: Submodules::Judge };
    let look = look::at(app, &repository, &scene, &request)?;
    if asked.plan {
        for line in look.plan.words() {
            write(output, &format!("       {line}"))?;
        }
        return Err(Error::new("this was only the plan; nothing was pushed"));
    }
    Ok(())
}

/// Queues what is to be deployed, and follows it. Returns the exit code.
pub fn post_receive(
    app: &App,
    updates: &[Update],
    asked: &Asked,
    by: &str,
    output: &mut dyn Write,
) -> Result<u8> {
    let settings = look::server_settings(app)?;
    let branch = settings.branch.as_str();
    let deployed = format!("refs/heads/{branch}");
    let mut job = None;
    for update in updates {
        match &update.new {
            Some(new) if update.name == deployed => job = Some(queue(app, branch, update, new, asked, by)?),
            _ => ignore(app, branch, update, output),
        }
    }
    let Some(job) = job else { return Ok(0) };
    spawn::worker(app)?;
    follow::follow(app, &job.id, output)
}

fn ignore(app: &App, branch: &str, update: &Update, output: &mut dyn Write) {
    let what = if update.new.is_none() { " was deleted" } else { "" };
    // Nobody may be there to read it any more; the deploy is queued all the same.
    let _ = write(
        output,
        &format!("=====> ignored: {}{what} ({} deploys {branch})", shown(&update.name), app.name()),
    );
}

fn queue(app: &App, branch: &str, update: &Update, new: &Revision, asked: &Asked, by: &str) -> Result<Job> {
    let forced = match &update.old {
        Some(old) => !Repository::open(&app.repository())?.is_ancestor(old, new),
        None => false,
    };
    let order = Order::Push { branch: branch.to_owned(), old: update.old.clone(), new: new.clone(), forced };
    let mut job = Job::new(order, by);
    job.options = asked.options.clone();
    JobLog::open(app, &job.id)?;
    job.put(app)?;
    Ok(job)
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
