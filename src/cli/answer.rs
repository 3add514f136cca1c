//! `receiver answer`: what carries out, on receiver's side, a command that came over ssh.

use std::os::fd::AsFd;

use clap::Args;

use super::visit;
use crate::server::answer;
use crate::server::place::Place;
use crate::support::{Context, Result};

/// Arguments of `answer`.
#[derive(Args)]
pub struct Answer {}

impl Answer {
    /// Answers whoever is connected to our input.
    pub fn run() -> Result<u8> {
        let place = Place::of_server()?;
        let connection =
            std::io::stdin().as_fd().try_clone_to_owned().context(|| "there is no connection to answer")?;
        answer::answer(connection, &place, &|visitor, words| visit::carry(place.root(), visitor, words))?;
        Ok(0)
    }
}
