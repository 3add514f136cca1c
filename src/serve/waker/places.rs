//! The waker's loop: who is awake, who wants to be, and who waits.

use std::collections::{BTreeMap, VecDeque};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use mio::net::{UnixListener, UnixStream};
use mio::{Events, Interest, Poll, Token};

use super::refusal::refuse;
use super::spawn::take;
use super::{Terms, Waking};
use crate::app::settings::Protocol;
use crate::app::{App, Version};
use crate::serve::relay::{Relay, listen, raise_files};
use crate::support::{Context, Result, files};

const CALL: Token = Token(0);
const FIRST_DOOR: usize = 1;
/// Tokens below are the versions' doors', those from here on are pairs.
const FIRST_PAIR: usize = 1 << 20;

/// How often is looked what is granted, and who has been idle.
const LOOK: Duration = Duration::from_secs(1);

/// How long somebody who waits for a socket that is busy waits before the next attempt.
const PAUSE: Duration = Duration::from_millis(5);

/// How long a connection waits for its version, at the most, besides the time that the start itself takes.
const SEAT: Duration = Duration::from_secs(20);

/// How long a version that did not come up is left alone.
const REST: Duration = Duration::from_secs(5);

/// How a version fares.
#[derive(Debug)]
enum State {
    Asleep,
    /// It did not come up, and is left alone until then.
    Resting(Instant),
    Waking,
    Awake {
        socket: PathBuf,
        /// When it last had a connection.
        busy: Instant,
    },
    Stopping,
}

/// A version that may be asked for.
struct Place {
    version: Version,
    protocol: Protocol,
    door: UnixListener,
    path: PathBuf,
    held: VecDeque<(UnixStream, Instant)>,
    state: State,
}

/// What a thread has to tell.
enum News {
    Woken(Version, Result<PathBuf>),
    Stopped(Version),
}

struct Waker {
    app: App,
    wake: Waking,
    poll: Poll,
    call: Arc<mio::Waker>,
    news: mpsc::Receiver<News>,
    tell: mpsc::Sender<News>,
    terms: Terms,
    places: BTreeMap<usize, Place>,
    relay: Relay,
}

/// Looks after the app's sleeping versions, until nothing is granted any more or `stop` is set (and the poll
/// loop called by a signal). Where another waker runs, there is nothing to do.
pub fn serve(app: &App, wake: Waking, stop: &AtomicBool) -> Result<()> {
    let Some(_lock) = take(app)? else { return Ok(()) };
    let Some(terms) = wake.terms()? else { return Ok(()) };
    raise_files();
    let poll = Poll::new().context(|| "cannot make a poll loop")?;
    let registry = poll.registry().try_clone().context(|| "cannot make a poll loop")?;
    let call = mio::Waker::new(poll.registry(), CALL).context(|| "cannot make a poll loop")?;
    let (tell, news) = mpsc::channel();
    let relay = Relay::new(registry, FIRST_PAIR);
    let places = BTreeMap::new();
    let mut waker =
        Waker { app: app.clone(), wake, poll, call: Arc::new(call), news, tell, terms, places, relay };
    // What a waker that died left.
    for name in files::names_in(&app.version_sockets())?.iter().filter(|name| *name != "lock") {
        files::remove_file(&app.version_sockets().join(name))?;
    }
    let result = waker.run(stop);
    waker.end();
    result
}

