//! git's other end: becomes `git receive-pack` or `git upload-pack` of an app's repository.

use std::os::unix::process::CommandExt;
use std::process::Command;

use super::keys::Role;
use super::visitor::Visitor;
use super::wish::Service;
use crate::app::{AppName, Root};
use crate::support::{Error, Result, program};

/// The variable in which the hooks find whose push it is.
pub const KEY_VARIABLE: &str = "RECEIVER_KEY";

/// The role that a service takes.
pub fn role(service: Service) -> Role {
    match service {
        Service::ReceivePack => Role::Deploy,
        Service::UploadPack => Role::Read,
    }
}

/// Becomes git; returns only where the key does not open that, or it cannot be started.
///
/// # Errors
/// See above.
pub fn serve(
    root: &Root,
    visitor: &Visitor,
    service: Service,
    app: &AppName,
    protocol: Option<&str>,
) -> Result<()> {
    visitor.refuse_foreign(app)?;
    visitor
        .refuse_below(role(service), if service == Service::ReceivePack { "a push" } else { "a fetch" })?;
    let app = root.open(app)?;
    let mut command = Command::new("git");
    command.arg(service.as_str()).arg(app.repository());
    command.env_clear().envs(program::environment()).env(KEY_VARIABLE, visitor.by());
    if let Some(version) = protocol.filter(|text| is_version(text)) {
        command.env("GIT_PROTOCOL", version);
    }
    let error = command.current_dir("/").exec();
    Err(Error::new("cannot start git").caused_by(error))
}

/// `version=2`: all that is let through of what a client asks git's protocol for.
fn is_version(text: &str) -> bool {
    text.strip_prefix("version=")
        .is_some_and(|digit| digit.len() == 1 && digit.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_protocol_only_its_version_passes() {
        assert!(is_version("version=2") && is_version("version=0"));
        for bad in ["", "version=", "version=22", "version=2:x", "version=2\n", "x=1", "version=é"] {
            assert!(!is_version(bad), "{bad:?}");
        }
    }
}
