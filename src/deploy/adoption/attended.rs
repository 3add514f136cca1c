//! The take-over of an old application whose stop and start are somebody else's to run.
//!
//! Where the app has a user of its own, the worker is no root, and what stands in the app's state must never become
//! root's to run. So the commands stay with whoever typed them: `adopt --go` waits in the administrator's terminal, as
//! root, at a socket in a directory that only root writes to. The worker asks there for two moments, and is told when
//! each has passed. As long as the old application is stopped the connection stays: where the administrator's process
//! is gone before the switch, the deploy fails, and where the worker is gone, that process starts the old one again.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::net::RecvFlags;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{fetch, give_up, note_stopped, run, started};
use crate::app::server::ROOT_SOCKET;
use crate::app::{App, AppName};
use crate::deploy::joblog::JobLog;
use crate::deploy::stop::Stopper;
use crate::support::{Context, Error, Result, death, text};

/// How often it is looked whether somebody wants the wait to end.
const GLANCE: Duration = Duration::from_millis(100);

/// The longest line that is believed to be one.
const LONGEST: u64 = 64 << 10;

/// What the worker asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Moment {
    /// Stop the old application, and bring its data.
    Stop,
    /// Start it again.
    Start,
}

/// What it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// Something was done on the way.
    Said(String),
    /// It is done.
    Done,
    /// It is not, and why.
    Failed(String),
}

/// Where whoever takes over an app waits to be asked. Only root can make it, and whom root lets in can ask.
pub fn socket(app: &AppName) -> PathBuf {
    Path::new(ROOT_SOCKET).with_file_name(format!("adopt-{app}.sock"))
}

/// One side of the connection: a line each way.
#[derive(Debug)]
pub struct Line {
    stream: UnixStream,
    heard: Vec<u8>,
}

impl Line {
    /// Speaks over a connection.
    pub fn over(stream: UnixStream) -> Result<Line> {
        stream.set_read_timeout(Some(GLANCE)).context(|| "cannot listen to the other side")?;
        Ok(Line { stream, heard: Vec::new() })
    }

    /// Says something.
    pub fn say(&self, what: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_vec(what).context(|| "cannot write down a message")?;
        text.push(b'\n');
        (&self.stream).write_all(&text).context(|| "the other side is gone")
    }

