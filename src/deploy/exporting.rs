//! Writes the tree of a release: into the spare where there is one, else into a new directory.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::joblog::JobLog;
use super::look::{Look, Scene};
use super::spare::{self, Spare};
use super::stop::Stopper;
use crate::app::guard::Guard;
use crate::app::record::Record;
use crate::app::settings::Link;
use crate::app::{App, ReleaseId};
use crate::support::syncer::Syncer;
use crate::support::text::{grouped, plural};
use crate::support::{Context, Result, clock, death, files};
use crate::vcs::export::{self, Exported, Given};
use crate::vcs::manifest::Manifest;
use crate::vcs::times::{Older, Sharing};

/// What an export is made of.
pub struct Exporting<'a> {
    /// The lock.
    pub guard: &'a Guard,
    /// Where it is said how far it is.
    pub log: &'a JobLog,
    /// When to end early.
    pub stopper: &'a Stopper<'a>,
    /// Is told of what is written.
    pub syncer: &'a Syncer,
    /// The revision.
    pub look: &'a Look,
    /// The release.
    pub id: &'a ReleaseId,
    /// The release that is live, and what its export wrote.
    pub older: Option<&'a Older>,
}

impl Exporting<'_> {
    /// Brings the release's directory to what the revision says, and writes its manifest.
    pub fn run(&self, spare: Option<Spare>) -> Result<Exported> {
        let begun = Instant::now();
        let app = self.guard.app();
        let place = app.release(self.id);
        let exported = match spare::take(self.guard, spare, self.id)? {
            Some(spare) => self.over_spare(&place, &spare)?,
            None => self.afresh(&place)?,
        };
        // Without a manifest nothing is ever taken from a tree: it comes when none of this was lost.
        self.syncer.settle()?;
        let manifest = app.manifest(&self.id.name);
        self.guard.write_manifest(&self.id.name, |file| exported.manifest.write(file))?;
        outlast(&exported.manifest, &manifest, &app.trash())?;
        let files = &self.look.plan.files;
        let noun = plural(usize::try_from(files.total).unwrap_or(0), "file", "files");
        let text = format!("{} {noun}, {} changed", grouped(files.total), grouped(files.changed));
        self.log.timed("export", text, begun);
        Ok(exported)
    }

    fn over_spare(&self, place: &Path, spare: &Manifest) -> Result<Exported> {
        death::point("directory-made");
        match self.write(place, Some(spare)) {
            Err(error) if self.stopper.check().is_ok() => {
                // Whatever is the matter with it, a new directory has nothing of it.
                self.log.step("export", format!("begins afresh, not with the spare: {}", error.one_line()));
                self.guard.discard_tree(self.id)?;
                self.afresh(place)
            }
            result => result,
        }
    }

    fn afresh(&self, place: &Path) -> Result<Exported> {
        std::fs::create_dir(place).context(|| format!("cannot make the directory {}", place.display()))?;
        death::point("directory-made");
        self.write(place, None)
    }

    /// Writes the files, and says once a second how many there are.
    fn write(&self, place: &Path, spare: Option<&Manifest>) -> Result<Exported> {
        let (written, total) = (AtomicU64::new(0), self.look.size.files);
        let (begun, said) = (Instant::now(), AtomicU64::new(0));
        let told = |more| {
            let files = written.fetch_add(more, Ordering::Relaxed) + more;
            let second = begun.elapsed().as_secs();
            if said.fetch_max(second, Ordering::Relaxed) < second {
                self.log.step("export", format!("{} of {} files", grouped(files), grouped(total)));
            }
            self.stopper.check()
        };
        let trash = self.guard.app().trash();
        let given = Given { spare, older: self.older, trash: &trash, syncer: self.syncer };
        export::export(&self.look.parts, place, &given, &told)
    }
}

/// The live release, where its files can hand on their times, and themselves.
pub fn older(app: &App, look: &Look, scene: &Scene, live: Option<&Record>) -> Option<Older> {
    let (live, manifest) = (live?, look.exported.clone()?);
    // Those that a rollback left were seen, too.
    let later = scene.releases.standing.iter().filter(|record| record.seq > live.seq);
    let newest = later.filter_map(|record| Manifest::read_newest(&app.manifest(&record.id.name))).max();
    let sharing = match look.settings.export.link {
        Link::Hard if !look.settings.runs_something() => Sharing::Names,
        _ => Sharing::Blocks,
    };
    Older::open(&app.release(&live.id), manifest, newest.unwrap_or(i64::MIN), sharing)
}

/// Waits until what is changed from now on gets a later time than all that the manifest knows. Before that, a change could
/// not be told from the export. `beside` is a directory of the same filesystem.
fn outlast(manifest: &Manifest, path: &Path, beside: &Path) -> Result<()> {
    const LONGEST: Duration = Duration::from_secs(3);
    let Some(last) = manifest.last_change() else { return Ok(()) };
    let cannot = || format!("cannot look at the time in {}", beside.display());
    let directory = File::open(beside).context(cannot)?;
    let begun = Instant::now();
    while clock::of_changes(&directory).context(cannot)? <= last {
        if begun.elapsed() > LONGEST {
            // A clock that was set back: nothing is ever taken from this tree.
            return files::remove_file(path);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// What a deploy says of `export.link`, where it cannot be as it says.
pub fn refuse_names(look: &Look) -> Option<&'static str> {
    (look.settings.export.link == Link::Hard && look.settings.runs_something()).then_some(
        "export.link = \"hard\" is not followed: what runs in one release could write into the files of another",
    )
}
