//! Brings the text of a site into nginx's configuration, or leaves everything as it was.
//!
//! Why the order is safe: nginx judges its configuration before anything is written, so that whatever it
//! finds afterwards is ours; then with only our file new. A running nginx goes on with what it has loaded
//! until it is told; and where it does not load the new one, our file becomes again what it was.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::check::Nginx;
use crate::support::{Context, Error, Result, files};

/// How long nginx may take to load a configuration: a port that is taken it tries five times, half a second
/// each (ngx_open_listening_sockets).
const LOADING: Duration = Duration::from_secs(15);

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installed {
    /// The file had this text already.
    Unchanged,
    /// It is written, and nginx has loaded it.
    Loaded,
    /// It is written; nginx does not run, and reads it when it starts.
    NotRunning,
}

/// Writes `text` to `file`, which nginx includes, and lets it load it.
pub fn install(nginx: &Nginx, file: &Path, text: &str) -> Result<Installed> {
    let before = files::read_text(file)?;
    if before.as_deref() == Some(text) {
        return Ok(Installed::Unchanged);
    }
    refuse_unwritable(file)?;
    nginx.test().map_err(|words| {
        Error::new("nginx's configuration is broken already, and not by this app: nothing was changed")
            .caused_by(words)
            .hint("mend what nginx names; `nginx -t` says when it is well")
    })?;
    write(file, Some(text))?;
    let loaded = judge(nginx, file).and_then(|()| reload(nginx));
    loaded.map_err(|error| match write(file, before.as_deref()) {
        Ok(()) => error,
        Err(worse) => worse.caused_by(error),
    })
}

/// Takes the site of an app out of nginx's configuration; whether it was there.
pub fn remove(nginx: &Nginx, file: &Path) -> Result<bool> {
    if !files::exists(file) {
        return Ok(false);
    }
    refuse_unwritable(file)?;
    write(file, None)?;
    nginx.test().and_then(|()| reload(nginx))?;
    Ok(true)
}

fn write(file: &Path, text: Option<&str>) -> Result<()> {
    match text {
        // Its name begins with a dot until it is whole: `include conf.d/*.conf` does not see it.
        Some(text) => files::write_atomic(file, text.as_bytes(), 0o644),
        None => files::remove_file(file),
    }
}

