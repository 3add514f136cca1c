//! A database as one file of SQL, and the way back in.
//!
//! The rows are written by the server's own client (`mariadb-dump`, `mysqldump`), the triggers by receiver, which leaves
//! its own out: the client cannot. The last line says that all of it is there.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::database::Mysql;
use super::fence;
use super::objects;
use super::place;
use super::quote;
use super::script;
use super::session::Session;
use super::tables;
use crate::data::{Database as _, Fence, Limit, Progress, Spot};
use crate::support::{Context, Error, Result, files, text};

/// What the client's last line begins with.
const COMPLETED: &str = "-- Dump completed";
/// Receiver's own last line.
const WHOLE: &str = "-- receiver: whole";
/// How often the client is looked after.
const LOOK: Duration = Duration::from_millis(20);

/// Writes a database to a new file, synced and read back. One that fails leaves nothing.
pub(super) fn dump(
    database: &Mysql,
    to: &Path,
    limit: &Limit<'_>,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<()> {
    let cannot = |why| Error::new(format!("cannot dump the database {}", database.name())).caused_by(why);
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(to);
    let mut file = file.context(|| format!("cannot make {}", to.display())).map_err(cannot)?;
    let mut write = || -> Result<()> {
        let mut session = database.session()?;
        let tables = tables::base(&mut session, database.name())?.len();
        client(database, &mut session, &file, limit, on_progress)?;
        if !ends_with(&mut file, COMPLETED)? {
            return Err(Error::new("the client ended in the middle of the dump"));
        }
        let triggers = objects::triggers_as_sql(&mut session, database.name())?;
        let written = writeln!(file, "{triggers}{WHOLE}").and_then(|()| file.sync_all());
        written.context(|| format!("cannot write {}", to.display()))?;
        read_back(&mut file, tables)?;
        files::sync_directory(to.parent().unwrap_or(Path::new("/")))
    };
    write().map_err(|why| {
        let _ = files::remove_file(to);
        cannot(why)
    })
}

/// A file of the client's options that is gone with the value.
struct Options(PathBuf);

impl Drop for Options {
    fn drop(&mut self) {
        let _ = files::remove_file(&self.0);
    }
}

/// Writes who receiver is to a file (0600): a password in arguments is everybody's to read.
fn options(database: &Mysql) -> Result<Options> {
    let server = &database.server;
    let (admin, password) = server.login()?;
    // The client's files know the same escapes as its strings.
    let quoted = |value: &str| format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""));
    let socket = server.socket.display().to_string();
    let mut text = format!("[client]\nuser={}\nsocket={}\n", quoted(admin), quoted(&socket));
    if let Some(password) = password {
        text = format!("{text}password={}\n", quoted(&password));
    }
    let number = rustix::process::getpid().as_raw_nonzero();
    let path = server.secrets.join(format!("{}dump-{number}-{}", files::TEMPORARY, database.name()));
    files::make_directory(&server.secrets, 0o700)?;
    files::write_atomic(&path, text.as_bytes(), 0o600)?;
    Ok(Options(path))
}

/// Lets the server's client write all but triggers.
fn client(
    database: &Mysql,
    session: &mut Session,
    to: &File,
    limit: &Limit<'_>,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<()> {
    let total = place::size(session, database.name())?;
    let options = options(database)?;
    let program = if session.is_mariadb() { "mariadb-dump" } else { "mysqldump" };
    let mut command = Command::new(program);
    command.arg(format!("--defaults-file={}", options.0.display())).args([
        "--single-transaction",
        "--quick",
        "--routines",
        "--events",
        "--skip-triggers",
        "--hex-blob",
        "--default-character-set=utf8mb4",
    ]);
    if !session.is_mariadb() {
        // Either would need rights, or say something, that is the server's and not the database's.
        command.args(["--set-gtid-purged=OFF", "--no-tablespaces"]);
    }
    let file = to.try_clone().context(|| "cannot write the dump")?;
    command.arg(database.name()).stdin(Stdio::null()).stdout(file).stderr(Stdio::piped());
    let mut child =
        command.spawn().context(|| format!("cannot start {program}, which the server's packages bring"))?;
    let errors = child.stderr.take();
    let said = thread::spawn(move || {
        let mut said = Vec::new();
        let _ = errors.map(|errors| errors.take(1 << 16).read_to_end(&mut said));
        said
    });
    let mut told = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().context(|| format!("cannot wait for {program}"))? {
            break status;
        }
        if let Err(why) = limit.check() {
            let _ = child.kill();
            let _ = child.wait();
            return Err(why);
        }
        if told.elapsed() >= Duration::from_secs(1) {
            told = Instant::now();
            let done = to.metadata().map_or(0, |about| about.len()).min(total);
            on_progress(Progress { done, total });
        }
        thread::sleep(LOOK);
    };
    let said = said.join().unwrap_or_default();
    if status.success() {
        return Ok(());
    }
    let said = text::printable(String::from_utf8_lossy(&said).trim());
    let failed = Error::new(format!("{program} failed: {said}"));
    // MariaDB's packages have a program of this name, too, and no MySQL's.
    let is_mariadbs = !session.is_mariadb() && said.contains("set-gtid-purged");
    Err(if is_mariadbs {
        failed.hint(format!("{program} is MariaDB's here: install MySQL's own client (mysql-client)"))
    } else {
        failed
    })
}

