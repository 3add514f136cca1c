//! The take-over of an old application on a server that setup made: the administrator's side of it.
//!
//! It runs as root, in the terminal of whoever typed it, and waits there until the deploy has its verdict. The commands
//! that stop and start the old application are what was typed, and stand nowhere else. What comes from the worker is one
//! of two words (`deploy::adoption::attended`).

use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::adoption::Original;
use super::identity::as_receiver;
use crate::app::guard::Guard;
use crate::app::server::RECEIVER;
use crate::app::settings::Settings;
use crate::app::{App, ReleaseId, Revision, record};
use crate::deploy::adoption;
use crate::deploy::adoption::attended::{self, Line, Moment, Word};
use crate::deploy::joblog::JobLog;
use crate::deploy::look::{self, Scene};
use crate::deploy::queue::{Job, Options, Order};
use crate::deploy::{follow, joblog, site, spawn};
use crate::serve::nginx::Nginx;
use crate::serve::nginx::rivals::{self, Rival};
use crate::support::accounts::Account;
use crate::support::{Context, Error, Result, files};

/// How often it is looked whether something happened.
const GLANCE: Duration = Duration::from_millis(50);

/// What the administrator typed.
#[derive(Debug)]
pub struct Wish {
    /// What stops the old application.
    pub stop: String,
    /// What starts it again.
    pub start: Option<String>,
    /// The files with its sites in nginx.
    pub sites: Vec<PathBuf>,
    /// Who it is.
    pub by: String,
}

/// An old site, and the name that hides it from nginx: what begins with a dot is in no `include DIR/*`.
#[derive(Debug)]
pub struct Aside {
    /// The file.
    pub file: PathBuf,
    /// Where it lies when it was taken over.
    pub hidden: PathBuf,
}

/// A take-over that can begin.
pub struct TakeOver {
    app: App,
    original: Original,
    wish: Wish,
    /// What is live, and is built once more.
    revision: Revision,
    branch: String,
    sites: Vec<Aside>,
    /// What was live when the old application was stopped.
    before: Option<ReleaseId>,
    stopped: bool,
}

/// How the deploy ended.
#[derive(Debug)]
pub struct Ended {
    /// Its job.
    pub job: String,
    /// Its last line.
    pub verdict: Option<String>,
    /// The exit code.
    pub code: u8,
}

/// What is there of the app, as receiver sees it.
struct Scenery {
    revision: Revision,
    branch: String,
    settings: Settings,
}

impl TakeOver {
    /// Looks whether it can be, and changes nothing. `warn` is told what is to be known besides.
    pub fn plan(app: &App, wish: Wish, warn: &mut dyn FnMut(&str)) -> Result<TakeOver> {
        let original = Original::of(app.name())?;
        let of = app.clone();
        let there = as_receiver(move || {
            adoption::of(&of)?;
            let scene = Scene::read(&of)?;
            let live = scene.live_record(&of)?.ok_or_else(|| {
                Error::new("nothing is live yet: the first release is tried before it takes over")
                    .hint("push, and look at it")
            })?;
            let settings = look::server_settings(&of)?;
            let branch = settings.branch.as_str().to_owned();
            Ok(Scenery { revision: live.revision.clone(), branch, settings })
        })?;
        let sites = old_sites(app, &there.settings, &wish, warn)?;
        let Scenery { revision, branch, .. } = there;
        Ok(TakeOver {
            app: app.clone(),
            original,
            wish,
            revision,
            branch,
            sites,
            before: None,
            stopped: false,
        })
    }

    /// What it will do, in a line.
    pub fn words(&self) -> String {
        let what = self.original.database.as_deref().unwrap_or("the files");
        let sites: String =
            self.sites.iter().map(|site| format!(", put {} aside", site.file.display())).collect();
        format!(
            "would build {} again, run `{}`{sites}, copy {what} afresh, and go live with it",
            self.revision.short(),
            self.wish.stop
        )
    }

    /// The old sites that it takes over.
    pub fn sites(&self) -> &[Aside] {
        &self.sites
    }

