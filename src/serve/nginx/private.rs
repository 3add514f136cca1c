//! An nginx of our own, made from the same template: its files in a temporary directory, its master a child
//! of ours that ends when we do.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::check::{Machine, Nginx};
use super::quoted::Quoted;
use super::site::Site;
use crate::support::text::printable_bytes;
use crate::support::{Context, Error, Result, files};

/// How long it may take until it listens.
const STARTING: Duration = Duration::from_secs(10);

/// Kinds of files, where the machine has no list of its own.
const TYPES: &str = "types { text/html html htm; text/css css; application/javascript js mjs; \
    application/json json map; text/plain txt; image/svg+xml svg; image/png png; image/jpeg jpg jpeg; \
    image/gif gif; image/webp webp; image/x-icon ico; font/woff2 woff2; font/woff woff; \
    application/wasm wasm; application/pdf pdf; text/xml xml; video/mp4 mp4; }";

/// A running nginx of our own. Dropped, it ends, and its files are gone.
#[derive(Debug)]
pub struct Private {
    child: Child,
    prefix: PathBuf,
}

impl Private {
    /// Starts one that answers at `address`, where `site` has to listen; returns when it does.
    pub fn start(nginx: &Nginx, site: &Site, address: SocketAddr) -> Result<Private> {
        Private::refuse_taken(address)?;
        let prefix = scratch()?;
        let started = launch(nginx, site, &prefix);
        let child = started.inspect_err(|_| drop(files::remove_tree(&prefix)))?;
        let mut private = Private { child, prefix };
        private.wait_until_it_listens(address)?;
        Ok(private)
    }

    /// Refuses an address that somebody listens at, or that is not this machine's: nginx would try five
    /// times, and tell its log only.
    pub fn refuse_taken(address: SocketAddr) -> Result<()> {
        TcpListener::bind(address)
            .map(drop)
            .context(|| format!("cannot listen at {address}"))
            .map_err(|error| error.hint("name another: `--port P`, perhaps `--address A`"))
    }

    fn wait_until_it_listens(&mut self, address: SocketAddr) -> Result<()> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().context(|| "cannot look after nginx")? {
                return Err(Error::new(format!("nginx ended at once: {status}")).caused_by(self.last_words()));
            }
            if TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok() {
                return Ok(());
            }
            if begun.elapsed() > STARTING {
                return Err(
                    Error::new(format!("nginx does not listen at {address}")).caused_by(self.last_words())
                );
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether it has ended by itself; then with what it said last.
    pub fn ended(&mut self) -> Result<Option<Error>> {
        let ended = self.child.try_wait().context(|| "cannot look after nginx")?;
        Ok(ended.map(|status| Error::new(format!("nginx ended: {status}")).caused_by(self.last_words())))
    }

    fn last_words(&self) -> Error {
        let log =
            files::read_limited(&self.prefix.join("error.log"), 1 << 26).ok().flatten().unwrap_or_default();
        let lines: Vec<&[u8]> = log.split(|b| *b == b'\n').filter(|line| !line.is_empty()).collect();
        let last = lines.iter().rev().take(4).rev().map(|line| printable_bytes(line)).collect::<Vec<_>>();
        Error::new(if last.is_empty() { "its log is empty".to_owned() } else { last.join("\n    ") })
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw)
            && matches!(self.child.try_wait(), Ok(None))
        {
            // The master ends its workers, also those in the middle of an answer.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
        if let Err(error) = files::remove_tree(&self.prefix) {
            log::warn!("{}", error.one_line());
        }
    }
}

fn launch(nginx: &Nginx, site: &Site, prefix: &Path) -> Result<Child> {
    let text = site.render(Machine { ipv6: false, ..Machine::here(nginx)? })?;
    files::write_atomic(&prefix.join("site.conf"), text.as_bytes(), 0o600)?;
    let main = prefix.join("nginx.conf");
    files::write_atomic(&main, configuration(prefix)?.as_bytes(), 0o600)?;
    let tethered = std::env::current_exe().context(|| "cannot find this program")?;
    Command::new(tethered)
        .args(["tethered", "--parent", &std::process::id().to_string(), "--"])
        .arg(nginx.program())
        .arg("-p")
        .arg(prefix)
        .arg("-c")
        .arg(&main)
        .args(["-e", "error.log"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context(|| format!("cannot run {}", nginx.program().display()))
}

/// All that is not the site: everything that nginx writes lies in its own directory.
fn configuration(prefix: &Path) -> Result<String> {
    let mut text = String::from("daemon off;\nworker_processes 1;\npid nginx.pid;\nerror_log error.log;\n");
    if rustix::process::geteuid().is_root() {
        // Else its workers become somebody who cannot read what only root can. This one is looked at by
        // whoever started it.
        text.insert_str(0, "user root;\n");
    }
    text.push_str("events { worker_connections 512; }\nhttp {\n");
    for of in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        let _ = writeln!(text, "    {of}_temp_path temporary/{of};");
    }
    let usual = Path::new("/etc/nginx/mime.types");
    let types = if usual.is_file() { "include /etc/nginx/mime.types;" } else { TYPES };
    let site = Quoted::path(&prefix.join("site.conf"))?;
    let _ = writeln!(text, "    access_log off;\n    {types}\n    default_type application/octet-stream;");
    let _ = writeln!(text, "    include {site};\n}}");
    Ok(text)
}

/// A directory of our own; those of others who died are swept away.
fn scratch() -> Result<PathBuf> {
    let top = std::env::temp_dir();
    let me = rustix::process::geteuid().as_raw();
    for name in files::names_in(&top)? {
        let Some(pid) = name.strip_prefix(SCRATCH).and_then(|pid| pid.parse::<u32>().ok()) else { continue };
        let place = top.join(&name);
        let ours = std::fs::symlink_metadata(&place).is_ok_and(|about| about.is_dir() && about.uid() == me);
        if ours && !Path::new(&format!("/proc/{pid}")).exists() {
            files::remove_tree(&place)?;
        }
    }
    let place = top.join(format!("{SCRATCH}{}", std::process::id()));
    // Not one that somebody else has made for us: /tmp is everybody's.
    std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700)
        .create(&place)
        .context(|| format!("cannot make the directory {}", place.display()))?;
    files::make_directory(&place.join("temporary"), 0o700)?;
    Ok(place)
}

const SCRATCH: &str = "receiver-nginx-";
