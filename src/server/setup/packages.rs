//! What the distribution has to bring, by the program that shows that it is there.

use super::act::{Act, is_there, run};
use crate::support::{Error, Result};

/// Packages: the program, or file, that each brings, and its name.
pub struct Packages(pub Vec<(&'static str, &'static str)>);

impl Packages {
    fn missing(&self) -> Vec<&'static str> {
        self.0.iter().filter(|(program, _)| !is_there(program)).map(|(_, package)| *package).collect()
    }
}

impl Act for Packages {
    fn what(&self) -> String {
        let names: Vec<&str> = self.0.iter().map(|(_, package)| *package).collect();
        format!("packages   {}", names.join(" "))
    }

    fn is_done(&self) -> Result<bool> {
        Ok(self.missing().is_empty())
    }

    fn perform(&self) -> Result<()> {
        // The lists may be older than what the mirrors have; where they cannot be read anew, what is there may do.
        if let Err(error) = run("apt-get", &["update", "-qq"]) {
            log::warn!("{}", error.one_line());
        }
        let install = ["install", "-y", "-qq", "--no-install-recommends", "--"];
        let missing = self.missing();
        run("apt-get", &[&install[..], &missing[..]].concat()).map(drop).map_err(|error| {
            error.hint(format!("without a network, bring them in another way: {}", missing.join(" ")))
        })
    }
}

/// Refuses a system that setup does not know.
pub fn refuse_other_systems() -> Result<()> {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_default().trim_matches('"').to_owned()
    };
    let ids = format!("{} {}", value("ID"), value("ID_LIKE"));
    if !ids.split_whitespace().any(|id| ["debian", "ubuntu"].contains(&id)) {
        return Err(Error::new(format!("setup knows Debian and Ubuntu, and this is {}", value("PRETTY_NAME")))
            .hint("`receiver setup --dry-run` lists what it would make, to be made by hand; `receiver create` needs no root"));
    }
    if !std::path::Path::new("/run/systemd/system").is_dir() {
        return Err(Error::new("systemd does not run here, and setup needs it")
            .hint("`receiver create` needs neither systemd nor root"));
    }
    Ok(())
}
