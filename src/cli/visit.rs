//! A command that came over ssh: parsed as any other, refused where the key's role does not reach, and run with no
//! other apps in sight than the key's.

use std::io::Write;
use std::path::Path;

use clap::{CommandFactory, FromArgMatches};

use super::{Cli, Global, finish, rights, talk};
use crate::server::keys::Role;
use crate::server::line;
use crate::server::visitor::Visitor;
use crate::support::text::printable;
use crate::support::{Error, Result, user_name};

/// Carries a command out for a visitor, on this process's streams. Returns the exit code.
pub fn carry(root: &Path, visitor: Visitor, words: &[String]) -> u8 {
    line::end_with_it();
    let cli = match parse(&visitor, words) {
        Ok(Parsed::Command(cli)) => *cli,
        Ok(Parsed::Said(code)) => return code,
        Err(error) => {
            talk::error(&Global::default(), &error);
            return error.exit_code();
        }
    };
    let global = Global { root: Some(root.to_owned()), visitor: Some(visitor), ..cli.global };
    finish(&global, cli.command.run(&global))
}

enum Parsed {
    Command(Box<Cli>),
    /// Help was asked for, or the words make no command: it is said, and this is the code.
    Said(u8),
}

fn parse(visitor: &Visitor, words: &[String]) -> Result<Parsed> {
    // What is not this key's is refused before it is looked at, where it is the first word that is no flag.
    if let Some(first) = words.first().filter(|word| !word.starts_with('-')) {
        refuse(visitor, first)?;
    }
    let given = std::iter::once("receiver").chain(words.iter().map(String::as_str));
    let parsed = Cli::command().try_get_matches_from(given).and_then(|matches| {
        let command = matches.subcommand_name().unwrap_or_default().to_owned();
        Ok((command, Cli::from_arg_matches(&matches)?))
    });
    let (command, cli) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            let _ = error.print();
            return Ok(Parsed::Said(if error.use_stderr() { 2 } else { 0 }));
        }
    };
    // That is the command that will be run, whatever the flags before it were.
    refuse(visitor, &command)?;
    if cli.global.root.is_some() {
        return Err(Error::usage("--root is for those who are on the server"));
    }
    Ok(Parsed::Command(Box::new(cli)))
}

fn refuse(visitor: &Visitor, command: &str) -> Result<()> {
    let refused = if let Some(role) = rights::role(command) {
        visitor.refuse_below(role, &format!("`{command}`"))
    } else {
        let shown: String = command.chars().take(40).collect();
        Err(Error::usage(format!("'{}' is nothing that is done over ssh", printable(&shown))))
    };
    refused.map_err(|error| error.hint(may(visitor)))
}

/// What a key may do, in a few lines.
pub fn may(visitor: &Visitor) -> String {
    let apps = visitor.sight.words().join(", ");
    let git = if visitor.role > Role::Read { "git push, fetch and clone" } else { "git fetch and clone" };
    let commands: Vec<&str> = rights::of(visitor.role).collect();
    format!("this key, {}, may do, for {apps}: {git}; {}", visitor.by(), commands.join(", "))
}

/// What somebody is told who wants a shell.
pub fn greet(visitor: &Visitor) {
    let mut errors = std::io::stderr();
    let _ = writeln!(errors, "Hello {}! There is no shell here.\n", visitor.by());
    let _ = writeln!(errors, "This key opens: {}", visitor.sight.words().join(", "));
    let account = user_name();
    let _ = writeln!(errors, "  git clone {account}@HOST:APP");
    if visitor.role > Role::Read {
        let _ = writeln!(errors, "  git push {account}@HOST:APP main");
    }
    let all = Cli::command();
    for name in rights::of(visitor.role) {
        let Some(about) = all.find_subcommand(name).and_then(|command| command.get_about()) else { continue };
        let _ = writeln!(errors, "  ssh {account}@HOST {name:<12} {about}");
    }
}
