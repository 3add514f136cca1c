//! Work that as many threads share as there are processors.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::Result;

/// How many threads work at a time.
pub fn count() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// Does all tasks, each by whichever thread is free next, and answers what came of each, in their order. `worker` makes
/// what does them in one thread.
///
/// # Errors
/// Whatever a task ends with: none is begun after one failed.
pub fn share_out<T: Sync, D: Send, W: FnMut(&T) -> Result<D>>(
    tasks: &[T],
    worker: impl Fn() -> W + Sync,
) -> Result<Vec<D>> {
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let work = || -> Result<Vec<(usize, D)>> {
        let (mut work, mut done) = (worker(), Vec::new());
        while !failed.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(task) = tasks.get(at) else { break };
            done.push((at, work(task).inspect_err(|_| failed.store(true, Ordering::Relaxed))?));
        }
        Ok(done)
    };
    let threads = count().min(tasks.len());
    let mut done = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut all = work();
        for other in others {
            let done = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            all = all.and_then(|mut all| {
                all.append(&mut done?);
                Ok(all)
            });
        }
        all
    })?;
    done.sort_unstable_by_key(|(at, _)| *at);
    Ok(done.into_iter().map(|(_, done)| done).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::Error;

    #[test]
    fn every_task_is_done_once_and_answered_in_order() {
        let tasks: Vec<u64> = (0..1000).collect();
        let made = AtomicUsize::new(0);
        let worker = || {
            made.fetch_add(1, Ordering::Relaxed);
            |task: &u64| Ok(task * 2)
        };
        assert_eq!(share_out(&tasks, worker).unwrap(), (0..1000).map(|task| task * 2).collect::<Vec<_>>());
        assert!(made.load(Ordering::Relaxed) <= count());
        assert_eq!(share_out(&[], || |()| Ok(())).unwrap().len(), 0);
    }

    #[test]
    fn no_task_is_begun_after_one_failed() {
        let begun = AtomicUsize::new(0);
        let fail = |task: &usize| {
            begun.fetch_add(1, Ordering::Relaxed);
            if *task == 3 { Err(Error::new("the third")) } else { Ok(()) }
        };
        let tasks: Vec<usize> = (0..100_000).collect();
        let refused = share_out(&tasks, || &fail).unwrap_err();
        assert_eq!(refused.one_line(), "the third");
        assert!(begun.load(Ordering::Relaxed) < tasks.len());
    }
}