    /// Has it deployed, and is there until that has its verdict, which is the answer; `output` gets what is said of it.
    pub fn run(mut self, output: Box<dyn Write + Send>, say: &dyn Fn(&str)) -> Result<Ended> {
        let end = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&end)).context(|| "cannot wait for signals")?;
        }
        let door = Door::open(&self.app)?;
        let job = self.order()?;
        let following = self.follow(job.clone(), output);
        let mut cancelled = false;
        while !following.is_finished() {
            if end.load(Ordering::SeqCst) && !cancelled {
                cancelled = true;
                say("it is cancelled; the old application goes on, or is started again");
                if let Err(error) = self.cancel() {
                    log::warn!("{}", error.one_line());
                }
            }
            match door.0.accept() {
                Ok((stream, _)) if !cancelled => self.attend(stream, &end, say),
                Err(error) if error.kind() != ErrorKind::WouldBlock => {
                    log::warn!("nobody can ask: {error}");
                    std::thread::sleep(GLANCE);
                }
                _ => std::thread::sleep(GLANCE),
            }
        }
        let code = following.join().map_err(|_| Error::new("the thread that follows the deploy died"))?;
        drop(door);
        self.conclude(say)?;
        let (app, of) = (self.app.clone(), job.clone());
        let verdict = as_receiver(move || Ok(joblog::end(&app, &of).map(|(verdict, _)| verdict)))?;
        Ok(Ended { job, verdict, code: code? })
    }

    /// Queues the deploy.
    fn order(&self) -> Result<String> {
        let (app, by) = (self.app.clone(), self.wish.by.clone());
        let order =
            Order::Deploy { branch: self.branch.clone(), revision: self.revision.clone(), reconcile: false };
        as_receiver(move || {
            adoption::prepare(&app, &by, None, None)?;
            queued(&app, order, &by, Options { adopts: true, ..Options::default() })
        })
    }

    fn cancel(&self) -> Result<()> {
        let (app, by) = (self.app.clone(), self.wish.by.clone());
        as_receiver(move || queued(&app, Order::Cancel, &by, Options::default())).map(drop)
    }

    /// Whatever becomes of the terminal, the deploy is followed to its end.
    fn follow(&self, job: String, output: Box<dyn Write + Send>) -> JoinHandle<Result<u8>> {
        let app = self.app.clone();
        std::thread::spawn(move || as_receiver(move || follow::follow(&app, &job, &mut Patient(output))))
    }

    /// Does what the worker asks for, until that has ended.
    fn attend(&mut self, stream: UnixStream, end: &AtomicBool, say: &dyn Fn(&str)) {
        let ended = || if end.load(Ordering::SeqCst) { Err(Error::new("it was ended")) } else { Ok(()) };
        let talked = refuse_strangers(&stream).and_then(|()| Line::over(stream)).and_then(|mut line| {
            while let Some(moment) = line.hear::<Moment>(&ended)? {
                let done = match moment {
                    Moment::Stop => self.stop(&line),
                    Moment::Start => self.start(),
                };
                let word = done.map_or_else(|error| Word::Failed(error.one_line()), |()| Word::Done);
                line.say(&word)?;
            }
            Ok(())
        });
        if let Err(error) = talked {
            log::info!("{}", error.one_line());
        }
        // Where it was ended, what has become of the deploy is waited for.
        if self.stopped && !end.load(Ordering::SeqCst) && !self.is_live() {
            say("the worker is gone");
            self.start_and_say(say);
        }
    }

    fn stop(&mut self, line: &Line) -> Result<()> {
        if self.stopped {
            return Err(Error::new("it is stopped already"));
        }
        self.before = self.live()?;
        self.stopped = true;
        run(&self.wish.stop).context(|| "the old application cannot be stopped")?;
        for site in self.sites.iter().filter(|site| files::exists(&site.file)) {
            files::move_new(&site.file, &site.hidden)?;
        }
        self.original.copy(&self.app, &mut |text| drop(line.say(&Word::Said(text.to_owned()))))
    }

    fn start(&mut self) -> Result<()> {
        if !self.stopped {
            return Ok(());
        }
        for site in self.sites.iter().filter(|site| files::exists(&site.hidden)) {
            files::move_new(&site.hidden, &site.file)?;
        }
        match &self.wish.start {
            Some(start) => run(start)?,
            None => return Err(Error::new("nobody said how (--start)")),
        }
        self.stopped = false;
        Ok(())
    }

    fn start_and_say(&mut self, say: &dyn Fn(&str)) {
        match self.start() {
            Ok(()) => say("the old application is started again"),
            Err(error) => say(&format!("THE OLD APPLICATION IS STOPPED: {}", error.one_line())),
        }
    }

    fn live(&self) -> Result<Option<ReleaseId>> {
        let app = self.app.clone();
        as_receiver(move || record::live(&app))
    }

    /// Whether the switch happened since the old application was stopped.
    fn is_live(&self) -> bool {
        self.live().is_ok_and(|live| live.is_some() && live != self.before)
    }

    /// The deploy has ended: one of the two runs.
    fn conclude(&mut self, say: &dyn Fn(&str)) -> Result<()> {
        if self.stopped && self.is_live() {
            return super::adoption::forget(self.app.name());
        }
        if self.stopped {
            self.start_and_say(say);
        }
        let (app, stopped) = (self.app.clone(), self.stopped);
        as_receiver(move || {
            let _guard = Guard::wait(&app, "the end of an adoption", |_| {})?;
            if adoption::is_pending(&app) { adoption::note_stopped(&app, stopped) } else { Ok(()) }
        })
    }
}

fn queued(app: &App, order: Order, by: &str, options: Options) -> Result<String> {
    let mut job = Job::new(order, by);
    job.options = options;
    JobLog::open(app, &job.id)?;
    job.put(app)?;
    spawn::worker(app)?;
    Ok(job.id)
}

