//! One thing that setup makes: what it is, whether it is there, how it is made, and how it is taken back.

use std::process::{Command, Stdio};

use crate::support::{Context, Error, Result, text};

/// One thing that setup makes. A list of them is what `--dry-run` prints and what a run does.
pub trait Act {
    /// What it is, in one line.
    fn what(&self) -> String;

    /// Whether it is there, just as it would be made.
    fn is_done(&self) -> Result<bool>;

    /// Makes it. It may be there halfway.
    fn perform(&self) -> Result<()>;

    /// Takes it back, where receiver made it; `false` where it stays.
    fn undo(&self) -> Result<bool> {
        Ok(false)
    }

    /// Whether data hangs on it, so that it is not taken back unless that is said, too.
    fn is_data(&self) -> bool {
        false
    }
}

/// What the system says of a disk that is full.
pub const NO_ROOM: &str = "No space left on device";

/// Runs a program of the system to its end, and answers what it printed.
pub fn run(program: &str, arguments: &[&str]) -> Result<String> {
    run_with(program, arguments, "")
}

/// The same with something to read.
pub fn run_with(program: &str, arguments: &[&str], input: &str) -> Result<String> {
    let shown = format!("`{program} {}`", arguments.first().unwrap_or(&""));
    let mut command = Command::new(program);
    command.args(arguments).env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive").current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context(|| format!("cannot run {shown}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read it says why by its status.
        let _ = std::io::Write::write_all(&mut stdin, input.as_bytes());
    }
    let output = child.wait_with_output().context(|| format!("cannot run {shown}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let (before, last) = lines.split_at(lines.len().saturating_sub(3));
    // What it goes on to say is of no use to somebody whose disk is full.
    let room = before.iter().rfind(|line| line.contains(NO_ROOM));
    let said = room.into_iter().chain(last).copied().collect::<Vec<_>>().join("; ");
    Err(Error::new(format!("{shown} failed: {}", output.status))
        .caused_by(Error::new(text::printable(&said))))
}

/// Whether a program of the system, or a file, is there.
pub fn is_there(program: &str) -> bool {
    let places = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    match program.strip_prefix('/') {
        Some(_) => std::path::Path::new(program).exists(),
        None => places.iter().any(|place| std::path::Path::new(place).join(program).exists()),
    }
}
