//! Who descends from whom, and what belongs to a start: read from /proc.

use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, WaitOptions};

use super::start::{START_VARIABLE, Start};
use crate::app::App;
use crate::support::{Context, Result};

/// What /proc says of one process.
#[derive(Clone, Copy, Debug)]
struct Member {
    pid: i32,
    parent: i32,
    ended: bool,
}

impl Member {
    fn read(pid: i32) -> Option<Member> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in brackets may hold anything; what follows the last bracket is state and
        // parent (proc_pid_stat(5)).
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let ended = matches!(fields.next()?, "Z" | "X");
        let parent = fields.next()?.parse().ok()?;
        Some(Member { pid, parent, ended })
    }
}

fn everybody() -> Vec<Member> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(Member::read).collect()
}

fn below(ancestor: i32) -> Vec<Member> {
    let all = everybody();
    let mut found: Vec<Member> = Vec::new();
    let mut waiting = vec![ancestor];
    while let Some(parent) = waiting.pop() {
        for member in all.iter().filter(|member| member.parent == parent) {
            waiting.push(member.pid);
            found.push(*member);
        }
    }
    found
}

/// All that descend from this process and have not ended.
pub fn descendants() -> Vec<Pid> {
    let me = rustix::process::getpid().as_raw_pid();
    let living = below(me).into_iter().filter(|member| !member.ended);
    living.filter_map(|member| Pid::from_raw(member.pid)).collect()
}

/// Takes in children that have ended, also those that the kernel gave to this process as their
/// subreaper; answers how `wanted` ended, where it was among them.
pub fn reap(wanted: Option<Pid>) -> Option<rustix::process::WaitStatus> {
    let mut found = None;
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if Some(pid) == wanted {
            found = Some(status);
        }
    }
    found
}

/// Ends all that descends from this process, which must be their subreaper, at once.
pub fn kill_descendants() {
    // Whoever is killed hands its children on to us: once more, until there are none.
    for _ in 0..2000 {
        let left = descendants();
        if left.is_empty() {
            break;
        }
        for pid in left {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
        reap(None);
    }
    reap(None);
}

/// Bytes of memory that a process and its descendants use; what several share is counted once
/// (`Pss` of proc_pid_smaps(5)).
pub fn memory(pid: u32) -> Option<u64> {
    let pid = i32::try_from(pid).ok()?;
    let of = |pid: i32| -> Option<u64> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)
    };
    let own = of(pid)?;
    Some(own + below(pid).into_iter().filter_map(|member| of(member.pid)).sum::<u64>())
}

/// Ends all that belongs to a start when nobody looks after it any more.
///
/// It is known by its environment, and by the descriptor that it was handed down ([`mark`]): many
/// servers write over their environment, or clear it for what they start. Who only reads that file just now,
/// `receiver status` for instance, has it open in another way.
pub fn kill_orphans(app: &App, start: &Start) {
    let name = format!("{START_VARIABLE}={}", start.id).into_bytes();
    let place = format!("RECEIVER_RELEASE_DIR={}", start.directory.display()).into_bytes();
    let file = start.file(app);
    let me = rustix::process::getpid().as_raw_pid();
    let belongs = |member: &Member| {
        let about = Path::new("/proc").join(member.pid.to_string());
        let environment = std::fs::read(about.join("environ")).unwrap_or_default();
        let has = |wanted: &[u8]| environment.split(|b| *b == 0).any(|pair| pair == wanted);
        (has(&name) && has(&place)) || is_marked(&about, &file)
    };
    for _ in 0..2000 {
        let living = everybody().into_iter().filter(|member| member.pid != me && !member.ended);
        let found: Vec<Member> = living.filter(belongs).collect();
        if found.is_empty() {
            return;
        }
        for pid in found.into_iter().filter_map(|member| Pid::from_raw(member.pid)) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Opens `file` for nothing but to be seen: all that this process starts inherits it.
pub fn mark(file: &Path) -> Result<OwnedFd> {
    // Without CLOEXEC, on purpose.
    rustix::fs::open(file, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())
        .context(|| format!("cannot open {}", file.display()))
}

fn is_marked(process: &Path, file: &Path) -> bool {
    let Ok(all) = std::fs::read_dir(process.join("fd")) else { return false };
    let wanted = file.as_os_str().as_encoded_bytes();
    all.flatten().any(|one| {
        let Ok(link) = std::fs::read_link(one.path()) else { return false };
        // It may have been replaced since.
        let link = link.as_os_str().as_encoded_bytes();
        link.strip_suffix(b" (deleted)").unwrap_or(link) == wanted
            && is_path_only(&process.join("fdinfo").join(one.file_name()))
    })
}

/// Whether a descriptor was opened as [`mark`] does (proc_pid_fdinfo(5): its flags, in octal).
fn is_path_only(about: &Path) -> bool {
    let text = std::fs::read_to_string(about).unwrap_or_default();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & OFlags::PATH.bits() != 0)
}
