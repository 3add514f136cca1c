//! Which role each command takes, by its name: design.md, section 6. What stands in no list is nobody's over ssh, so a
//! new command is closed until somebody opens it.

use crate::server::keys::Role;

/// For looking.
pub const READ: &[&str] = &["list", "status", "show", "history", "logs", "plan", "verify", "doctor"];

/// For pushing, and what comes of it.
pub const DEPLOY: &[&str] = &[
    "deploy",
    "rollback",
    "attach",
    "cancel",
    "lock",
    "unlock",
    "run",
    "serve",
    "maintenance",
    "up",
    "down",
    "restart",
];

/// For data, secrets, settings and keys.
pub const ADMIN: &[&str] = &["db", "env", "config", "key", "put", "get", "pin", "unpin", "prune"];

/// The role that a command takes; `None` where it is nobody's over ssh.
pub fn role(command: &str) -> Option<Role> {
    [(Role::Read, READ), (Role::Deploy, DEPLOY), (Role::Admin, ADMIN)]
        .into_iter()
        .find_map(|(role, names)| names.contains(&command).then_some(role))
}

/// The commands that a role may use, in the table's order.
pub fn of(role: Role) -> impl Iterator<Item = &'static str> {
    let most = match role {
        Role::Read => 1,
        Role::Deploy => 2,
        Role::Admin => 3,
    };
    [READ, DEPLOY, ADMIN].into_iter().take(most).flatten().copied()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::app::names::RESERVED;

    /// What the contract's table keeps for root, or for nobody.
    const CLOSED: &[&str] = &[
        "setup",
        "backup",
        "adopt",
        "remove",
        "init",
        "create",
        "hook",
        "shell",
        "work",
        "watch",
        "demo",
        "completions",
        "man",
        "receiver",
        "help",
    ];

    #[test]
    fn every_word_of_the_table_has_its_role_and_each_role_what_the_one_before_it_has() {
        for word in RESERVED {
            assert_eq!(role(word).is_none(), CLOSED.contains(word), "{word}");
        }
        let all: Vec<_> = [READ, DEPLOY, ADMIN].concat();
        assert_eq!(all.len() + CLOSED.len(), RESERVED.len());
        assert!(of(Role::Admin).eq(all.iter().copied()) && of(Role::Read).eq(READ.iter().copied()));
    }

    #[test]
    fn no_hidden_command_is_anybodys() {
        for command in crate::cli::Cli::command().get_subcommands() {
            assert!(!command.is_hide_set() || role(command.get_name()).is_none(), "{}", command.get_name());
        }
    }
}
