//! The order in which files are written: the one in which their objects lie.
//!
//! Most objects of a pack are deltas, and git puts what is a delta of an object right behind it. Read in that order, whatever
//! an object is a delta of was read a moment ago; in the order of paths it often has to be inflated once more.

use super::objects::{LARGE, OWN};
use super::packs::Place;
use super::times::Time;
use super::tree::Entry;

/// A file or symlink that is to be written.
pub(super) struct Task<'a> {
    pub(super) entry: &'a Entry,
    /// Its size in bytes.
    pub(super) size: u64,
    pub(super) time: Time,
    /// Where its object lies; `None` where it is in no pack.
    pub(super) place: Option<Place>,
}

/// What one thread writes.
pub(super) enum Chunk<'c, 't, 'a> {
    /// What is read into memory, one after the other.
    Read(&'c [&'t Task<'a>]),
    /// What is not.
    Streamed(&'t Task<'a>),
}

/// Brings tasks into their order, and shares them out. What takes long comes first, since nobody could help with the last one:
/// all deltas that are large, since there is memory for one of them at a time, and then, one by one, what is streamed. A chunk
/// of what is small ends before an object that `is_whole`, since a delta needs what lies before it; and since what lies side
/// by side is most often of one directory, whose lock threads that write there wait for, what so many `threads` take at a time
/// lies far apart.
pub(super) fn chunks<'c, 't, 'a>(
    tasks: &'c mut [&'t Task<'a>],
    threads: usize,
    is_whole: impl Fn(Place) -> bool,
) -> Vec<Chunk<'c, 't, 'a>> {
    const MOST: usize = 512;
    let is_large = |task: &Task| task.size > OWN as u64;
    let is_streamed = |task: &Task| task.size > LARGE as u64 || task.place.is_some_and(&is_whole);
    // Those that lie nowhere stay in the order of paths.
    tasks.sort_by_cached_key(|task| {
        let is_large = is_large(task);
        (!is_large, is_large && is_streamed(task), task.place.is_none(), task.place)
    });
    let (large, mut small) = tasks.split_at(tasks.partition_point(|task| is_large(task)));
    let (deltas, streamed) = large.split_at(large.partition_point(|task| !is_streamed(task)));
    let mut chunks = Vec::new();
    chunks.extend((!deltas.is_empty()).then_some(Chunk::Read(deltas)));
    chunks.extend(streamed.iter().map(|task| Chunk::Streamed(task)));
    // Few enough to be shared out evenly, and as many as are worth it.
    let (mut neighbours, least) = (Vec::new(), (small.len() / 64).clamp(16, 128));
    while !small.is_empty() {
        let most = small.len().min(MOST);
        let may_begin = |task: &Task| task.place.is_none_or(&is_whole);
        let count = (least..most).find(|at| may_begin(small[*at])).unwrap_or(most);
        let (chunk, rest) = small.split_at(count);
        neighbours.push(Chunk::Read(chunk));
        small = rest;
    }
    chunks.extend(apart(neighbours, threads));
    chunks
}

/// Of as many runs as there are `threads` the first ones, then the second ones, and so on.
fn apart<T>(neighbours: Vec<T>, threads: usize) -> impl Iterator<Item = T> {
    let run = neighbours.len().div_ceil(threads).max(1);
    let mut all: Vec<(usize, T)> = neighbours.into_iter().enumerate().collect();
    all.sort_by_key(|(at, _)| at % run);
    all.into_iter().map(|(_, one)| one)
}

#[cfg(test)]
mod tests {
    use super::super::tree::{Kind, ObjectId};
    use super::*;