/// The sites that nginx has for the app's host, each of which has to be named: it would have two of one name.
fn old_sites(app: &App, settings: &Settings, wish: &Wish, warn: &mut dyn FnMut(&str)) -> Result<Vec<Aside>> {
    let name = app.name();
    // What the app's settings name is receiver's to say, and no file of root's follows from it.
    let own = settings.nginx.site.is_some() || settings.nginx.config.is_some();
    let Some(domain) = settings.domain.as_ref().filter(|_| !own) else {
        if !wish.sites.is_empty() {
            return Err(Error::usage(format!(
                "{name} has no site of receiver's that could take the old one's place"
            ))
            .hint(format!("`sudo receiver config {name} domain HOST`")));
        }
        warn("nginx is left alone: the app has no domain that receiver looks after");
        return Ok(Vec::new());
    };
    let nginx = Nginx::find(None)?;
    let all = rivals::rivals(&nginx, &site::file(app, settings), domain)?;
    // One that a take-over put aside which was killed.
    let (left, named): (Vec<&PathBuf>, Vec<&PathBuf>) =
        wish.sites.iter().partition(|file| !files::exists(file) && files::exists(&hidden(file)));
    if let Some(strange) = named.iter().find(|file| !all.iter().any(|rival| rival.file == ***file)) {
        let known: Vec<String> = all.iter().map(|rival| rival.file.display().to_string()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(Error::usage(format!("{} is no site of {domain} that nginx reads", strange.display()))
            .hint(format!("it has: {known}")));
    }
    if let Some(rival) = all.iter().find(|rival| !wish.sites.contains(&rival.file)) {
        return Err(Error::new(format!(
            "nginx has a site of {domain} already, in {}, and goes on with one of two",
            rival.file.display()
        ))
        .hint(format!("with `--old-site {}` it is put aside at the take-over", rival.file.display())));
    }
    all.iter().try_for_each(|rival| refuse_lost_certificate(app, settings, rival, warn))?;
    let files = all.into_iter().map(|rival| rival.file).chain(left.into_iter().cloned());
    Ok(files.map(|file| Aside { hidden: hidden(&file), file }).collect())
}

/// Who comes by https must not find nothing.
fn refuse_lost_certificate(
    app: &App,
    settings: &Settings,
    rival: &Rival,
    warn: &mut dyn FnMut(&str),
) -> Result<()> {
    let (name, file) = (app.name(), rival.file.display());
    if !rival.others.is_empty() {
        warn(&format!("{file} answers for {}, too, and then nobody does", rival.others.join(", ")));
    }
    match &rival.certificate {
        Some((chain, key)) if settings.nginx.certificate.is_none() => Err(Error::new(format!(
            "{file} has a certificate, and {name} has none: nobody could come by https"
        ))
        .hint(format!(
            "`sudo receiver config {name} nginx.certificate {chain} nginx.certificate_key {key}`"
        ))),
        _ => Ok(()),
    }
}

fn hidden(file: &Path) -> PathBuf {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!(".{name}.before-receiver"))
}

/// Runs what was typed; what it prints is for whoever typed it.
fn run(command: &str) -> Result<()> {
    let status = Command::new("/bin/sh")
        .args(["-c", command])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .context(|| "cannot start it")?;
    if status.success() {
        return Ok(());
    }
    Err(Error::new(format!("`{command}` failed: {status}")))
}

/// Where the worker asks.
struct Door(UnixListener, PathBuf);

impl Door {
    fn open(app: &App) -> Result<Door> {
        let path = attended::socket(app.name());
        if UnixStream::connect(&path).is_ok() {
            return Err(Error::new(format!("`adopt {} --go` is under way already", app.name())));
        }
        files::remove_file(&path)?;
        let cannot = || format!("cannot listen at {}", path.display());
        let listener = UnixListener::bind(&path).context(cannot)?;
        listener.set_nonblocking(true).context(cannot)?;
        std::os::unix::fs::chown(&path, None, Some(Account::want(RECEIVER)?.gid)).context(cannot)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660)).context(cannot)?;
        Ok(Door(listener, path))
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ = files::remove_file(&self.1);
    }
}

/// Who asks is the kernel's word.
fn refuse_strangers(stream: &UnixStream) -> Result<()> {
    stream.set_nonblocking(false).context(|| "cannot listen to who asks")?;
    let peer = rustix::net::sockopt::socket_peercred(stream).context(|| "cannot tell who asks")?;
    if peer.uid.is_root() || peer.uid.as_raw() == Account::want(RECEIVER)?.uid {
        return Ok(());
    }
    Err(Error::new("only the account receiver may ask for that"))
}

/// What nobody reads is no reason to stop.
struct Patient(Box<dyn Write + Send>);

impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(self.0.write(bytes).unwrap_or(bytes.len()))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let _ = self.0.flush();
        Ok(())
    }
}
