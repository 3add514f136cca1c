//! A user's own `authorized_keys`, where receiver has one user: a marked block in it is receiver's, all else is not.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::keys::{self, Key};
use super::pubkey::PublicKey;
use crate::support::{Context, Error, Result, files};

/// The file, and the marks of the block for one root in it.
#[derive(Debug)]
pub struct Authorized {
    path: PathBuf,
    begin: String,
    end: String,
}

impl Authorized {
    /// The file of the user whose home is `home`, with the block for `root`.
    pub fn of(home: &Path, root: &Path) -> Authorized {
        let mark = |word: &str| format!("# receiver {}: {word}", root.display());
        Authorized {
            path: home.join(".ssh").join("authorized_keys"),
            begin: mark("`receiver key` writes what stands from here"),
            end: mark("to here"),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts these keys into the block, and leaves every other line as it is.
    pub fn write(&self, all: &[Key], program: &Path, root: &Path) -> Result<()> {
        let lines = all.iter().map(|key| keys::line(key, program, root)).collect::<Result<Vec<_>>>()?;
        let before = self.read()?;
        let after = self.replace(&before, &lines)?;
        if after == before {
            return Ok(());
        }
        if let Some(directory) = self.path.parent()
            && !directory.is_dir()
        {
            files::make_directory(directory, 0o700)?;
        }
        let mode =
            std::fs::symlink_metadata(&self.path).map_or(0o600, |about| about.permissions().mode() & 0o600);
        files::write_atomic(&self.path, after.as_bytes(), mode | 0o600)
    }

    /// The line outside of the block, from 1, by which a key opens a whole login already.
    pub fn elsewhere(&self, public: &PublicKey) -> Result<Option<usize>> {
        let text = self.read()?;
        let (before, _, after) = self.cut(&text)?;
        let words = public.words();
        let (_, encoded) = words.split_once(' ').unwrap_or_default();
        let opens = |line: &str| {
            !line.trim_start().starts_with('#') && line.split([' ', '\t']).any(|word| word == encoded)
        };
        if let Some(at) = before.lines().position(opens) {
            return Ok(Some(at + 1));
        }
        let above = text.len() - after.len();
        Ok(after.lines().position(opens).map(|at| text[..above].lines().count() + at + 1))
    }

    fn read(&self) -> Result<String> {
        Ok(files::read_text(&self.path)
            .context(|| "keys go into a file that is not as it should be")?
            .unwrap_or_default())
    }

    /// What stands before the block, in it, and after it.
    fn cut<'a>(&self, text: &'a str) -> Result<(&'a str, &'a str, &'a str)> {
        let marks = |mark: &str| {
            let mut at = 0;
            let mut found = Vec::new();
            for line in text.split_inclusive('\n') {
                if line.trim_end() == mark {
                    found.push((at, at + line.len()));
                }
                at += line.len();
            }
            found
        };
        match (marks(&self.begin).as_slice(), marks(&self.end).as_slice()) {
            ([], []) => Ok((text, "", "")),
            ([begin], [end]) if begin.1 <= end.0 => Ok((&text[..begin.0], &text[begin.1..end.0], &text[end.1..])),
            _ => Err(Error::new(format!("the marks of receiver's block in {} are not where they were", self.path.display()))
                .hint("take the lines that begin with `# receiver`, and those between them, out: they are written anew")),
        }
    }

    fn replace(&self, text: &str, lines: &[String]) -> Result<String> {
        let (before, _, after) = self.cut(text)?;
        let mut made = before.to_owned();
        if !lines.is_empty() {
            if !made.is_empty() && !made.ends_with('\n') {
                made.push('\n');
            }
            for line in [&self.begin].into_iter().chain(lines).chain([&self.end]) {
                made.push_str(line);
                made.push('\n');
            }
        }
        made.push_str(after);
        Ok(made)
    }
}
