//! Sends a request with this process's streams, and prints the reply.

use super::{Global, talk};
use crate::app::App;
use crate::deploy::request::{Request, Streams, carry_out};
use crate::support::{Result, user_name};

/// Carries out a request on stdin and stdout.
pub fn send(global: &Global, app: &App, request: &Request) -> Result<u8> {
    let (mut input, mut output, mut errors) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let mut streams = Streams { input: &mut input, output: &mut output, talk: &mut errors };
    let reply = carry_out(app, request, &user_name(), &mut streams)?;
    if !reply.data.is_null() {
        talk::data(global, &reply.data, &reply.words)?;
    }
    Ok(0)
}
