//! What a user leaves behind: processes, jobs for later, files where everybody may write.
//!
//! The system gives a number again that somebody had before. So whoever gets it must find nothing of the one who is
//! gone: first nothing of him runs any more, then his things go, and only then the account.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::act::run;
use crate::support::accounts::Account;
use crate::support::{Error, Result, files};

/// How long the end of what was killed is waited for.
const MOST: Duration = Duration::from_secs(15);

/// Where everybody may write.
const OPEN: [&str; 8] = [
    "/tmp",
    "/var/tmp",
    "/dev/shm",
    "/dev/mqueue",
    "/run/lock",
    "/var/crash",
    "/var/spool/cron/atjobs",
    "/var/mail",
];

/// Ends everything of a user that would be somebody else's, once his number is given again.
pub fn end(account: &Account) -> Result<()> {
    end_processes(account.uid)?;
    for place in ["/var/spool/cron/crontabs", "/var/spool/cron", "/var/mail"] {
        let file = Path::new(place).join(&account.name);
        if !files::is_directory(&file) {
            files::remove_file(&file)?;
        }
    }
    end_segments(account.uid)?;
    OPEN.iter()
        .filter(|place| files::is_directory(Path::new(place)))
        .try_for_each(|place| sweep(place, account.uid))
}

/// Kills what runs as the user until nothing does.
fn end_processes(uid: u32) -> Result<()> {
    let begun = Instant::now();
    loop {
        let running = processes(uid);
        if running.is_empty() {
            return Ok(());
        }
        if begun.elapsed() > MOST {
            return Err(Error::new(format!(
                "process {} of user {uid} does not end",
                running[0].as_raw_pid()
            )));
        }
        for pid in running {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What runs as the user. A container that root started may give the same number to somebody of its own: what has other
/// numbers for processes than we have, and the same users, is none of ours. Whoever hides in numbers of his own without
/// being root needs users of his own for it, and is found.
fn processes(uid: u32) -> Vec<Pid> {
    let space = |pid: &str, kind: &str| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok();
    let (numbers, users) = (space("self", "pid"), space("self", "user"));
    let is_theirs = |pid: &i32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let owners = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
        let is_over = status.lines().any(|line| line.starts_with("State:\tZ"));
        let pid = pid.to_string();
        !is_over
            && owners.split_whitespace().any(|owner| owner == uid.to_string())
            && (space(&pid, "pid") == numbers || space(&pid, "user") != users)
    };
    let all = files::names_in(Path::new("/proc")).unwrap_or_default();
    all.iter().filter_map(|name| name.parse().ok()).filter(is_theirs).filter_map(Pid::from_raw).collect()
}

/// Shared memory, queues and semaphores of System V outlive whoever made them.
fn end_segments(uid: u32) -> Result<()> {
    for (kind, flag) in [("shm", "--shmem-id"), ("msg", "--queue-id"), ("sem", "--semaphore-id")] {
        let Some(text) = files::read_text(Path::new("/proc/sysvipc").join(kind).as_path())? else { continue };
        let mut lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let Some(at) = lines.next().and_then(|head| head.iter().position(|name| *name == "uid")) else {
            continue;
        };
        for line in lines.filter(|line| line.get(at).is_some_and(|owner| *owner == uid.to_string())) {
            if let Some(id) = line.get(1) {
                run("ipcrm", &[flag, id])?;
            }
        }
    }
    Ok(())
}

/// Removes what is the user's in a place where everybody may write: directories with all that is in them.
fn sweep(place: &str, uid: u32) -> Result<()> {
    for name in files::names_in(Path::new(place))? {
        let path = Path::new(place).join(name);
        match std::fs::symlink_metadata(&path) {
            Ok(about) if about.uid() == uid && about.is_dir() => files::remove_tree(&path)?,
            Ok(about) if about.uid() == uid => files::remove_file(&path)?,
            _ => {}
        }
    }
    // What lies deeper lies in a directory of somebody's who let everybody in, and a name may be no text. `find` goes by
    // descriptors, so that nobody leads it elsewhere meanwhile.
    let told = run("find", &[place, "-xdev", "-mindepth", "1", "-uid", &uid.to_string(), "-delete"]);
    if let Err(error) = told {
        log::warn!("something of user {uid} is left in {place}: {}", error.one_line());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A number that nobody has.
    const USER: u32 = 61_234;

    /// Runs a command that says `there` and waits for its input to end.
    fn waiting(words: &[&str]) -> Child {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(["sh", "-c", "echo there; read line"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = [0; 6];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said).unwrap();
        child
    }

    #[test]
    fn nobody_hides_in_numbers_of_his_own_and_nobody_elses_container_is_touched() {
        let user = format!("--reuid={USER}");
        let theirs = ["setpriv", &user, "--regid=65534", "--clear-groups"];
        let mut of_root = waiting(&[&["unshare", "--pid", "--fork"], &theirs[..]].concat());
        assert_eq!(processes(USER), []);
        let mut hidden = waiting(&[&theirs[..], &["unshare", "--user", "--pid", "--fork"]].concat());
        assert!(processes(USER).len() >= 2, "who started it, and what is in there");
        end_processes(USER).unwrap();
        assert!(!hidden.wait().unwrap().success());
        assert!(of_root.try_wait().unwrap().is_none());
        drop(of_root.stdin.take());
        of_root.wait().unwrap();
    }
}