impl Waker {
    fn run(&mut self, stop: &AtomicBool) -> Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut looked = Instant::now();
        self.arrange()?;
        while !stop.load(Ordering::SeqCst) {
            match self.poll.poll(&mut events, Some(self.pause())) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result.context(|| "cannot wait for connections")?,
            }
            for event in &events {
                if event.token().0 >= FIRST_PAIR {
                    self.relay.event(event);
                }
            }
            self.accept();
            self.relay.go_on();
            while let Ok(news) = self.news.try_recv() {
                self.hear(news);
            }
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                match self.wake.terms() {
                    Ok(Some(terms)) => self.terms = terms,
                    Ok(None) => return Ok(()),
                    // What cannot be read for a moment, a changed file for instance, changes nothing.
                    Err(error) => log::warn!("{}", error.one_line()),
                }
                self.arrange()?;
                self.let_sleep();
            }
            self.seat();
            self.join();
        }
        Ok(())
    }

    fn pause(&self) -> Duration {
        let busy = |place: &Place| !place.held.is_empty() && matches!(place.state, State::Awake { .. });
        match () {
            () if self.relay.has_more() => Duration::ZERO,
            () if self.places.values().any(busy) => PAUSE,
            () => LOOK / 4,
        }
    }

    /// A door for each version that may be asked for, and none for others.
    fn arrange(&mut self) -> Result<()> {
        let wanted: BTreeMap<Version, Protocol> = self.terms.versions.iter().copied().collect();
        let gone: Vec<usize> = self
            .places
            .iter()
            .filter(|(_, place)| !wanted.contains_key(&place.version) && place.is_quiet())
            .map(|(token, _)| *token)
            .collect();
        for token in gone {
            if let Some(mut place) = self.places.remove(&token) {
                let _ = self.poll.registry().deregister(&mut place.door);
                files::remove_file(&place.path)?;
            }
        }
        for (version, protocol) in wanted {
            let token = (FIRST_DOOR..FIRST_PAIR).find(|token| !self.places.contains_key(token));
            let Some(token) = token else { break };
            if let Some(place) = self.places.values_mut().find(|place| place.version == version) {
                place.protocol = protocol;
                continue;
            }
            let path = self.app.version_socket(version);
            files::remove_file(&path)?;
            let mut door = listen(&path, 0o666)?;
            let registered = self.poll.registry().register(&mut door, Token(token), Interest::READABLE);
            registered.context(|| format!("cannot listen on {}", path.display()))?;
            let (held, state) = (VecDeque::new(), State::Asleep);
            self.places.insert(token, Place { version, protocol, door, path, held, state });
        }
        Ok(())
    }

    fn accept(&mut self) {
        for place in self.places.values_mut() {
            while let Ok((stream, _)) = place.door.accept() {
                place.held.push_back((stream, Instant::now()));
            }
        }
    }

    fn hear(&mut self, news: News) {
        let (version, state) = match news {
            News::Woken(version, Ok(socket)) => (version, State::Awake { socket, busy: Instant::now() }),
            News::Woken(version, Err(error)) => {
                log::warn!("version {version} cannot be woken: {}", error.one_line());
                (version, State::Resting(Instant::now() + REST))
            }
            News::Stopped(version) => (version, State::Asleep),
        };
        let resting = matches!(state, State::Resting(_));
        if let Some(place) = self.places.values_mut().find(|place| place.version == version) {
            place.state = state;
            if resting {
                place.refuse_all();
            }
        }
    }

    /// Those who were idle for long go to sleep; who is no longer granted, or live now, at once.
    fn let_sleep(&mut self) {
        let now = Instant::now();
        for place in self.places.values_mut() {
            let owner = u64::from(place.version.0);
            let connections = self.relay.count(owner) + place.held.len();
            let granted = self.terms.versions.iter().any(|(version, _)| *version == place.version);
            let live = self.terms.live == Some(place.version);
            match &mut place.state {
                State::Awake { busy, .. } if connections > 0 => *busy = now,
                State::Awake { busy, .. }
                    if !granted || live || now.duration_since(*busy) > self.terms.idle =>
                {
                    place.stop(&self.wake, &self.tell, &self.call);
                }
                State::Resting(until) if *until < now => place.state = State::Asleep,
                _ => {}
            }
        }
    }

    /// Wakes whom somebody asks for, as far as there are seats, and makes some.
    fn seat(&mut self) {
        let live = self.terms.live;
        let taken =
            |place: &Place| matches!(place.state, State::Waking | State::Awake { .. } | State::Stopping);
        loop {
            let seats =
                self.terms.awake.saturating_sub(self.places.values().filter(|place| taken(place)).count());
            let wanted = self
                .places
                .iter()
                .filter(|(_, place)| Some(place.version) != live && matches!(place.state, State::Asleep))
                .filter_map(|(token, place)| Some((place.held.front()?.1, *token)))
                .min();
            let Some((_, token)) = wanted else { break };
            if seats == 0 {
                self.make_room();
                break;
            }
            if let Some(place) = self.places.get_mut(&token) {
                place.start(&self.wake, &self.tell, &self.call);
            }
        }
        for place in self.places.values_mut() {
            match place.state {
                State::Resting(_) => place.refuse_all(),
                State::Asleep if Some(place.version) != live => place.refuse_late(),
                _ => {}
            }
        }
    }

    /// Lets the one sleep that had no connection for longest, unless one is on its way already.
    fn make_room(&mut self) {
        if self.places.values().any(|place| matches!(place.state, State::Stopping)) {
            return;
        }
        let relay = &self.relay;
        let idle = |place: &Place| place.held.is_empty() && relay.count(u64::from(place.version.0)) == 0;
        let longest = self.places.iter().filter(|(_, place)| idle(place)).filter_map(|(token, place)| {
            let State::Awake { busy, .. } = &place.state else { return None };
            Some((*busy, *token))
        });
        if let Some((_, token)) = longest.min()
            && let Some(place) = self.places.get_mut(&token)
        {
            place.stop(&self.wake, &self.tell, &self.call);
        }
    }

    /// Joins who waits for a version that is awake.
    fn join(&mut self) {
        let live = self.terms.live;
        for place in self.places.values_mut() {
            let socket = match &mut place.state {
                State::Awake { socket, busy } => {
                    *busy = if place.held.is_empty() { *busy } else { Instant::now() };
                    socket.clone()
                }
                State::Asleep if Some(place.version) == live => self.app.door(),
                _ => continue,
            };
            while let Some((stream, since)) = place.held.pop_front() {
                match UnixStream::connect(&socket) {
                    Ok(server) => drop(self.relay.join_for(u64::from(place.version.0), stream, server)),
                    Err(_) if since.elapsed() > SEAT => refuse(stream, place.protocol),
                    // A full backlog, or nobody there for a moment: those behind would fare the same.
                    Err(_) => {
                        place.held.push_front((stream, since));
                        break;
                    }
                }
            }
        }
    }

    /// Ends all that was started, and takes the doors away.
    fn end(&mut self) {
        for place in self.places.values_mut() {
            let _ = files::remove_file(&place.path);
            place.refuse_all();
        }
        for place in self.places.values() {
            if !matches!(place.state, State::Asleep | State::Resting(_))
                && let Err(error) = self.wake.stop(place.version)
            {
                log::warn!("{}", error.one_line());
            }
        }
    }
}

