//! Whether the disks have room for a release and its data. Looked at before anything is written.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::beginning::Beginning;
use super::joblog::JobLog;
use super::look::Look;
use super::{databases, plan, prune};
use crate::app::App;
use crate::app::guard::Guard;
use crate::support::text::grouped;
use crate::support::{Context, Error, Result, files, text};

/// What has to fit on one filesystem.
#[derive(Debug)]
struct Need {
    /// A directory on it.
    place: PathBuf,
    bytes: u64,
    inodes: u64,
}

/// Estimates bytes and inodes; where there is too little, prunes, and looks again.
pub fn make(guard: &mut Guard, look: &Look, log: &JobLog) -> Result<()> {
    let app = guard.app().clone();
    let needs = needs(&app, look)?;
    if lacking(&needs)?.is_none() {
        return Ok(());
    }
    for gone in prune::words(&prune::run(guard, &look.settings.keep)?) {
        log.step("prune", gone);
    }
    if guard.discard_spare()? {
        log.step("prune", "the spare: there is too little room for it");
    }
    prune::empty_trash(&app);
    match lacking(&needs)? {
        None => Ok(()),
        Some(lack) => Err(Error::new(format!("the disk has too little {lack}")).hint(format!(
            "free some, or keep less: `receiver config {} keep.releases 2`, then `receiver prune`",
            app.name()
        ))),
    }
}

/// The tree's needs and the data's, together where they lie on one filesystem.
fn needs(app: &App, look: &Look) -> Result<Vec<Need>> {
    // A tenth more, and some megabytes for journals, logs and what stages make.
    let generous = |bytes: u64| bytes / 10 * 11 + (8 << 20);
    let size = look.size;
    let place = app.versions();
    let inodes = size.files + size.directories + 64;
    let mut tree = Need { place, bytes: generous(size.allocated), inodes };
    let Some(data) = data(app, look)? else { return Ok(vec![tree]) };
    let device = |path: &Path| {
        let about = std::fs::metadata(path).context(|| format!("cannot look at {}", path.display()))?;
        Ok::<u64, Error>(about.dev())
    };
    if device(&tree.place)? == device(&data.place)? {
        tree.bytes += generous(data.bytes);
        return Ok(vec![tree]);
    }
    Ok(vec![tree, Need { bytes: generous(data.bytes), ..data }])
}

/// What the databases of a version that opens will take: the rehearsal's, its own, and their logs. `None` where
/// none is copied, or where the server's disk cannot be seen from here.
fn data(app: &App, look: &Look) -> Result<Option<Need>> {
    let from = match &look.plan.data {
        plan::Data::Carried(_, from) => databases::of(app, from)?,
        plan::Data::Seeded(_, from) => databases::of_parent(app, from)?,
        plan::Data::Brought(brought) => {
            let own = databases::of(app, &brought.database)?;
            let dump = std::fs::metadata(Beginning::dump(app)).map_or(0, |about| about.len());
            let Some(place) = own.directory()?.filter(|place| place.is_dir()) else { return Ok(None) };
            return Ok(Some(Need { place, bytes: dump.saturating_mul(22) / 10, inodes: 0 }));
        }
        _ => return Ok(None),
    };
    let Some(place) = from.directory()?.filter(|place| place.is_dir()) else { return Ok(None) };
    Ok(Some(Need { place, bytes: from.size()?.saturating_mul(22) / 10, inodes: 0 }))
}

/// What does not fit, in words.
fn lacking(needs: &[Need]) -> Result<Option<String>> {
    for need in needs {
        let (free_bytes, free_inodes) = files::free_space(&need.place)?;
        let (what, wanted, free) = if free_bytes < need.bytes {
            ("space", text::bytes(need.bytes), text::bytes(free_bytes))
        } else if free_inodes < need.inodes {
            ("inodes", grouped(need.inodes), grouped(free_inodes))
        } else {
            continue;
        };
        return Ok(Some(format!("{what}: {wanted} are wanted in {}, {free} are left", need.place.display())));
    }
    Ok(None)
}
