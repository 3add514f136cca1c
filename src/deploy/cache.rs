//! `[cache]`: directories that a build makes, and that the next release begins with as long as the files that they were
//! made from are the same.
//!
//! They are copied from the live release, or share its blocks where the filesystem can do that; never its files, since
//! whatever wrote to one would write to both. What names the release that it was made in (a virtual environment does,
//! all over) names the new one in the copy: in text, in symlinks, and in Python's compiled files, whose strings keep
//! their length. Any other file that names it may depend on it in ways that nobody can see: then the directory is not
//! carried, and the build makes it anew.

use std::fs::{File, Metadata, Permissions};
use std::io::{Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use memchr::memmem;

use super::joblog::JobLog;
use crate::app::guard::Guard;
use crate::app::settings::{RelativePath, Settings};
use crate::app::{App, ReleaseId};
use crate::support::text::{grouped, printable_bytes};
use crate::support::{Context, Error, Result, files};
use crate::vcs::manifest::Manifest;

/// A file that is larger is only searched.
const LARGE: u64 = 32 << 20;

/// From which release to which.
pub struct Carrying<'a> {
    /// The app's lock.
    pub guard: &'a Guard,
    /// What holds for the new release.
    pub settings: &'a Settings,
    /// The live release, and what its export wrote.
    pub from: (&'a ReleaseId, &'a Manifest),
    /// The new release, and what its export wrote.
    pub to: (&'a ReleaseId, &'a Manifest),
    /// Where it is said what was carried.
    pub log: &'a JobLog,
}

impl Carrying<'_> {
    /// Carries what can be; the rest is made by the stages, as if nothing had been there.
    pub fn run(&self) -> Result<()> {
        for (path, keys) in &self.settings.cache {
            let begun = Instant::now();
            match self.carry(path, keys)? {
                Ok(copied) => {
                    let renamed = match copied.renamed {
                        0 => String::new(),
                        renamed => format!(", {} with the release's new name", grouped(renamed)),
                    };
                    let text = format!("{} kept: {} files{renamed}", path.as_str(), grouped(copied.files));
                    self.log.timed("cache", text, begun);
                }
                Err(why) => self.log.step("cache", format!("{} is made anew: {why}", path.as_str())),
            }
        }
        Ok(())
    }

    /// Carries one directory; or says why not.
    fn carry(
        &self,
        path: &RelativePath,
        keys: &[RelativePath],
    ) -> Result<std::result::Result<Copied, String>> {
        let app = self.guard.app();
        let (from, to) = (app.release(self.from.0), app.release(self.to.0));
        let content = |manifest: &Manifest, key: &RelativePath| {
            manifest.find(key.as_str().as_bytes()).map(|item| item.what)
        };
        if let Some(key) = keys.iter().find(|key| content(self.from.1, key) != content(self.to.1, key)) {
            return Ok(Err(format!("{} changed", key.as_str())));
        }
        if !is_directory_beneath(&from, path.as_path()) {
            return Ok(Err("the live release has none".to_owned()));
        }
        let target = to.join(path.as_path());
        if files::exists(&target) {
            return Ok(Err("it is in the revision, too".to_owned()));
        }
        let above = path.as_path().parent().unwrap_or(Path::new(""));
        if !above.as_os_str().is_empty() && !is_directory_beneath(&to, above) {
            return Ok(Err(format!("{} is no directory of the revision", above.display())));
        }
        let mut copying =
            Copying { names: names(app, self.from.0, self.to.0), blocks: true, copied: Copied::default() };
        let copied = copying.directory(&from.join(path.as_path()), &target);
        match copied {
            Ok(()) => Ok(Ok(copying.copied)),
            Err(error) => {
                self.guard.put_into_trash(&target)?;
                Ok(Err(error.one_line()))
            }
        }
    }
}

/// Whether there is a directory at `path` below `top`, with no link on the way.
fn is_directory_beneath(top: &Path, path: &Path) -> bool {
    let mut place = top.to_owned();
    path.components().all(|part| {
        place.push(part);
        files::is_directory(&place)
    })
}

/// What was carried.
#[derive(Default)]
struct Copied {
    files: u64,
    renamed: u64,
}

/// What is written instead of what: the longer name first, since it has the shorter one in it.
type Names = [(Vec<u8>, Vec<u8>); 2];

fn names(app: &App, from: &ReleaseId, to: &ReleaseId) -> Names {
    let whole = |id: &ReleaseId| app.release(id).into_os_string().into_vec();
    let name = |id: &ReleaseId| id.name.as_str().as_bytes().to_vec();
    [(whole(from), whole(to)), (name(from), name(to))]
}

struct Copying {
    names: Names,
    /// Whether the filesystem lets files share blocks, as far as it was tried.
    blocks: bool,
    copied: Copied,
}