/// Whether the last line of a file begins with these words.
fn ends_with(file: &mut File, words: &str) -> Result<bool> {
    let mut tail = Vec::new();
    let mut read = || -> std::io::Result<()> {
        let length = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(length.saturating_sub(200)))?;
        (&mut *file).take(200).read_to_end(&mut tail).map(drop)
    };
    read().context(|| "cannot read the dump back")?;
    let tail = String::from_utf8_lossy(&tail);
    Ok(tail.trim_end().lines().last().is_some_and(|line| line.starts_with(words)))
}

/// Proves that a dump holds this many tables, and its last line.
fn read_back(file: &mut File, tables: usize) -> Result<()> {
    file.seek(SeekFrom::Start(0)).context(|| "cannot read the dump back")?;
    let mut lines = BufReader::new(&mut *file);
    let (mut line, mut found) = (Vec::new(), 0);
    while lines.read_until(b'\n', &mut line).context(|| "cannot read the dump back")? > 0 {
        found += usize::from(line.starts_with(b"CREATE TABLE `"));
        line.clear();
    }
    if found != tables {
        return Err(Error::new(format!("the dump holds {found} tables instead of {tables}")));
    }
    if ends_with(file, WHOLE)? { Ok(()) } else { Err(Error::new("the dump is cut off")) }
}

/// Puts what a dump holds, or a file of SQL makes, in the place of what `into` holds.
///
/// It is first made in a database of its own at `scratch`, by that one's role. Then all tables change places in one
/// statement: a reader sees the old ones or the new ones. Triggers cannot change places with them: they are made anew
/// right after, and who writes in that moment meets none.
pub(super) fn load(from: &Path, into: &Mysql, scratch: &Spot, limit: &Limit<'_>) -> Result<()> {
    let cannot =
        |why| Error::new(format!("cannot load {} into {}", from.display(), into.name())).caused_by(why);
    if fence::state(into)? != Fence::Open {
        return Err(cannot(Error::new("it is retired, and takes no writes")));
    }
    let scratch = into.other(scratch);
    let prepare = || -> Result<()> {
        let mut file = File::open(from).context(|| format!("cannot open {}", from.display()))?;
        whole(&mut file)?;
        scratch.create()?;
        let name = from.display().to_string();
        script::load(&scratch, &mut BufReader::new(file), &name, limit)?;
        swap(into, &scratch, limit)
    };
    let result = prepare();
    let removed = scratch.remove();
    result.and(removed).map_err(cannot)
}

/// Refuses a dump that was cut off. What is no dump of a client's has no such end.
fn whole(file: &mut File) -> Result<()> {
    let mut head = [0; 512];
    let read = file.read(&mut head).context(|| "cannot read it")?;
    let head = String::from_utf8_lossy(&head[..read]).into_owned();
    let is_dump = head.contains("-- MariaDB dump") || head.contains("-- MySQL dump");
    let ends = !is_dump || ends_with(file, COMPLETED)? || ends_with(file, WHOLE)?;
    file.seek(SeekFrom::Start(0)).context(|| "cannot read it")?;
    if ends { Ok(()) } else { Err(Error::new("the dump is cut off: its last line is missing")) }
}

fn swap(into: &Mysql, scratch: &Mysql, limit: &Limit<'_>) -> Result<()> {
    let (live, new) = (into.name(), scratch.name());
    let mut session = into.session()?;
    let defaults = format!(
        "SELECT TABLE_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = {} AND COLUMN_DEFAULT LIKE '%nextval(%'",
        quote::text(new)
    );
    if let Some(table) = session.first::<String>(&defaults, ())? {
        let name = text::printable(&table);
        return Err(Error::new(format!(
            "table '{name}' takes its numbers from a sequence, and cannot change places"
        )));
    }
    let made = objects::all(&mut session, new)?;
    let mut moves = Vec::new();
    for (number, table) in tables::all(&mut session, live)?.iter().enumerate() {
        let old = quote::table(new, &format!("receiver_old_{number}"));
        moves.push(format!("{} TO {old}", quote::table(live, &table.name)));
    }
    for table in tables::all(&mut session, new)? {
        moves.push(format!("{} TO {}", quote::table(new, &table.name), quote::table(live, &table.name)));
    }
    limit.check()?;
    session.run("SET SESSION foreign_key_checks = 0")?;
    objects::drop_all(&mut session, new)?;
    objects::drop_all(&mut session, live)?;
    if !moves.is_empty() {
        let rename = format!("RENAME TABLE {}", moves.join(", "));
        into.server.within(&mut session, limit, |session| session.run(&rename))?;
    }
    objects::make_all(&mut session, &made, new, live)
}
