//! A server as a whole: what setup makes of it, the small service that does for receiver what only root can, and the
//! way in: keys, what comes over ssh, and who carries it out.
//!
//! What is promised: a key opens the apps that it names, for what its role may do, and nothing else. What comes is
//! read by [`wish`], which knows no shell; who came is a [`visitor`], made of what [`keys`] says and of nothing that
//! was sent; the apps that a visitor does not see are not there for the command that he gives. On a server with an
//! account for ssh and one for receiver, [`ask`] hands the words and the three streams over a socket to [`answer`],
//! which looks the key up again and trusts nothing that it is told.

pub mod adoption;
pub mod answer;
pub mod ask;
pub mod authorized;
pub mod carried;
pub mod git;
pub mod grant;
pub mod hg;
pub mod identity;
pub mod keys;
pub mod line;
pub mod place;
pub mod pubkey;
pub mod root;
pub mod setup;
pub mod takeover;
pub mod visitor;
pub mod wire;
pub mod wish;
pub mod words;
