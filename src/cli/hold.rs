//! `receiver hold APP ID`: keeps requests while the door is closed; a worker starts it.

use std::time::Duration;

use clap::Args;

use super::{Global, app};
use crate::deploy::spawn;
use crate::serve::hold::{self, Orders};
use crate::support::Result;

/// Arguments of `hold`.
#[derive(Args)]
pub struct Hold {
    /// The app
    app: String,
    /// The holder's name
    id: String,
    /// How long the door is to be closed at the most, in milliseconds
    #[arg(long, value_name = "MS")]
    most: u64,
    /// How much longer a worker may take, and how long recovery may take, in milliseconds
    #[arg(long, value_name = "MS")]
    grace: u64,
}

impl Hold {
    /// Holds until all that it held has ended.
    pub fn run(self, global: &Global) -> Result<u8> {
        // It fails only where there is a session of our own already, as under systemd.
        let _ = rustix::process::setsid();
        let app = app::pick(global, Some(&self.app))?;
        let millis = Duration::from_millis;
        let orders = Orders { app, id: self.id, most: millis(self.most), grace: millis(self.grace) };
        hold::hold(orders, &spawn::worker)?;
        Ok(0)
    }
}