    #[test]
    fn large_ones_come_first_and_alone_and_deltas_behind_what_they_are_deltas_of() {
        let id = ObjectId::ZERO_SHA1;
        let entry = |at: usize| Entry { path: format!("{at:03}").into_bytes(), kind: Kind::Link, id };
        let entries: Vec<Entry> = (0..1000).map(entry).collect();
        // In the order of paths they lie behind each other's backs, and some in no pack.
        let task = |at: usize| {
            let size = match at {
                0 | 450 => LARGE + 1,
                5 | 6 | 7 | 107 | 150 => LARGE,
                _ => OWN,
            };
            let place = (at % 100 != 7).then(|| Place::new(at % 2, (at * 7919 % 1000) as u64));
            Task { entry: &entries[at], size: size as u64, time: Time::Now, place }
        };
        let tasks: Vec<Task> = (0..1000).map(task).collect();
        let mut tasks: Vec<&Task> = tasks.iter().collect();
        let is_whole = |place: Place| place.at().is_multiple_of(25);
        let chunks = chunks(&mut tasks, 1, is_whole);
        let mut begins = Vec::new();
        let (mut deltas, mut streamed, mut small) = (Vec::new(), Vec::new(), Vec::new());
        for chunk in &chunks {
            match chunk {
                Chunk::Read(tasks) if deltas.is_empty() => deltas.extend(tasks.iter().copied()),
                Chunk::Streamed(task) if small.is_empty() => streamed.push(*task),
                Chunk::Streamed(_) => panic!("it would keep the others waiting"),
                Chunk::Read(tasks) => {
                    assert!((1..=512).contains(&tasks.len()));
                    begins.push(tasks[0].place);
                    small.extend(tasks.iter().copied());
                }
            }
        }
        let numbers = |tasks: &[&Task]| {
            let number = |task: &&Task| std::str::from_utf8(&task.entry.path).unwrap().parse().unwrap();
            tasks.iter().map(number).collect::<Vec<usize>>()
        };
        assert_eq!(numbers(&streamed), [0, 450, 150], "what is very large, or whole");
        assert_eq!(numbers(&deltas), [6, 5, 7, 107], "deltas, and what lies in no pack");
        assert!(begins[1..].iter().all(|place| place.is_none_or(is_whole)));
        assert!(begins.len() > 10);
        let places: Vec<_> = small.iter().map_while(|task| task.place).collect();
        let nowhere = &small[places.len()..];
        assert!(places.is_sorted() && nowhere.iter().all(|task| task.place.is_none()));
        assert!(nowhere.is_sorted_by_key(|task| &task.entry.path));
        let mut all = [numbers(&streamed), numbers(&deltas), numbers(&small)].concat();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..1000));
    }

    #[test]
    fn what_threads_take_at_a_time_lies_far_apart() {
        let apart = |count: usize, threads| apart((0..count).collect(), threads).collect::<Vec<_>>();
        assert_eq!(apart(7, 3), [0, 3, 6, 1, 4, 2, 5]);
        assert_eq!(apart(6, 2), [0, 3, 1, 4, 2, 5]);
        assert_eq!(apart(3, 1), [0, 1, 2]);
        assert_eq!(apart(2, 8), [0, 1]);
        assert!(apart(0, 2).is_empty());
        let entry = |_: usize| Entry { path: vec![], kind: Kind::Link, id: ObjectId::ZERO_SHA1 };
        let entries: Vec<Entry> = (0..640).map(entry).collect();
        let task = |(at, entry)| Task { entry, size: 1, time: Time::Now, place: Some(Place::new(0, at)) };
        let tasks: Vec<Task> = (0..).zip(&entries).map(task).collect();
        let begins = |threads| -> Vec<_> {
            let mut tasks: Vec<&Task> = tasks.iter().collect();
            let begin = |chunk: &Chunk| match chunk {
                Chunk::Read(tasks) => tasks[0].place.unwrap().at(),
                Chunk::Streamed(_) => panic!("all are small"),
            };
            chunks(&mut tasks, threads, |_| true).iter().map(begin).collect()
        };
        assert_eq!(begins(1)[..3], [0, 16, 32]);
        assert_eq!(begins(2)[..4], [0, 320, 16, 336], "two threads, in two places");
    }
}
