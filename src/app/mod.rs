//! An app on this server: its names, its place on disk, and the only way to write there.

pub mod init;
pub mod names;
pub mod settings;

pub use names::{AppName, ReleaseId, ReleaseName, Revision, Version};