impl Place {
    fn is_quiet(&self) -> bool {
        self.held.is_empty() && matches!(self.state, State::Asleep | State::Resting(_))
    }

    fn start(&mut self, wake: &Waking, tell: &mpsc::Sender<News>, call: &Arc<mio::Waker>) {
        self.state = State::Waking;
        let (wake, tell, call, version) = (wake.clone(), tell.clone(), call.clone(), self.version);
        std::thread::spawn(move || {
            let _ = tell.send(News::Woken(version, wake.start(version)));
            let _ = call.wake();
        });
    }

    fn stop(&mut self, wake: &Waking, tell: &mpsc::Sender<News>, call: &Arc<mio::Waker>) {
        self.state = State::Stopping;
        let (wake, tell, call, version) = (wake.clone(), tell.clone(), call.clone(), self.version);
        std::thread::spawn(move || {
            if let Err(error) = wake.stop(version) {
                log::warn!("{}", error.one_line());
            }
            let _ = tell.send(News::Stopped(version));
            let _ = call.wake();
        });
    }

    fn refuse_all(&mut self) {
        for (stream, _) in self.held.drain(..) {
            refuse(stream, self.protocol);
        }
    }

    /// Nobody waits for a seat for ever.
    fn refuse_late(&mut self) {
        while self.held.front().is_some_and(|(_, since)| since.elapsed() > SEAT) {
            if let Some((stream, _)) = self.held.pop_front() {
                refuse(stream, self.protocol);
            }
        }
    }
}
