//! The holder: the process that keeps connections while the door is closed.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use mio::net::{UnixListener, UnixStream};
use mio::{Events, Interest, Poll, Token};
use rustix::fd::OwnedFd;
use rustix::process::{Resource, Rlimit, Signal};

use super::control::{self, LONGEST_LINE};
use super::{JOINING, Released};
use crate::app::{App, guard};
use crate::serve::door;
use crate::serve::relay::{Relay, listen, raise_files};
use crate::support::{Context, Result, files};

const DOOR: Token = Token(0);
const CONTROL_DOOR: Token = Token(1);
const CONTROL: Token = Token(2);
const FIRST_PAIR: usize = 4;

/// How often door and worker are looked at.
const GLANCE: Duration = Duration::from_millis(20);

/// How long a full backlog of the new socket is left alone before the next attempt.
const PAUSE: Duration = Duration::from_millis(2);

/// How long a held connection is offered to what is live, before it is given up.
const OFFERED: Duration = Duration::from_secs(30);

/// How long our socket stays after the door led elsewhere: who looked the door up just before still
/// arrives.
const LATE: Duration = Duration::from_secs(1);

/// What a holder is told.
#[derive(Debug)]
pub struct Orders {
    /// The app.
    pub app: App,
    /// Its own name.
    pub id: String,
    /// How long the door is to be closed at the most.
    pub most: Duration,
    /// How much longer a worker may take, and how long recovery may take.
    pub grace: Duration,
}

/// A connection that waits.
struct Held {
    stream: UnixStream,
    since: Instant,
}

/// The worker that closed the door.
struct Worker {
    stream: UnixStream,
    process: Option<OwnedFd>,
    line: Vec<u8>,
}

/// Where the hold stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The door does not lead here yet.
    Ready,
    /// The door leads here.
    Closed,
    /// The door led here, and leads elsewhere now.
    Open(Instant),
}

struct Holder<'a> {
    orders: Orders,
    start_worker: &'a dyn Fn(&App) -> Result<()>,
    begun: Instant,
    files: Rlimit,
    poll: Poll,
    door: Option<UnixListener>,
    control_door: Option<UnixListener>,
    worker: Option<Worker>,
    /// Since when the worker is gone.
    alone: Option<Instant>,
    started: bool,
    phase: Phase,
    held: VecDeque<Held>,
    relay: Relay,
    account: Released,
    last_arrival: Instant,
    /// Until when the worker wants to be told what became of the connections.
    told_by: Option<Instant>,
}

/// Holds what comes, until the door leads elsewhere and the last connection that it joined has ended.
/// `start_worker` starts a worker that recovers the app.
pub fn hold(orders: Orders, start_worker: &dyn Fn(&App) -> Result<()>) -> Result<()> {
    let mut holder = Holder::new(orders, start_worker)?;
    let result = holder.run();
    holder.close_own_door();
    result
}

