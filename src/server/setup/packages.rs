//! What the distribution has to bring, by the program that shows that it is there.

use super::act::{Act, NO_ROOM, is_there, run};
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
        let lists = run("apt-get", &["update", "-qq", "-o", "APT::Update::Error-Mode=any"]).err();
        let missing = self.missing();
        let install = |packages: &[&str], more: &[&str]| {
            let install = ["install", "-y", "-qq", "--no-install-recommends", "-o", WAITING, "-o", PLAIN];
            run("apt-get", &[&install[..], more, &["--"], packages].concat()).map(drop)
        };
        let installed = install(&missing, &[]).or_else(|error| {
            if !error.one_line().contains("dpkg was interrupted") {
                return Err(error);
            }
            // By the end of the machine, or of a run before this one. What was half unpacked then nobody can configure,
            // and apt leaves it so unless it is named.
            let configured = run("dpkg", &["--configure", "-a"]);
            let states =
                run("dpkg-query", &["--show", "--showformat=${db:Status-Eflag} ${binary:Package}\n"])?;
            let half: Vec<&str> = states.lines().filter_map(|line| line.strip_prefix("reinstreq ")).collect();
            if half.is_empty() { configured.map(drop) } else { install(&half, &["--reinstall"]) }?;
            install(&missing, &[])
        });
        installed.map_err(|error| {
            let missing = missing.join(" ");
            match lists {
                // What is said of a full disk anywhere is said of it here.
                _ if error.one_line().contains(NO_ROOM) => error,
                _ if error.one_line().contains("free space") => {
                    error.hint("make room in /var, and the same command goes on; `df -h` says where there is none")
                }
                Some(lists) => error.hint(format!(
                    "the lists of packages could not be read ({}): see that this server reaches its mirrors, or bring them in \
                     another way: {missing}",
                    lists.one_line()
                )),
                None => error.hint(format!("`apt-get install {missing}` says more, and does the same")),
            }
        })
    }
}

/// Another run of apt may be at work, such as the one of a setup that was killed.
const WAITING: &str = "DPkg::Lock::Timeout=300";

/// What dpkg says of an error is said as such, and not on a terminal of apt's own.
const PLAIN: &str = "Dpkg::Use-Pty=0";

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
