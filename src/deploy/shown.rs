//! The versions that are kept, each with the release that stands for it when somebody looks at them side by
//! side. nginx and the waker see the same.

use super::look::{self, Scene};
use super::rollback;
use crate::app::record::{self, Record};
use crate::app::settings::{Settings, Urls};
use crate::app::{App, Version};
use crate::serve::nginx;
use crate::support::{Error, Result};

/// A version, by its release.
#[derive(Clone, Debug)]
pub struct Shown {
    /// What is live in the live version, the newest good release of any other.
    pub record: Record,
    /// What holds for that.
    pub settings: Settings,
}

impl Shown {
    /// Its version.
    pub fn version(&self) -> Version {
        self.record.id.version
    }

    /// Where nginx finds the release in the version's directory. `last` leads there, and goes on to; but not to
    /// one that a rollback went back to, past others, nor to one that was withdrawn.
    fn directory(&self, app: &App) -> String {
        let name = self.record.id.name.as_str();
        let last = std::fs::read_link(app.last(self.version()));
        let leads_there = last.is_ok_and(|target| target.as_os_str() == name);
        if leads_there { "last".to_owned() } else { name.to_owned() }
    }
}

/// The release that stands for a version.
///
/// # Errors
/// Where the version has none that is complete.
pub fn standing_for(scene: &Scene, version: Version) -> Result<Record> {
    let id = match scene.live.as_ref().filter(|live| live.version == version) {
        Some(live) => live.clone(),
        None => rollback::last_of(scene, version)?,
    };
    let record = scene.releases.sealed(&id).cloned();
    record.ok_or_else(|| Error::new(format!("{id} is not a complete release")))
}

/// All versions that somebody can look at.
pub fn all(app: &App) -> Result<Vec<Shown>> {
    let scene = Scene::read(app)?;
    let mut shown = Vec::new();
    for version in record::versions(app)? {
        // One that just opens has no release yet; and what is wrong with one is no other's business.
        let one = standing_for(&scene, version).and_then(|record| {
            let settings = look::settings_of(app, &record)?;
            Ok(Shown { record, settings })
        });
        match one {
            Ok(one) => shown.push(one),
            Err(error) => log::debug!("version {version} is not shown: {}", error.one_line()),
        }
    }
    Ok(shown)
}

/// The same for nginx, as far as it is granted.
pub fn for_nginx(app: &App, urls: Urls) -> Result<nginx::Versions> {
    let shown = if urls == Urls::Off { Vec::new() } else { all(app)? };
    let kept = shown.iter().map(|one| {
        let release = app.release(&one.record.id);
        nginx::Kept::of(one.version(), &one.settings, &release, &one.directory(app))
    });
    Ok(nginx::Versions { urls, kept: kept.collect() })
}