    /// What the other side says; `None` where it is gone. `look` may end the wait.
    pub fn hear<T: DeserializeOwned>(&mut self, look: &dyn Fn() -> Result<()>) -> Result<Option<T>> {
        // What was read is kept over a wait that ends early: no byte more than the line is taken.
        let mut reader = BufReader::with_capacity(1, &self.stream).take(LONGEST);
        loop {
            match reader.read_until(b'\n', &mut self.heard) {
                Ok(_) if self.heard.last() == Some(&b'\n') => {
                    let line = std::mem::take(&mut self.heard);
                    let said = serde_json::from_slice(&line);
                    return said.map(Some).map_err(|_| Error::new("the other side says what nobody knows"));
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => look()?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => return Ok(None),
            }
        }
    }

    /// Whether the other side is still there.
    pub fn is_open(&self) -> bool {
        let mut byte = [0; 1];
        let peeked = rustix::net::recv(self.stream.as_fd(), &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT);
        match peeked {
            Ok((read, _)) => read > 0,
            Err(error) => error == rustix::io::Errno::AGAIN,
        }
    }

    /// The other side hears that we are gone.
    pub fn end(&self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

/// The old application, for the deploy that takes it over.
#[derive(Debug)]
pub struct Old {
    app: App,
    line: RefCell<Option<Line>>,
}

impl Old {
    /// That of an app, which goes on as yet.
    pub fn of(app: &App) -> Old {
        Old { app: app.clone(), line: RefCell::new(None) }
    }

    /// It is stopped, and its data is copied once more: what is built goes live with it.
    pub fn stop(&self, stopper: &Stopper<'_>, log: &JobLog) -> Result<()> {
        if self.app.user().is_none() {
            return fetch(&self.app, log);
        }
        let begun = Instant::now();
        let mut line = Line::over(connect(&self.app)?)?;
        note_stopped(&self.app, true)?;
        line.say(&Moment::Stop)?;
        let asked = passed(&mut line, &|| stopper.check(), log);
        self.line.replace(Some(line));
        asked.context(|| "the old application is not taken over")?;
        log.timed("stop", "the old application is stopped, its data is here", begun);
        death::point("adoption-stopped");
        Ok(())
    }

    /// Nothing goes live without somebody who could start it again.
    pub fn refuse_unattended(&self) -> Result<()> {
        match &*self.line.borrow() {
            Some(line) if !line.is_open() => Err(Error::new(
                "`receiver adopt --go` ended before the switch, and with it whoever could start the old application again",
            )),
            _ => Ok(()),
        }
    }

    /// The deploy failed: it is started again, where somebody said how.
    pub fn start(&self, log: &JobLog) {
        let Some(adoption) = give_up(&self.app, log) else { return };
        let again = match (self.line.take(), &adoption.start) {
            (Some(mut line), _) => line.say(&Moment::Start).and_then(|()| passed(&mut line, &|| Ok(()), log)),
            (None, Some(start)) => run(start, log),
            (None, None) => Err(Error::new("nobody said how (--start)")),
        };
        started(&self.app, &adoption, again, log);
    }
}

fn connect(app: &App) -> Result<UnixStream> {
    let nobody = || "nobody is there who stops the old application";
    UnixStream::connect(socket(app.name())).context(nobody).map_err(|error| {
        error.hint(format!(
            "`sudo receiver adopt {} --go --stop CMD --start CMD` waits until it is over",
            app.name()
        ))
    })
}

/// Waits until what was asked for is done.
fn passed(line: &mut Line, look: &dyn Fn() -> Result<()>, log: &JobLog) -> Result<()> {
    loop {
        match line.hear(look)? {
            Some(Word::Said(what)) => log.step("copy", text::printable(&what)),
            Some(Word::Done) => return Ok(()),
            Some(Word::Failed(why)) => return Err(Error::new(text::printable(&why))),
            None => return Err(Error::new("`receiver adopt --go` has ended")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_one_by_one_and_whoever_is_gone_is_noticed() {
        let (here, there) = UnixStream::pair().unwrap();
        let (here, mut there) = (Line::over(here).unwrap(), Line::over(there).unwrap());
        here.say(&Word::Said("a\nb".into())).unwrap();
        here.say(&Word::Done).unwrap();
        assert!(there.is_open());
        assert_eq!(there.hear(&|| Ok(())).unwrap(), Some(Word::Said("a\nb".into())));
        assert_eq!(there.hear(&|| Ok(())).unwrap(), Some(Word::Done));
        // A line in two parts, with a wait between them.
        (&here.stream).write_all(b"\"st").unwrap();
        assert!(there.hear::<Moment>(&|| Err(Error::new("enough"))).is_err());
        (&here.stream).write_all(b"op\"\n").unwrap();
        assert_eq!(there.hear::<Moment>(&|| Ok(())).unwrap(), Some(Moment::Stop));
        (&here.stream).write_all(b"{}\n").unwrap();
        assert!(there.hear::<Moment>(&|| Ok(())).is_err());
        assert!(there.is_open());
        drop(here);
        assert!(!there.is_open());
        assert_eq!(there.hear::<Moment>(&|| Ok(())).unwrap(), None);
    }

    #[test]
    fn a_line_without_an_end_is_not_read_for_ever() {
        let (here, there) = UnixStream::pair().unwrap();
        let mut there = Line::over(there).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || (&here).write_all(&vec![b'x'; 1 << 20]));
            assert_eq!(there.hear::<Moment>(&|| Ok(())).unwrap(), None);
            assert_eq!(there.heard.len() as u64, LONGEST);
            there.end();
            drop(there);
        });
    }
}
