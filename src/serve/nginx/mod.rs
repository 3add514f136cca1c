//! nginx before the door: one file of its configuration for each app, and private ones of our own.
//!
//! The promises: the text is made of validated values only, each quoted; a file is written only where
//! something changed, tested with only itself new, and taken back where nginx refuses it or does not load it;
//! no other file of nginx's configuration is ever written, and one is moved only where somebody names it. A switch needs
//! no reload, unless a version comes or goes that has a host of its own, or `[web] static` changed.

pub mod check;
pub mod install;
pub mod private;
pub mod quoted;
pub mod rivals;
pub mod site;
pub mod versions;

pub use check::Nginx;
pub use install::{Installed, install};
pub use private::Private;
pub use site::{Content, Front, Site};
pub use versions::{Kept, Versions};
