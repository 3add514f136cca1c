//! The time of day. Nothing is ordered by it: order is the journal's sequence.

use jiff::{Timestamp, Unit};
use rustix::fd::AsFd;
use rustix::fs::{Timespec, Timestamps, UTIME_NOW};

/// Now, in UTC, to the second.
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    #[cfg(debug_assertions)]
    let now = shifted(now);
    now.round(Unit::Second).unwrap_or(now)
}

/// The time that the kernel gives to a file which is written now: seconds and nanoseconds. It may lag behind
/// the clock's by some milliseconds.
pub fn of_files() -> (i64, u32) {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    (now.tv_sec, u32::try_from(now.tv_nsec).unwrap_or_default())
}

/// The time that a filesystem gives to a change which is made now, of which an open directory is touched for that. It may
/// count in seconds; and a kernel counts in ticks of some milliseconds, but where a time was looked at, since Linux 6.13, as
/// finely as it takes to tell changes apart, and none that comes later is earlier (source: the kernel's
/// Documentation/filesystems/multigrain-ts.rst).
pub fn of_changes(directory: &impl AsFd) -> rustix::io::Result<(i64, u32)> {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    rustix::fs::fstat(directory)?;
    rustix::fs::futimens(directory, &Timestamps { last_access: now, last_modification: now })?;
    let about = rustix::fs::fstat(directory)?;
    Ok((about.st_ctime, u32::try_from(about.st_ctime_nsec).unwrap_or_default()))
}

/// Tests set the clock back, or let a day pass, by `RECEIVER_TEST_CLOCK` (seconds); absent from release builds.
#[cfg(debug_assertions)]
fn shifted(now: Timestamp) -> Timestamp {
    let shift = std::env::var("RECEIVER_TEST_CLOCK").ok().and_then(|text| text.parse::<i64>().ok());
    now.checked_add(jiff::SignedDuration::from_secs(shift.unwrap_or(0))).unwrap_or(now)
}
