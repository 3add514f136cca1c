//! An app on this server: its names, its place on disk, and the only way to write there.

mod gist;
pub mod guard;
mod history;
pub mod init;
pub mod journal;
pub mod layout;
pub mod names;
mod paths;
pub mod record;
pub mod server;
pub mod settings;
pub mod sight;
pub mod slug;
pub mod vcs;

pub use guard::Guard;
pub use layout::{App, Lineage, Root};
pub use names::{AppName, ReleaseId, ReleaseName, Revision, Version};
pub use sight::Sight;
pub use vcs::Vcs;
