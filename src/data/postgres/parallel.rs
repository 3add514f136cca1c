//! The same work on many tables, with as many sessions as there are processors.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::catalog::Table;
use crate::data::{Limit, Progress};
use crate::support::{Error, Result};

/// How many tables are worked on at once.
pub(super) fn width() -> usize {
    thread::available_parallelism().map_or(2, usize::from).clamp(2, 8)
}

/// What those who work share.
pub(super) struct Shared<'a> {
    waiting: Mutex<VecDeque<Table>>,
    /// The first error: it is the one that counts.
    failed: Mutex<Option<Error>>,
    /// Whether the others are to stop.
    stop: AtomicBool,
    /// The bytes that went through.
    pub(super) moved: AtomicU64,
    limit: &'a Limit<'a>,
}

impl Shared<'_> {
    /// An error when the limit is over, or another worker failed.
    pub(super) fn check(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::new("another table failed"));
        }
        self.limit.check()
    }

    fn next(&self) -> Option<Table> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn fail(&self, error: Error) {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Does `work` on every table, the largest first, each worker with what `begin` gives it. Tells how far it has
/// come once a second. The first error ends all of it.
pub(super) fn over<W>(
    mut tables: Vec<Table>,
    limit: &Limit<'_>,
    begin: impl Fn() -> Result<W> + Sync,
    work: impl Fn(&mut W, Table, &Shared<'_>) -> Result<()> + Sync,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<()> {
    tables.sort_by_key(|table| std::cmp::Reverse(table.bytes));
    let total = tables.iter().map(|table| table.bytes).sum();
    let width = width().min(tables.len());
    let shared = Shared {
        waiting: Mutex::new(tables.into()),
        failed: Mutex::new(None),
        stop: AtomicBool::new(false),
        moved: AtomicU64::new(0),
        limit,
    };
    let one = || -> Result<()> {
        let mut worker = begin()?;
        while let Some(table) = shared.next() {
            shared.check()?;
            work(&mut worker, table, &shared)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let spawn = || scope.spawn(|| one().unwrap_or_else(|error| shared.fail(error)));
        let workers: Vec<_> = (0..width).map(|_| spawn()).collect();
        let mut told = Instant::now();
        while workers.iter().any(|worker| !worker.is_finished()) {
            thread::sleep(Duration::from_millis(5));
            if let Err(error) = limit.check() {
                shared.fail(error);
            }
            if told.elapsed() >= Duration::from_secs(1) {
                told = Instant::now();
                let done = shared.moved.load(Ordering::Relaxed).min(total);
                on_progress(Progress { done, total });
            }
        }
    });
    match shared.failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}
