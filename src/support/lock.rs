//! Who uses a directory: what runs there has a share of its lock, and who would take it away has the lock alone.
//!
//! They are the kernel's (`flock`): they end with their holder, however that dies.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use super::{Context, Result};

/// A lock on a directory, held as long as the value lives.
#[derive(Debug)]
pub struct DirectoryLock(File);

impl DirectoryLock {
    /// Takes the lock for us alone, without waiting; `None` where somebody has it.
    pub fn try_take(path: &Path) -> Result<Option<Self>> {
        let directory = File::open(path).context(|| format!("cannot open {}", path.display()))?;
        try_lock(directory, FlockOperation::NonBlockingLockExclusive)
            .map(|lock| lock.map(DirectoryLock))
            .context(|| format!("cannot lock {}", path.display()))
    }

    /// Takes a share of the lock; `None` where somebody takes the directory away.
    pub fn share(path: &Path) -> Result<Option<Self>> {
        share(|| File::open(path).context(|| format!("cannot open {}", path.display())))
            .map(|lock| lock.map(DirectoryLock))
    }

    /// Takes the lock for us alone, and waits for it.
    pub fn wait(path: &Path) -> Result<Self> {
        let directory = File::open(path).context(|| format!("cannot open {}", path.display()))?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&directory, FlockOperation::LockExclusive))
            .context(|| format!("cannot lock {}", path.display()))?;
        Ok(DirectoryLock(directory))
    }

    /// Lets programs that are started from now on inherit the lock, so that it lasts as long as they do.
    pub fn inherit(&self) -> Result<()> {
        rustix::io::fcntl_setfd(&self.0, rustix::io::FdFlags::empty())
            .context(|| "cannot hand a lock down".to_owned())
    }
}

/// Opens a directory, and takes a share of its lock; `None` where somebody takes the directory away. Who only looks
/// whether anybody uses it has the lock alone for a moment, which is waited out.
pub fn share<T: AsFd>(open: impl Fn() -> Result<T>) -> Result<Option<T>> {
    const MOMENT: Duration = Duration::from_secs(2);
    let begun = Instant::now();
    loop {
        // Opened each time: what was moved away meanwhile is not what is wanted.
        let shared = try_lock(open()?, FlockOperation::NonBlockingLockShared).context(|| "cannot lock it")?;
        if shared.is_some() || begun.elapsed() > MOMENT {
            return Ok(shared);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn try_lock<T: AsFd>(opened: T, operation: FlockOperation) -> rustix::io::Result<Option<T>> {
    match rustix::fs::flock(&opened, operation) {
        Ok(()) => Ok(Some(opened)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_only_looks_whether_a_directory_is_used_keeps_nobody_out() {
        let place = tempfile::tempdir().unwrap();
        let (directory, gone) = (place.path().join("a"), place.path().join("trash"));
        std::fs::create_dir(&directory).unwrap();
        let looks = DirectoryLock::try_take(&directory).unwrap().unwrap();
        let share = std::thread::scope(|scope| {
            let share = scope.spawn(|| DirectoryLock::share(&directory));
            std::thread::sleep(Duration::from_millis(100));
            drop(looks);
            share.join().unwrap()
        });
        let share = share.unwrap().unwrap();
        assert!(DirectoryLock::try_take(&directory).unwrap().is_none(), "it is used now");
        assert!(DirectoryLock::share(&directory).unwrap().is_some(), "by more than one");
        drop(share);
        // Who takes it away keeps everybody out, and what was moved away is used by nobody.
        let takes = DirectoryLock::try_take(&directory).unwrap().unwrap();
        assert!(DirectoryLock::share(&directory).unwrap().is_none());
        std::thread::scope(|scope| {
            let share = scope.spawn(|| DirectoryLock::share(&directory));
            std::fs::rename(&directory, &gone).unwrap();
            drop(takes);
            share.join().unwrap().map(drop).unwrap_err();
        });
    }
}