impl Copying {
    /// Copies a directory to a place where nothing is.
    fn directory(&mut self, from: &Path, to: &Path) -> Result<()> {
        let mut waiting = vec![(from.to_owned(), to.to_owned())];
        let mut made: Vec<(PathBuf, Metadata)> = Vec::new();
        while let Some((from, to)) = waiting.pop() {
            let cannot = || format!("cannot copy {}", printable_bytes(from.as_os_str().as_bytes()));
            let about = std::fs::symlink_metadata(&from).context(cannot)?;
            std::fs::create_dir(&to).context(cannot)?;
            for entry in std::fs::read_dir(&from).context(cannot)? {
                let entry = entry.context(cannot)?;
                let name = entry.file_name();
                if self.find(name.as_bytes()) {
                    return Err(self.named(&entry.path()));
                }
                let (source, target) = (entry.path(), to.join(&name));
                let kind = entry.file_type().context(cannot)?;
                if kind.is_dir() {
                    waiting.push((source, target));
                } else if kind.is_symlink() {
                    self.link(&source, &target)?;
                } else if kind.is_file() {
                    self.file(&source, &target)?;
                } else {
                    return Err(Error::new(format!("{} is neither file nor directory", source.display())));
                }
            }
            made.push((to, about));
        }
        // From the inside out: what is made in a directory changes its time, and may need its permissions.
        for (place, about) in made.iter().rev() {
            let given = File::open(place).and_then(|opened| give(&opened, about));
            given.context(|| format!("cannot copy {}", place.display()))?;
        }
        Ok(())
    }

    fn find(&self, bytes: &[u8]) -> bool {
        memmem::find(bytes, &self.names[1].0).is_some()
    }

    fn named(&self, path: &Path) -> Error {
        let shown = printable_bytes(path.as_os_str().as_bytes());
        let (release, _) = &self.names[1];
        Error::new(format!(
            "{shown} depends on the release that it was made in, {}",
            printable_bytes(release)
        ))
    }

    fn link(&mut self, from: &Path, to: &Path) -> Result<()> {
        let target = std::fs::read_link(from).context(|| format!("cannot read {}", from.display()))?;
        let target = target.into_os_string().into_vec();
        let named = self.find(&target);
        let target = if named { self.rename(&target) } else { target };
        self.copied.files += 1;
        self.copied.renamed += u64::from(named);
        files::link_new(Path::new(std::ffi::OsStr::from_bytes(&target)), to)
    }

    fn file(&mut self, from: &Path, to: &Path) -> Result<()> {
        let cannot = || format!("cannot copy {}", from.display());
        #[allow(clippy::cast_possible_wrap, reason = "the flags are small positive numbers")]
        let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits() as i32;
        let mut source =
            std::fs::OpenOptions::new().read(true).custom_flags(flags).open(from).context(cannot)?;
        let about = source.metadata().context(cannot)?;
        let text = self.read(&mut source, from, &about)?;
        let mut target = std::fs::OpenOptions::new();
        let mut target = target.write(true).create_new(true).mode(0o600).open(to).context(cannot)?;
        match text {
            Text::Named(text) => {
                target.write_all(&self.rename(&text)).context(cannot)?;
                self.copied.renamed += 1;
            }
            Text::Read(text) if !self.shares(&source, &target) => target.write_all(&text).context(cannot)?,
            Text::TooLarge if !self.shares(&source, &target) => {
                std::io::Seek::rewind(&mut source).context(cannot)?;
                std::io::copy(&mut source, &mut target).map(drop).context(cannot)?;
            }
            Text::Read(_) | Text::TooLarge => {}
        }
        self.copied.files += 1;
        give(&target, &about).context(cannot)
    }

    /// The text of a file, if it is not too large, and whether it names the release.
    fn read(&self, source: &mut File, path: &Path, about: &Metadata) -> Result<Text> {
        let cannot = || format!("cannot read {}", path.display());
        if about.len() > LARGE {
            let (mut part, mut kept) = (vec![0; 1 << 20], 0);
            loop {
                let read = source.read(&mut part[kept..]).context(cannot)?;
                if self.find(&part[..kept + read]) {
                    return Err(self.named(path));
                }
                if read == 0 {
                    return Ok(Text::TooLarge);
                }
                // A name may lie across two parts.
                let end = kept + read;
                let overlap = end.min(self.names[1].0.len());
                part.copy_within(end - overlap..end, 0);
                kept = overlap;
            }
        }
        let mut text = Vec::with_capacity(usize::try_from(about.len()).unwrap_or(0));
        source.read_to_end(&mut text).context(cannot)?;
        if !self.find(&text) {
            return Ok(Text::Read(text));
        }
        let keeps_length = self.names.iter().all(|(old, new)| old.len() == new.len());
        let is_compiled = path.extension().is_some_and(|end| end == "pyc") && keeps_length;
        if is_compiled || std::str::from_utf8(&text).is_ok_and(|text| !text.contains('\0')) {
            return Ok(Text::Named(text));
        }
        Err(self.named(path))
    }

    fn rename(&self, text: &[u8]) -> Vec<u8> {
        self.names.iter().fold(text.to_vec(), |text, (old, new)| replace(&text, old, new))
    }

    fn shares(&mut self, source: &File, target: &File) -> bool {
        self.blocks = self.blocks && rustix::fs::ioctl_ficlone(target, source).is_ok();
        self.blocks
    }
}

enum Text {
    /// It names the release, and may name another one.
    Named(Vec<u8>),
    /// It does not name it.
    Read(Vec<u8>),
    /// It does not name it, and was only searched.
    TooLarge,
}

fn replace(text: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memmem::find(rest, old) {
        replaced.extend_from_slice(&rest[..at]);
        replaced.extend_from_slice(new);
        rest = &rest[at + old.len()..];
    }
    replaced.extend_from_slice(rest);
    replaced
}

/// Gives a copy the permissions and the time of what it is a copy of.
fn give(file: &File, about: &Metadata) -> std::io::Result<()> {
    file.set_permissions(Permissions::from_mode(about.permissions().mode() & 0o777))?;
    file.set_modified(about.modified()?)
}
