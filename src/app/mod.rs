//! An app on this server: its names, its place on disk, and the only way to write there.

pub mod names;

pub use names::{AppName, ReleaseId, ReleaseName, Revision, Version};