fn refuse_unwritable(file: &Path) -> Result<()> {
    let directory = file.parent().unwrap_or(Path::new("/"));
    rustix::fs::access(directory, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
        .context(|| format!("cannot write to {}", directory.display()))
        .map_err(|error| {
            error.hint(
                "as root it can; or `receiver config APP --site` prints the text, to be installed by hand",
            )
        })
}

/// nginx judges all of its configuration, and has read our file.
fn judge(nginx: &Nginx, file: &Path) -> Result<()> {
    let all = nginx.dump().map_err(|words| {
        Error::new(format!(
            "nginx refuses {}: it was taken back, and nginx goes on as before",
            file.display()
        ))
        .caused_by(words)
    })?;
    if included(&all).contains(file) {
        return Ok(());
    }
    Err(Error::new(format!("nginx does not read {}: it was taken back", file.display())).hint(format!(
        "add to the http block of its configuration: include {}/*.conf; or name another file: \
         `receiver config APP nginx.site FILE`",
        file.parent().unwrap_or(Path::new("/")).display()
    )))
}

/// The files that a dump has, by the line that nginx puts before each.
fn included(dump: &str) -> BTreeSet<PathBuf> {
    let names = dump.lines().filter_map(|line| line.strip_prefix("# configuration file "));
    names.filter_map(|name| name.strip_suffix(':')).map(PathBuf::from).collect()
}

/// Lets a running nginx load its configuration, and looks whether it did: what it then stumbles over stands
/// only in its log, and its exit code says nothing.
fn reload(nginx: &Nginx) -> Result<Installed> {
    let Some(master) = master(nginx)? else { return Ok(Installed::NotRunning) };
    let before = workers(master);
    let log = error_log(nginx)?;
    let from = log.as_ref().and_then(|log| std::fs::metadata(log).ok()).map_or(0, |about| about.len());
    // `systemctl reload nginx` sends the same signal.
    rustix::process::kill_process(master, rustix::process::Signal::HUP).context(|| {
        format!("cannot tell nginx (process {}) to load its configuration", master.as_raw_nonzero())
    })?;
    let begun = Instant::now();
    while begun.elapsed() < LOADING {
        // The new ones are there, and those before take no new connections any more.
        let now = workers(master);
        if !now.is_empty() && now.is_disjoint(&before) {
            return Ok(Installed::Loaded);
        }
        if let Some(words) = log.as_deref().and_then(|log| refusal(log, from)) {
            return Err(not_loaded(nginx).caused_by(Error::new(words)));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(not_loaded(nginx))
}

fn not_loaded(nginx: &Nginx) -> Error {
    let config = nginx.config().map_or_else(String::new, |config| format!(" -c {}", config.display()));
    Error::new("nginx did not load its configuration: the site was taken back, and nginx goes on as before")
        .hint(format!("its error log says why; `nginx -t{config}` may, too"))
}

/// What the log says since `from` of why a configuration was not loaded: a port that is in use, mostly.
fn refusal(log: &Path, from: u64) -> Option<String> {
    let bytes = files::read_limited(log, 1 << 30).ok().flatten()?;
    let new = bytes.get(usize::try_from(from).ok()?..)?;
    let text = String::from_utf8_lossy(new);
    // That it could not bind is said first at each try, and this once, at the end.
    text.contains("still could not bind()").then(|| {
        let line = text.lines().find(|line| line.contains("[emerg]")).unwrap_or("still could not bind()");
        crate::support::text::printable(line)
    })
}

/// The running master process.
fn master(nginx: &Nginx) -> Result<Option<rustix::process::Pid>> {
    let Some(path) = value_of(nginx, "pid", "--pid-path=")? else { return Ok(None) };
    let Some(text) = files::read_text(&path).ok().flatten() else { return Ok(None) };
    let pid = text.trim().parse().ok().and_then(rustix::process::Pid::from_raw);
    let named = |pid: &rustix::process::Pid| {
        std::fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero()))
            .is_ok_and(|name| name.trim_end().contains("nginx"))
    };
    Ok(pid.filter(named))
}

fn error_log(nginx: &Nginx) -> Result<Option<PathBuf>> {
    value_of(nginx, "error_log", "--error-log-path=")
}

/// A path that the configuration names outside of every block, or that nginx was built with.
fn value_of(nginx: &Nginx, directive: &str, built: &str) -> Result<Option<PathBuf>> {
    let dump = nginx.dump()?;
    let said = dump.split([';', '{', '}', '\n']).map(str::trim).find_map(|statement| {
        let rest = statement.strip_prefix(directive)?.strip_prefix([' ', '\t'])?;
        rest.split_whitespace().next().map(|path| path.trim_matches(['"', '\'']).to_owned())
    });
    let (_, build) = nginx.version()?;
    let option =
        |name: &str| build.split_whitespace().find_map(|word| word.strip_prefix(name)).map(str::to_owned);
    let Some(path) = said.or_else(|| option(built)) else { return Ok(None) };
    let prefix = option("--prefix=").unwrap_or_else(|| "/usr/local/nginx".to_owned());
    Ok(Some(Path::new(&prefix).join(path)))
}

/// The workers of a master that are not about to end.
fn workers(master: rustix::process::Pid) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    for name in files::names_in(Path::new("/proc")).unwrap_or_default() {
        let Ok(pid) = name.parse::<u32>() else { continue };
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        let title = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let accepts = title.trim_end_matches(['\0', ' ']) == "nginx: worker process";
        if parent == Some(master.as_raw_nonzero().get()) && accepts {
            found.insert(pid);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_dump_are_known_by_the_line_before_each() {
        let dump =
            "# configuration file /etc/nginx/nginx.conf:\nhttp {}\n\n# configuration file /a b:\n# x\n";
        let files: Vec<_> = included(dump).into_iter().collect();
        assert_eq!(files, [Path::new("/a b"), Path::new("/etc/nginx/nginx.conf")]);
    }
}
