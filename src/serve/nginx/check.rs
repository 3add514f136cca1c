//! The nginx that is installed here: found, asked for its version, made to judge a configuration.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::app::settings::Listen;
use crate::support::text::printable_bytes;
use crate::support::{Context, Error, Result};

/// Where it lies on systems whose users do not have it in their PATH.
const USUAL: &[&str] = &["/usr/sbin", "/usr/local/sbin", "/usr/local/nginx/sbin"];

/// What the text of a site depends on, besides the app.
#[derive(Clone, Copy, Debug, Default)]
pub struct Machine {
    /// Whether there are IPv6 addresses.
    pub ipv6: bool,
    /// Whether nginx knows `http2 on`, which is one server's own affair: before 1.25.1 it belonged to the
    /// port, and would change every other site on it.
    pub http2: bool,
}

impl Machine {
    /// This one.
    pub fn here(nginx: &Nginx) -> Result<Machine> {
        let (version, modules) = nginx.version()?;
        Ok(Machine {
            ipv6: has_ipv6(),
            http2: version >= [1, 25, 1] && modules.contains("--with-http_v2_module"),
        })
    }

    /// What `listen` says for an address.
    pub fn addresses(self, listen: Listen) -> Vec<String> {
        match listen {
            Listen::Port(port) if self.ipv6 => vec![port.to_string(), format!("[::]:{port}")],
            Listen::Port(port) => vec![port.to_string()],
            Listen::Address(address @ (SocketAddr::V4(_) | SocketAddr::V6(_))) => vec![address.to_string()],
        }
    }
}

/// Whether the machine has IPv6 addresses (`/proc/net/if_inet6`, proc(5)).
pub fn has_ipv6() -> bool {
    std::fs::read_to_string("/proc/net/if_inet6").is_ok_and(|text| !text.trim().is_empty())
}

/// nginx, with the configuration that it is run with.
#[derive(Clone, Debug)]
pub struct Nginx {
    program: PathBuf,
    /// The main configuration; its own where none is named.
    config: Option<PathBuf>,
}

impl Nginx {
    /// Finds it in the PATH, or where it usually lies.
    pub fn find(config: Option<&Path>) -> Result<Nginx> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let usual = USUAL.iter().map(PathBuf::from);
        let mut places = std::env::split_paths(&path).chain(usual).map(|directory| directory.join("nginx"));
        let program = places.find(|place| place.is_absolute() && place.is_file()).ok_or_else(|| {
            Error::new("nginx is not installed").hint("install it: `apt install nginx`, as root")
        })?;
        Ok(Nginx { program, config: config.map(Path::to_owned) })
    }

    /// The program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The main configuration that it is run with, where it is not its own.
    pub fn config(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// Its version, and what it was built with.
    pub fn version(&self) -> Result<([u32; 3], String)> {
        let said = self.run(&["-V"])?;
        let text = String::from_utf8_lossy(&said.stderr).into_owned();
        let number = text.split("nginx/").nth(1).unwrap_or_default();
        let number: String = number.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
        let mut parts = number.split('.').map(|part| part.parse().ok());
        match [parts.next(), parts.next(), parts.next()] {
            [Some(Some(major)), Some(Some(minor)), Some(Some(patch))] => Ok(([major, minor, patch], text)),
            _ => Err(Error::new(format!("{} does not say which nginx it is", self.program.display()))),
        }
    }

    /// Lets nginx judge its whole configuration; the error is its own words.
    pub fn test(&self) -> Result<()> {
        let said = self.run(&["-t", "-q"])?;
        if said.status.success() { Ok(()) } else { Err(words(&said)) }
    }

    /// The whole configuration as nginx reads it, the name of each file before its text.
    pub fn dump(&self) -> Result<String> {
        let said = self.run(&["-T", "-q"])?;
        if said.status.success() {
            return Ok(String::from_utf8_lossy(&said.stdout).into_owned());
        }
        Err(words(&said))
    }

    /// Runs it with the configuration that it is run with.
    pub fn run(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.program);
        command.args(arguments);
        if let Some(config) = &self.config {
            command.arg("-c").arg(config);
        }
        command.output().context(|| format!("cannot run {}", self.program.display()))
    }
}

/// What nginx says of what is wrong, at most its first lines; safe to print.
fn words(said: &Output) -> Error {
    let lines = said.stderr.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    let lines: Vec<String> = lines.take(6).map(printable_bytes).collect();
    let text =
        if lines.is_empty() { format!("nginx ended with {}", said.status) } else { lines.join("\n    ") };
    Error::new(text)
}
