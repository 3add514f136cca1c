//! Sends a request with this process's streams, and prints the reply.

use std::io::Read;

use clap::Args;

use super::{Global, talk};
use crate::app::App;
use crate::deploy::foresight::foresee;
use crate::deploy::request::{Reply, Request, Streams, carry_out};
use crate::server::line;
use crate::support::Result;

/// What every command understands that changes something.
#[derive(Args, Clone, Copy)]
pub struct DryRun {
    /// Say what would be changed, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

impl DryRun {
    /// Carries a request out, or only says what it would do.
    pub fn send(self, global: &Global, app: &App, request: &Request) -> Result<u8> {
        if self.dry_run {
            return print(global, &foresee(app, request)?);
        }
        send(global, app, request)
    }
}

/// Carries out a request on stdin and stdout.
pub fn send(global: &Global, app: &App, request: &Request) -> Result<u8> {
    print(global, &ask(global, app, request)?)
}

/// Carries out a request on stdin and stdout, and leaves its reply to the caller.
pub fn ask(global: &Global, app: &App, request: &Request) -> Result<Reply> {
    let (mut output, mut errors) = (std::io::stdout(), std::io::stderr());
    let mut input: Box<dyn Read> = match global.visitor {
        Some(_) => Box::new(line::Input(std::io::stdin())),
        None => Box::new(std::io::stdin()),
    };
    let mut streams = Streams { input: &mut input, output: &mut output, talk: &mut errors };
    carry_out(app, request, &global.by(), &mut streams)
}

fn print(global: &Global, reply: &Reply) -> Result<u8> {
    if reply.talk {
        reply.words.iter().for_each(|line| talk::say(global, line));
    }
    // What went to the output as a stream has no object besides.
    if (global.json || !reply.talk) && !reply.data.is_null() {
        talk::data(global, &reply.data, &reply.words)?;
    }
    Ok(0)
}
