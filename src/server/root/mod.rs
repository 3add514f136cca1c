//! The root service: the side that answers.
//!
//! systemd starts one for each connection, as root, with the connection as its input. It asks the kernel who is at the
//! other end, reads one request, and believes nothing of it: an app is found by its name in the one root that setup wrote
//! down, its user is the one that follows from its name, every directory is opened beneath that root without following
//! a link, and what is there has to be receiver's or the app's own. It takes no path, no text of a unit and no text of a
//! site from whoever asks.

mod branch;
mod hand;
pub mod keys;
mod process;
mod run;
mod site;

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::fd::OwnedFd as Descriptor;
use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::app::server::{self, RECEIVER, Server};
use crate::app::{App, AppName, Root};
use crate::root::{self, Reply, Request};
use crate::support::accounts::Account;
use crate::support::{Context, Error, Result};

pub use run::become_it;

/// How long a request may take to come, once somebody has connected.
const COMING: Duration = Duration::from_secs(10);

/// Answers the one who is connected.
///
/// # Errors
/// Where nobody can be answered; what is refused is answered.
pub fn serve(connection: OwnedFd) -> Result<()> {
    let stream = UnixStream::from(connection);
    stream.set_read_timeout(Some(COMING)).context(|| "what is connected is no socket")?;
    let reply = answer(&stream).unwrap_or_else(|error| {
        log::warn!("refused: {}", error.one_line());
        Reply::refusal(&error)
    });
    root::send(&stream, &reply, &[])?;
    // Something that lasts as long as the connection does.
    process::wait_for_tethered(&stream);
    Ok(())
}

fn answer(stream: &UnixStream) -> Result<Reply> {
    refuse_strangers(stream)?;
    let heard = root::receive::<Request>(stream)?;
    let (request, beside) = heard.ok_or_else(|| Error::new("nothing was asked"))?;
    if !beside.is_empty() && !matches!(request, Request::Run(_) | Request::Agent { .. }) {
        return Err(Error::new("nothing belongs beside this request"));
    }
    match request {
        Request::Run(run) => run::run(&Ground::of(&run.app)?, &run, &beside, stream).map(Reply::Ended),
        Request::Agent { app } => run::agent(&Ground::of(&app)?, &beside, stream).map(Reply::Ended),
        Request::Give { app, release } => hand::give(&Ground::of(&app)?, &release).map(Reply::Done),
        Request::TakeBack { app, release } => hand::take_back(&Ground::of(&app)?, &release).map(Reply::Done),
        Request::RemoveRelease { app, release } => {
            hand::remove_release(&Ground::of(&app)?, &release).map(Reply::Done)
        }
        Request::GiveShared { app, path } => {
            hand::give_shared(&Ground::of(&app)?, path.as_path()).map(Reply::Done)
        }
        Request::Remove { app, directory } => hand::remove(&Ground::of(&app)?, &directory).map(Reply::Done),
        Request::Start { app, start, tether } => {
            process::start(&Ground::of(&app)?, &start, tether).map(|()| Reply::Done(true))
        }
        Request::Stop { app, start } => process::stop(&Ground::of(&app)?, &start).map(|()| Reply::Done(true)),
        Request::Timers { app, at } => process::timers(&Ground::of(&app)?, &at).map(|()| Reply::Done(true)),
        Request::EndTimers { app } => process::end_timers(&Ground::of(&app)?).map(|()| Reply::Done(true)),
        Request::MakeBranch { app, branch } => {
            branch::make(&Ground::of(&app)?, branch.as_str()).map(Reply::Done)
        }
        Request::EndBranch { app, keep } => branch::end(&app, keep).map(Reply::Done),
        Request::SweepBranches { app } => branch::sweep(&Ground::of(&app)?).map(Reply::Done),
        Request::Keys => keys::put_in_force().map(Reply::Done),
        Request::CertificateEnd { app } => site::certificate_end(&Ground::of(&app)?).map(Reply::Ends),
        Request::Site { app } => site::refresh(&Ground::of(&app)?).map(Reply::Done),
    }
}

/// Who is at the other end is the kernel's word: receiver, or root.
fn refuse_strangers(stream: &UnixStream) -> Result<()> {
    let peer = rustix::net::sockopt::socket_peercred(stream).context(|| "cannot tell who asks")?;
    let receiver = Account::want(RECEIVER)?;
    if peer.uid.is_root() || peer.uid.as_raw() == receiver.uid {
        return Ok(());
    }
    Err(Error::new("only the account receiver may ask for that"))
}

/// An app that setup made, and the two users that things of it may belong to.
struct Ground {
    app: App,
    receiver: Account,
    user: Account,
}

impl Ground {
    /// The app of this name, by what root knows itself.
    fn of(name: &AppName) -> Result<Ground> {
        let server = Server::read()?.ok_or_else(|| Error::new("this server was not set up"))?;
        let app = Root::find(Some(&server.root))?.open(name)?;
        let user = app.user().ok_or_else(|| Error::new(format!("{name} has no user of its own")))?;
        let user = Account::want(&user)?;
        // Whatever has such a name: no account of a person, and not root.
        if user.uid == 0 || user.home != server::home_of(name) {
            return Err(Error::new(format!("the user {} is not one that receiver made", user.name)));
        }
        Ok(Ground { app, receiver: Account::want(RECEIVER)?, user })
    }

    /// Opens a directory of the app, relative to its own; no symlink is followed on the way.
    fn open(&self, path: &std::path::Path) -> Result<Descriptor> {
        let place = self.app.directory().join(path);
        let cannot = || format!("cannot open {}", place.display());
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open(self.app.root(), flags, Mode::empty()).context(cannot)?;
        let beneath = std::path::Path::new(self.app.name().as_str()).join(path);
        let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let opened = rustix::fs::openat2(&root, &beneath, flags, Mode::empty(), inside).context(cannot)?;
        self.refuse_foreign(&opened).context(cannot)?;
        Ok(opened)
    }

    /// Only what is receiver's or the app's user's is touched.
    fn refuse_foreign(&self, of: &impl AsFd) -> Result<rustix::fs::Stat> {
        let about = rustix::fs::fstat(of).context(|| "cannot look at it")?;
        if about.st_uid == self.receiver.uid || about.st_uid == self.user.uid {
            return Ok(about);
        }
        Err(Error::new(format!(
            "it belongs to user {}, neither receiver nor {}",
            about.st_uid, self.user.name
        )))
    }
}