impl<'a> Holder<'a> {
    fn new(orders: Orders, start_worker: &'a dyn Fn(&App) -> Result<()>) -> Result<Holder<'a>> {
        let files = raise_files();
        let poll = Poll::new().context(|| "cannot make a poll loop")?;
        let registry = poll.registry().try_clone().context(|| "cannot make a poll loop")?;
        // Whoever may reach the directory may ask, as with the application's own socket.
        let mut door = listen(&orders.app.hold_socket(&orders.id), 0o666)?;
        let mut control_door = listen(&orders.app.hold_control(&orders.id), 0o600)?;
        for (listener, token) in [(&mut door, DOOR), (&mut control_door, CONTROL_DOOR)] {
            poll.registry().register(listener, token, Interest::READABLE).context(|| "cannot listen")?;
        }
        let now = Instant::now();
        Ok(Holder {
            orders,
            start_worker,
            begun: now,
            files,
            poll,
            door: Some(door),
            control_door: Some(control_door),
            worker: None,
            alone: None,
            started: false,
            phase: Phase::Ready,
            held: VecDeque::new(),
            relay: Relay::new(registry, FIRST_PAIR),
            account: Released { held: 0, longest: Duration::ZERO, lost: 0, waiting: 0 },
            last_arrival: now,
            told_by: None,
        })
    }

    fn run(&mut self) -> Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut looked = Instant::now();
        while !self.is_over() {
            match self.poll.poll(&mut events, self.pause()) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result.context(|| "cannot wait for connections")?,
            }
            let mut open = false;
            for event in &events {
                match event.token() {
                    DOOR => {}
                    CONTROL_DOOR => self.meet_worker(),
                    CONTROL => open |= self.listen_to_worker(),
                    _ => self.relay.event(event),
                }
            }
            self.accept();
            self.relay.go_on();
            if open || looked.elapsed() >= GLANCE {
                looked = Instant::now();
                self.look(open);
                self.watch_worker();
            }
            if let Phase::Open(since) = self.phase {
                self.join();
                self.tell();
                self.leave(since);
            }
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Open(_))
            && self.door.is_none()
            && self.held.is_empty()
            && self.relay.len() == 0
    }

    fn pause(&self) -> Option<Duration> {
        match self.phase {
            _ if self.relay.has_more() => Some(Duration::ZERO),
            Phase::Open(_) if !self.held.is_empty() => Some(PAUSE),
            Phase::Open(_) if self.door.is_none() && self.told_by.is_none() => None,
            _ => Some(GLANCE),
        }
    }

    /// Takes all connections that are there. Where there are too many files, the kernel keeps the rest.
    fn accept(&mut self) {
        let Some(door) = &self.door else { return };
        loop {
            match door.accept() {
                Ok((stream, _)) => {
                    self.last_arrival = Instant::now();
                    self.held.push_back(Held { stream, since: self.last_arrival });
                    if !matches!(self.phase, Phase::Open(_)) {
                        self.account.held += 1;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    if error.kind() != ErrorKind::WouldBlock {
                        log::warn!("cannot accept a connection: {error}");
                    }
                    return;
                }
            }
        }
    }

    /// The worker introduces itself: the first who comes, and nobody after it.
    fn meet_worker(&mut self) {
        let Some(door) = &self.control_door else { return };
        while let Ok((mut stream, _)) = door.accept() {
            if self.worker.is_some() || self.alone.is_some() {
                continue;
            }
            let process = control::peer(&stream);
            let met = self.poll.registry().register(&mut stream, CONTROL, Interest::READABLE);
            if met.is_ok() && stream.write_all(b"ready\n").is_ok() {
                self.worker = Some(Worker { stream, process, line: Vec::new() });
            }
        }
    }

    /// Hears what the worker says. Whether it opened the door.
    fn listen_to_worker(&mut self) -> bool {
        let mut open = false;
        let Some(worker) = &mut self.worker else { return false };
        let mut bytes = [0; 256];
        loop {
            match worker.stream.read(&mut bytes) {
                Ok(0) => break,
                Ok(read) => {
                    for byte in &bytes[..read] {
                        match byte {
                            b'\n' => {
                                match worker.line.as_slice() {
                                    b"ping" => drop(worker.stream.write_all(b"pong\n")),
                                    b"open" => open = true,
                                    _ => {}
                                }
                                worker.line.clear();
                            }
                            byte if worker.line.len() < LONGEST_LINE => worker.line.push(*byte),
                            _ => {}
                        }
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return open,
                Err(_) => break,
            }
        }
        if let Some(mut worker) = self.worker.take() {
            let _ = self.poll.registry().deregister(&mut worker.stream);
        }
        self.alone = Some(Instant::now());
        open
    }

    /// Looks where the door leads to. `told`: the worker says that it opened it.
    fn look(&mut self, told: bool) {
        let leads_here = door::is_held_by(&self.orders.app, &self.orders.id);
        self.phase = match self.phase {
            Phase::Open(since) => Phase::Open(since),
            _ if leads_here => Phase::Closed,
            Phase::Ready if !told && self.alone.is_none() && self.begun.elapsed() < self.longest() => {
                Phase::Ready
            }
            _ => Phase::Open(Instant::now()),
        };
        if told {
            self.told_by = Some(Instant::now() + JOINING);
        }
    }

    /// How long a worker may be at it.
    fn longest(&self) -> Duration {
        self.orders.most + self.orders.grace
    }

    /// Nobody may forget to open the door.
    fn watch_worker(&mut self) {
        if self.phase != Phase::Closed {
            return;
        }
        match (self.alone, &self.worker) {
            (None, worker) if self.begun.elapsed() > self.longest() => {
                log::warn!("the worker did not open the door in time: it is killed");
                let process = worker.as_ref().and_then(|worker| worker.process.as_ref());
                let killed = process
                    .is_some_and(|process| rustix::process::pidfd_send_signal(process, Signal::KILL).is_ok());
                // Its end is heard of on the control connection; where it cannot be killed, it is passed over.
                if !killed {
                    self.alone = Some(Instant::now());
                }
            }
            (Some(since), _) => {
                if !self.started && guard::holder(&self.orders.app).is_none() {
                    self.started = true;
                    log::warn!("the worker died while the door was closed: another one is started");
                    self.start_worker();
                }
                let over = self.begun + self.longest();
                if Instant::now() > over.max(since + self.orders.grace) {
                    log::warn!("nobody opens the door: it is opened now");
                    if let Err(error) = door::open(&self.orders.app) {
                        log::error!("{}", error.one_line());
                    }
                    self.look(false);
                }
            }
            (None, _) => {}
        }
    }

    /// Starts a worker, with the limit of files that we began with if that can be: programs of old times cannot
    /// live with a higher one.
    fn start_worker(&self) {
        let raised = rustix::process::getrlimit(Resource::Nofile);
        let _ = rustix::process::setrlimit(Resource::Nofile, self.files);
        let started = (self.start_worker)(&self.orders.app);
        let _ = rustix::process::setrlimit(Resource::Nofile, raised);
        if let Err(error) = started.or_else(|_| (self.start_worker)(&self.orders.app)) {
            log::error!("{}", error.one_line());
        }
    }

    /// Joins what was held to what the door leads to, in the order in which it came.
    fn join(&mut self) {
        let door = self.orders.app.door();
        while let Some(held) = self.held.pop_front() {
            let waited = held.since.elapsed();
            let joined = UnixStream::connect(&door);
            match joined {
                Ok(server) => {
                    self.account.longest = self.account.longest.max(waited);
                    if self.relay.join(held.stream, server).is_err() {
                        self.account.lost += 1;
                    }
                }
                Err(_) if self.offered(held.since) > OFFERED => self.account.lost += 1,
                // A full backlog, or nobody there yet: those behind would fare the same.
                Err(_) => {
                    self.held.push_front(held);
                    return;
                }
            }
        }
    }

    /// For how long a connection has been offered to what is live.
    fn offered(&self, since: Instant) -> Duration {
        match self.phase {
            Phase::Open(opened) => since.max(opened).elapsed(),
            _ => Duration::ZERO,
        }
    }

    /// Tells the worker what became of the connections, when all are joined or its time is over.
    fn tell(&mut self) {
        let Some(by) = self.told_by else { return };
        if !self.held.is_empty() && Instant::now() < by {
            return;
        }
        self.told_by = None;
        self.account.waiting = self.held.len() as u64;
        if let Some(worker) = &mut self.worker {
            let _ = worker.stream.write_all(control::write_released(&self.account).as_bytes());
        }
    }

    /// Closes our own door when nobody comes any more.
    fn leave(&mut self, since: Instant) {
        if self.door.is_some() && since.max(self.last_arrival).elapsed() > LATE {
            self.close_own_door();
        }
    }

    fn close_own_door(&mut self) {
        let Some(mut door) = self.door.take() else { return };
        let _ = files::remove_file(&self.orders.app.hold_socket(&self.orders.id));
        let _ = files::remove_file(&self.orders.app.hold_control(&self.orders.id));
        while let Ok((stream, _)) = door.accept() {
            self.held.push_back(Held { stream, since: Instant::now() });
        }
        let _ = self.poll.registry().deregister(&mut door);
        if let Some(mut door) = self.control_door.take() {
            let _ = self.poll.registry().deregister(&mut door);
        }
    }
}
