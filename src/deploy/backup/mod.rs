//! All of an app as one stream, and the same app again from it.
//!
//! The stream is a plain tar ([`stream`]): a head that says what it is, the [`parts`], and at its end the sum of each of
//! them, so that one that was cut or damaged is recognised before anything is made of it. [`taking`] writes it: what
//! has to agree is read under the app's lock, in a moment; what is long (repository, dump, `shared/`) is read
//! afterwards, with nobody waiting. [`restore`] makes the app beside its place and moves it there by one rename,
//! with its data as what its first release begins with (`deploy::beginning`).

mod parts;
pub mod restore;
mod stream;
pub mod taking;

pub use restore::{Restored, refuse_other, restore, restore_of, resume, vcs_of};
pub use stream::{Head, Incoming};
pub use taking::{Wanted, write};
