//! Mercurial's command server: one start of Python for all that is asked.
//!
//! What was pushed is never an option here: revisions are whole hashes, paths come after `path:`. Nothing is
//! read that could say otherwise: no configuration of the system, of the user, or of the repository, and so
//! no alias, extension or hook. The protocol is that of `hg help -e commandserver`: a letter and a length
//! before each chunk.

use std::io::{BufReader, ErrorKind, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::support::{Context, Error, Result, text};

/// No answer that is kept as a whole is longer than this.
const MOST: usize = 512 << 20;

/// A running command server.
pub(super) struct Server {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// `hg` as receiver starts it: its own environment, nobody's configuration.
pub(super) fn command() -> Command {
    let mut command = Command::new("hg");
    command.env_clear();
    for name in ["PATH", "HOME", "TZ"] {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    command.envs([("LANG", "C.UTF-8"), ("HGENCODING", "UTF-8"), ("HGPLAIN", "1")]);
    command.envs([("HGRCPATH", ""), ("HGRCSKIPREPO", "1")]);
    command.args(["--config", "ui.interactive=no", "--config", "ui.report_untrusted=no"]);
    // `hg cat` of any file wants to know what each subrepository is; nothing of them is read by it.
    command.args(["--config", "subrepos.git:allowed=yes"]);
    command
}

/// What to do where `hg` cannot be started.
pub fn not_started(error: std::io::Error) -> Error {
    if error.kind() == ErrorKind::NotFound {
        return Error::new("Mercurial is not installed").hint("install it: `apt install mercurial`");
    }
    Error::new("cannot start Mercurial").caused_by(error)
}

impl Server {
    /// Starts it for a repository. `pending` is whether what is being pushed is seen, as in a hook.
    pub(super) fn start(repository: &Path, pending: bool) -> Result<Server> {
        let mut command = command();
        if pending {
            command.envs(std::env::var_os("HG_PENDING").map(|value| ("HG_PENDING", value)));
        }
        command.arg("-R").arg(repository).args(["serve", "--cmdserver", "pipe"]).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(not_started)?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let Some(output) = output else { return Err(Error::new("Mercurial has no output")) };
        let mut server = Server { child, input, output: BufReader::new(output) };
        let mut hello = Vec::new();
        match server.chunk(&mut |bytes| keep(&mut hello, bytes)) {
            Ok(b'o') if contains(&hello, b"runcommand") => Ok(server),
            _ => Err(server.last_words()),
        }
    }

    /// Why it does not answer.
    fn last_words(&mut self) -> Error {
        drop(self.input.take());
        let mut said = Vec::new();
        if let Some(errors) = self.child.stderr.take() {
            let _ = errors.take(1 << 16).read_to_end(&mut said);
        }
        let error = Error::new("Mercurial cannot read the repository");
        match first_line(&said) {
            line if line.is_empty() => super::version().err().unwrap_or(error),
            line => error.caused_by(std::io::Error::other(line)),
        }
    }

    /// What a command prints.
    pub(super) fn ask(&mut self, arguments: &[&[u8]]) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        self.run(arguments, &mut |bytes| keep(&mut all, bytes))?;
        Ok(all)
    }

    /// Runs a command, and hands over what it prints as it comes.
    pub(super) fn run(
        &mut self,
        arguments: &[&[u8]],
        take: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let joined = arguments.join(&0);
        let length = u32::try_from(joined.len()).context(|| "too much is asked of Mercurial at once")?;
        let input = self.input.as_mut().ok_or_else(|| Error::new("Mercurial ended"))?;
        let message = [b"runcommand\n".as_slice(), &length.to_be_bytes(), &joined].concat();
        input.write_all(&message).and_then(|()| input.flush()).context(|| "Mercurial ended")?;
        let (mut errors, mut result) = (Vec::new(), Vec::new());
        loop {
            let mut chunk = Vec::new();
            let letter = self.chunk_of(&mut |letter, bytes| match letter {
                b'o' => take(bytes),
                b'e' => keep(&mut errors, bytes),
                _ => keep(&mut chunk, bytes),
            })?;
            match letter {
                b'r' => {
                    result.extend(chunk);
                    break;
                }
                // It wants to be told something: there is nobody.
                b'I' | b'L' => {
                    let input = self.input.as_mut().ok_or_else(|| Error::new("Mercurial ended"))?;
                    input.write_all(&[0; 4]).and_then(|()| input.flush()).context(|| "Mercurial ended")?;
                }
                _ => {}
            }
        }
        if result == [0; 4] {
            if !errors.is_empty() {
                log::debug!("hg: {}", first_line(&errors));
            }
            return Ok(());
        }
        let what = String::from_utf8_lossy(arguments[0]).into_owned();
        let why = first_line(&errors);
        let why = if why.is_empty() { format!("`hg {what}` found nothing") } else { why };
        Err(Error::new("Mercurial cannot read what is wanted").caused_by(std::io::Error::other(why)))
    }

    fn chunk(&mut self, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<u8> {
        self.chunk_of(&mut |_, bytes| take(bytes))
    }

    /// Reads one chunk, in pieces; answers its letter. Those that ask for input carry no bytes.
    fn chunk_of(&mut self, take: &mut dyn FnMut(u8, &[u8]) -> Result<()>) -> Result<u8> {
        let mut head = [0; 5];
        self.output.read_exact(&mut head).context(|| "Mercurial ended")?;
        let mut left = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if matches!(head[0], b'I' | b'L') {
            return Ok(head[0]);
        }
        let mut buffer = vec![0; left.min(64 << 10)];
        while left > 0 {
            let piece = left.min(buffer.len());
            self.output.read_exact(&mut buffer[..piece]).context(|| "Mercurial ended")?;
            take(head[0], &buffer[..piece])?;
            left -= piece;
        }
        Ok(head[0])
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It ends when nobody can ask any more; one that still answers a question is not waited for.
        drop(self.input.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn keep(all: &mut Vec<u8>, bytes: &[u8]) -> Result<()> {
    if all.len() + bytes.len() > MOST {
        return Err(Error::new("Mercurial's answer is longer than anything that can be deployed"));
    }
    all.extend_from_slice(bytes);
    Ok(())
}

fn contains(all: &[u8], word: &[u8]) -> bool {
    all.windows(word.len()).any(|part| part == word)
}

/// The first line of what Mercurial says is wrong, safe for a terminal.
pub(super) fn first_line(said: &[u8]) -> String {
    let lines = said.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    let mut lines = lines.map(text::printable_bytes);
    let first = lines.next().unwrap_or_default();
    first.strip_prefix("abort: ").unwrap_or(&first).trim_end_matches('!').to_owned()
}
