//! `receiver attach`, `cancel`, `lock`, `unlock`: orders to, and ears on, the worker.

use std::io::Write;

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::request::DryRun;
use super::{Global, app, talk};
use crate::app::journal::History;
use crate::app::{App, AppName};
use crate::deploy::joblog::{self, JobLog};
use crate::deploy::queue::{self, Job, Order};
use crate::deploy::underway::Underway;
use crate::deploy::{follow, spawn};
use crate::support::{Error, Result};

/// Queues a job, and follows it to its end; the answer is its exit code.
pub fn order(global: &Global, app: &App, order: Order, options: queue::Options) -> Result<u8> {
    let mut job = Job::new(order, &global.by());
    job.options = options;
    JobLog::open(app, &job.id)?;
    job.put(app)?;
    spawn::worker(app)?;
    follow_to_end(global, app, &job.id)
}

/// What `--json` prints of a job that ended.
#[derive(Serialize)]
struct Ended<'a> {
    app: &'a AppName,
    job: &'a str,
    verdict: Option<String>,
    code: u8,
}

/// Follows a job to its end; the answer is its exit code.
pub fn follow_to_end(global: &Global, app: &App, job: &str) -> Result<u8> {
    let mut silence = std::io::sink();
    let mut errors = std::io::stderr();
    let output: &mut dyn Write = if global.quiet { &mut silence } else { &mut errors };
    let code = follow::follow(app, job, output)?;
    if global.json {
        let verdict = joblog::end(app, job).map(|(verdict, _)| verdict);
        talk::data(global, &Ended { app: app.name(), job, verdict, code }, &[])?;
    }
    Ok(code)
}

/// Arguments of `attach`.
#[derive(Args)]
pub struct Attach {
    /// The app
    app: Option<String>,
}

impl Attach {
    /// Follows the running job, or prints the last one.
    pub fn run(self, global: &Global) -> Result<u8> {
        let app = app::pick(global, self.app.as_deref())?;
        let job = match running(&app)? {
            Some(job) => Some(job),
            None => History::read(&app)?.last_deploy().map(str::to_owned),
        };
        let Some(job) = job else { return Err(Error::new(format!("{} was never deployed", app.name()))) };
        follow_to_end(global, &app, &job)
    }
}

/// The deploy that is under way; where none is, the last that waits: it is the one that will be done.
fn running(app: &App) -> Result<Option<String>> {
    let underway = Underway::read(app).ok().flatten().map(|underway| underway.job.id);
    let waiting = queue::waiting(app)?;
    let mut deploys = waiting.iter().filter(|job| job.revision().is_some());
    let job = deploys.clone().find(|job| Some(&job.id) == underway.as_ref()).or_else(|| deploys.next_back());
    Ok(job.map(|job| job.id.clone()))
}

/// The same, but where only asked for, says what would be done.
fn order_unless(dry: DryRun, global: &Global, app: &App, order: Order) -> Result<u8> {
    if !dry.dry_run {
        return self::order(global, app, order, queue::Options::default());
    }
    let name = app.name();
    let words = match order {
        Order::Cancel => match running(app)? {
            Some(job) => format!("would cancel {job}"),
            None => "nothing runs or waits".to_owned(),
        },
        Order::Lock { why } => format!("would lock {name}: {why}"),
        _ => format!("would unlock {name}"),
    };
    talk::data(global, &json!({ "dry_run": words }), std::slice::from_ref(&words))?;
    Ok(0)
}

/// Arguments of `cancel`.
#[derive(Args)]
pub struct Cancel {
    /// The app
    app: Option<String>,
    #[command(flatten)]
    dry: DryRun,
}

impl Cancel {
    /// Stops what runs and what waits.
    pub fn run(self, global: &Global) -> Result<u8> {
        order_unless(self.dry, global, &app::pick(global, self.app.as_deref())?, Order::Cancel)
    }
}

/// Arguments of `lock`.
#[derive(Args)]
pub struct Lock {
    /// The app
    app: Option<String>,
    /// Why: every push is told
    #[arg(short, long, value_name = "WHY")]
    message: String,
    #[command(flatten)]
    dry: DryRun,
}

impl Lock {
    /// Locks.
    pub fn run(self, global: &Global) -> Result<u8> {
        let app = app::pick(global, self.app.as_deref())?;
        order_unless(self.dry, global, &app, Order::Lock { why: self.message })
    }
}

/// Arguments of `unlock`.
#[derive(Args)]
pub struct Unlock {
    /// The app
    app: Option<String>,
    #[command(flatten)]
    dry: DryRun,
}

impl Unlock {
    /// Unlocks.
    pub fn run(self, global: &Global) -> Result<u8> {
        let app = app::pick(global, self.app.as_deref())?;
        let code = order_unless(self.dry, global, &app, Order::Unlock)?;
        if !self.dry.dry_run {
            talk::say(global, "pushes that were refused meanwhile have to be pushed again");
        }
        Ok(code)
    }
}
