//! `receiver hook NAME`: what git's and Mercurial's hooks call. The app is found from the repository's place.

use std::io::Read;
use std::path::Path;

use clap::Args;

use super::Global;
use crate::app::App;
use crate::deploy::{hook, transaction};
use crate::server::git::KEY_VARIABLE;
use crate::server::keys::KeyName;
use crate::support::{Context, Error, Result, user_name};

/// Arguments of `hook`.
#[derive(Args)]
pub struct Hook {
    /// pre-receive or post-receive; pretxnclose or txnclose
    name: String,
}

impl Hook {
    /// Does what the hook does.
    pub fn run(self, _global: &Global) -> Result<u8> {
        let app = App::of_repository(Path::new("."))?;
        let mut output = std::io::stderr();
        let told = |name: &str| std::env::var(name).ok();
        match self.name.as_str() {
            "pretxnclose" => {
                let asked = transaction::asked(std::env::vars_os());
                return Ok(u8::from(!transaction::before(&app, &told, asked, &mut output)?));
            }
            "txnclose" => return transaction::after(&app, &told, &pusher(), &mut output),
            _ => {}
        }
        let mut input = Vec::new();
        std::io::stdin().lock().read_to_end(&mut input).context(|| "cannot read what git says")?;
        let updates = hook::updates(&input)?;
        let asked = hook::asked(told);
        match self.name.as_str() {
            "pre-receive" => Ok(u8::from(!hook::pre_receive(&app, &updates, asked, None, &mut output)?)),
            "post-receive" => hook::post_receive(&app, &updates, &asked?, &pusher(), &mut output),
            other => Err(Error::usage(format!("there is no hook '{}'", other.escape_default()))),
        }
    }
}

/// Whose push it is: that of the key that it came by, or else the user's.
fn pusher() -> String {
    let key = std::env::var(KEY_VARIABLE).ok().and_then(|name| name.parse::<KeyName>().ok());
    key.map_or_else(user_name, String::from)
}
