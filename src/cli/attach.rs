//! `receiver attach`, `cancel`, `lock`, `unlock`: orders to, and ears on, the worker.

use clap::Args;

use super::{Global, app, talk};
use crate::app::App;
use crate::app::journal::History;
use crate::deploy::joblog::JobLog;
use crate::deploy::queue::{self, Job, Order};
use crate::deploy::{follow, spawn};
use crate::support::{Error, Result, user_name};

/// Queues a job, and follows it to its end; the answer is its exit code.
pub fn order(app: &App, order: Order, options: queue::Options) -> Result<u8> {
    let mut job = Job::new(order, &user_name());
    job.options = options;
    JobLog::open(app, &job.id)?;
    job.put(app)?;
    spawn::worker(app)?;
    follow::follow(app, &job.id, &mut std::io::stderr())
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
        let running = queue::waiting(&app)?.into_iter().find(|job| job.revision().is_some());
        let last = match running {
            Some(job) => Some(job.id),
            None => last_deploy(&History::read(&app)?),
        };
        let Some(job) = last else { return Err(Error::new(format!("{} was never deployed", app.name()))) };
        follow::follow(&app, &job, &mut std::io::stderr())
    }
}

fn last_deploy(history: &History) -> Option<String> {
    history.last_job().map(str::to_owned)
}

/// Arguments of `cancel`.
#[derive(Args)]
pub struct Cancel {
    /// The app
    app: Option<String>,
}

impl Cancel {
    /// Stops what runs and what waits.
    pub fn run(self, global: &Global) -> Result<u8> {
        order(&app::pick(global, self.app.as_deref())?, Order::Cancel, queue::Options::default())
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
}

impl Lock {
    /// Locks.
    pub fn run(self, global: &Global) -> Result<u8> {
        let app = app::pick(global, self.app.as_deref())?;
        order(&app, Order::Lock { why: self.message }, queue::Options::default())
    }
}

/// Arguments of `unlock`.
#[derive(Args)]
pub struct Unlock {
    /// The app
    app: Option<String>,
}

impl Unlock {
    /// Unlocks.
    pub fn run(self, global: &Global) -> Result<u8> {
        let app = app::pick(global, self.app.as_deref())?;
        let code = order(&app, Order::Unlock, queue::Options::default())?;
        talk::say(global, "pushes that were refused meanwhile have to be pushed again");
        Ok(code)
    }
}
