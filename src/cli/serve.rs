//! `receiver serve`: a kept release beside the live one, at a port of its own, until Ctrl-C.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use clap::Args;
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::{Global, app, talk};
use crate::app::settings::{Listen, Settings};
use crate::app::{App, ReleaseId, Version};
use crate::deploy::beside::{Beside, Data};
use crate::deploy::look::{self, Scene};
use crate::deploy::rollback;
use crate::serve::nginx::{Content, Front, Nginx, Private, Site};
use crate::support::lock::DirectoryLock;
use crate::support::{Context, Error, Result};

/// How often it is looked whether nginx is still there.
const GLANCE: Duration = Duration::from_millis(500);

/// Arguments of `serve`.
#[derive(Args)]
#[command(after_help = "\
The release runs beside what is live, behind an nginx of its own that is made as the live one's. A version that
is not live reads its own database and cannot write it; with --copy it writes a copy, which is thrown away.
Ctrl-C ends it, and nothing of it stays.

Example: receiver serve agroguia --version 3 --port 8083")]
pub struct Serve {
    /// The app
    app: Option<String>,
    /// The newest good release of this version
    #[arg(long, value_name = "N", required_unless_present = "release", conflicts_with = "release")]
    version: Option<Version>,
    /// A release (any part of its name that fits only one)
    #[arg(long, value_name = "RELEASE")]
    release: Option<String>,
    /// The port
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// The address; every one that reaches the machine by it can look
    #[arg(long, value_name = "A", default_value = "127.0.0.1")]
    address: IpAddr,
    /// Let it write to a copy of its database, which is thrown away
    #[arg(long)]
    copy: bool,
}

impl Serve {
    /// Runs it until somebody ends it.
    pub fn run(self, global: &Global) -> Result<u8> {
        let app = app::pick(global, self.app.as_deref())?;
        let scene = Scene::read(&app)?;
        let id = match (self.version, &self.release) {
            (Some(version), _) => rollback::last_of(&scene, version)?,
            (None, part) => rollback::find(&scene, part.as_deref().unwrap_or_default())?,
        };
        let record = scene
            .releases
            .sealed(&id)
            .ok_or_else(|| Error::new(format!("{id} is not a complete release")))?;
        let settings = look::settings_of(&app, record)?;
        let nginx = Nginx::find(None)?;
        let address = SocketAddr::new(self.address, self.port);
        Private::refuse_taken(address)?;
        // Prune leaves it alone for as long as somebody looks.
        let _lock = DirectoryLock::share(&app.release(&id))?
            .ok_or_else(|| Error::new(format!("{id} is being removed")))?;
        let end = End::on_signals()?;
        let beside = if settings.web.command.is_some() {
            let data = if self.copy { Data::Copy } else { Data::Own };
            let report = |line: &crate::deploy::joblog::Line| {
                line.render().into_iter().for_each(|line| talk::say(global, &line));
            };
            match Beside::start(&app, record, data, &report, &|| end.refuse()) {
                Err(_) if end.is_wanted() => return Ok(0),
                started => Some(started?),
            }
        } else {
            None
        };
        let socket = beside.as_ref().and_then(|beside| beside.socket()).map(ToOwned::to_owned);
        let site = site(&app, &id, &settings, address, socket.unwrap_or_default());
        let mut private = match Private::start(&nginx, &site, address) {
            Err(_) if end.is_wanted() => return Ok(0),
            started => started?,
        };
        let url = format!("http://{address}/");
        talk::data(
            global,
            &json!({ "app": app.name(), "release": id, "url": url }),
            std::slice::from_ref(&url),
        )?;
        talk::say(global, &format!("{id} answers there; Ctrl-C ends it"));
        while !end.wait(GLANCE) {
            if let Some(error) = private.ended()? {
                // Ctrl-C reaches it as well, and it may be the faster.
                return if end.wait(GLANCE) { Ok(0) } else { Err(error) };
            }
        }
        drop(private);
        beside.map_or(Ok(()), Beside::end)?;
        Ok(0)
    }
}

fn site(
    app: &App,
    id: &ReleaseId,
    settings: &Settings,
    address: SocketAddr,
    socket: std::path::PathBuf,
) -> Site {
    let release = app.release(id);
    let front = Front {
        domain: None,
        listen: vec![Listen::Address(address)],
        tls: None,
        challenge: None,
        versions: None,
    };
    let content = Content::of(settings, &release, socket, None);
    Site::of(app, settings, front, content, release)
}

/// Whether somebody wants it to end.
#[derive(Clone)]
struct End(Arc<(Mutex<()>, Condvar, AtomicBool)>);

impl End {
    fn on_signals() -> Result<End> {
        let end = End(Arc::new((Mutex::new(()), Condvar::new(), AtomicBool::new(false))));
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])
            .context(|| "cannot wait for signals")?;
        let told = end.clone();
        std::thread::spawn(move || {
            for _ in signals.forever() {
                told.0.2.store(true, Ordering::SeqCst);
                told.0.1.notify_all();
            }
        });
        Ok(end)
    }

    fn is_wanted(&self) -> bool {
        self.0.2.load(Ordering::SeqCst)
    }

    fn refuse(&self) -> Result<()> {
        if self.is_wanted() { Err(Error::new("it was ended")) } else { Ok(()) }
    }

    /// Waits at most so long; whether it is wanted.
    fn wait(&self, most: Duration) -> bool {
        if let Ok(guard) = self.0.0.lock()
            && !self.is_wanted()
        {
            drop(self.0.1.wait_timeout(guard, most));
        }
        self.is_wanted()
    }
}
