//! Writes a tree that lies in memory, and syncs it then: what it costs at least to make one in that order.
//!
//! usage: raw THREADS SOURCE NEW [sync]
//!
//! Reads all below SOURCE, and then, by so many threads, makes the same directories, files and symbolic links below NEW, which
//! may not be there: what a tree costs in the kernel, by a descriptor for each directory and three calls for each file, with
//! nothing to find, to inflate or to write down. `sync` calls `syncfs` on it at the end. Says the seconds from the first
//! directory to the end, and the processor time of it; the reading is not counted.
//!
//! `bench/export` builds it by `rustc -O`; it needs nothing but the standard library.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::Instant;
use std::{env, fs, thread};

unsafe extern "C" {
    fn openat(directory: i32, name: *const i8, flags: i32, mode: u32) -> i32;
    fn mkdirat(directory: i32, name: *const i8, mode: u32) -> i32;
    fn symlinkat(to: *const i8, directory: i32, name: *const i8) -> i32;
    fn write(file: i32, bytes: *const u8, length: usize) -> isize;
    fn syncfs(file: i32) -> i32;
    fn clock() -> i64;
}

/// `O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC`, and `O_PATH | O_DIRECTORY | O_CLOEXEC`, of Linux on x86-64 and ARM.
const MAKE: i32 = 0o2000301;
const DIRECTORY: i32 = 0o12000000 | DIRECTORY_ONLY;
#[cfg(target_arch = "aarch64")]
const DIRECTORY_ONLY: i32 = 0o40000;
#[cfg(not(target_arch = "aarch64"))]
const DIRECTORY_ONLY: i32 = 0o200000;

enum What {
    File(Vec<u8>, u32),
    Link(CString),
}

type Directory = Vec<(CString, What)>;

/// The file that a call opened.
///
/// # Safety
/// The number is what a call answered that opens one, and nobody else's.
unsafe fn opened(number: i32, of: &CString) -> File {
    assert!(number >= 0, "{of:?}: {}", std::io::Error::last_os_error());
    // SAFETY: as the caller says.
    unsafe { File::from_raw_fd(number) }
}

fn name(of: &Path) -> CString {
    CString::new(of.as_os_str().as_bytes()).expect("a name without NUL")
}

fn read(top: &Path, inside: &Path, into: &mut BTreeMap<PathBuf, Directory>) {
    let mut entries = Vec::new();
    for entry in fs::read_dir(top.join(inside)).expect("a directory") {
        let entry = entry.expect("an entry");
        let (kind, path, plain) =
            (entry.file_type().expect("a type"), entry.path(), PathBuf::from(entry.file_name()));
        if kind.is_dir() {
            read(top, &inside.join(&plain), into);
        } else if kind.is_symlink() {
            entries.push((name(&plain), What::Link(name(&fs::read_link(path).expect("a link")))));
        } else {
            let mode = entry.metadata().expect("a file").permissions().mode() & 0o777;
            entries.push((name(&plain), What::File(fs::read(path).expect("a file"), mode)));
        }
    }
    into.insert(inside.to_path_buf(), entries);
}

/// Directories that are made, the deepest last.
struct Open {
    path: PathBuf,
    descriptor: File,
}

fn enter(open: &mut Vec<Open>, path: &Path) -> i32 {
    while !path.starts_with(&open.last().expect("the top").path) {
        open.pop();
    }
    let last = open.last().expect("the top");
    let (mut at, mut descriptor) = (last.path.clone(), last.descriptor.as_raw_fd());
    for part in path.strip_prefix(&last.path).expect("below").to_path_buf().components() {
        at.push(part);
        let part = name(part.as_ref());
        // SAFETY: the names end with NUL, and the descriptors are open.
        let file = unsafe {
            mkdirat(descriptor, part.as_ptr().cast(), 0o755);
            opened(openat(descriptor, part.as_ptr().cast(), DIRECTORY, 0), &part)
        };
        descriptor = file.as_raw_fd();
        open.push(Open { path: at.clone(), descriptor: file });
    }
    descriptor
}

fn make(directories: &[(PathBuf, Directory)], to: &Path) {
    let mut open = vec![Open { path: PathBuf::new(), descriptor: File::open(to).expect("the top") }];
    for (path, entries) in directories {
        let directory = enter(&mut open, path);
        for (name, what) in entries {
            // SAFETY: as above; the bytes are as long as they say.
            let fine = unsafe {
                match what {
                    What::Link(to) => symlinkat(to.as_ptr().cast(), directory, name.as_ptr().cast()) == 0,
                    What::File(bytes, mode) => {
                        let file = opened(openat(directory, name.as_ptr().cast(), MAKE, *mode), name);
                        bytes.is_empty()
                            || write(file.as_raw_fd(), bytes.as_ptr(), bytes.len()) == bytes.len() as isize
                    }
                }
            };
            assert!(fine, "{name:?}: {}", std::io::Error::last_os_error());
        }
    }
}

fn main() {
    let said: Vec<String> = env::args().skip(1).collect();
    let [threads, source, to, sync @ ..] = said.as_slice() else { panic!("raw THREADS SOURCE NEW [sync]") };
    let threads: usize = threads.parse().expect("a number of threads");
    let mut found = BTreeMap::new();
    read(Path::new(source), Path::new(""), &mut found);
    // As many files for each, and neighbours together: no two threads want one directory's lock.
    let files: usize = found.values().map(Vec::len).sum();
    let (mut shares, mut counted) = ((0..threads).map(|_| Vec::new()).collect::<Vec<_>>(), 0);
    for (path, entries) in found {
        let share = (counted * threads / files.max(1)).min(threads - 1);
        counted += entries.len();
        shares[share].push((path, entries));
    }
    fs::create_dir(to).expect("a new directory");
    let barrier = Barrier::new(threads + 1);
    thread::scope(|scope| {
        let makers: Vec<_> = shares
            .iter()
            .map(|share| {
                scope.spawn(|| {
                    barrier.wait();
                    make(share, Path::new(to));
                })
            })
            .collect();
        // SAFETY: nothing is passed.
        let (begun, cpu) = (Instant::now(), unsafe { clock() });
        barrier.wait();
        for maker in makers {
            maker.join().expect("all are made");
        }
        if sync == ["sync"] {
            let top = File::open(to).expect("the top");
            // SAFETY: the descriptor is open.
            assert!(unsafe { syncfs(top.as_raw_fd()) } == 0, "{}", std::io::Error::last_os_error());
        }
        println!("{:.6} {:.6}", begun.elapsed().as_secs_f64(), (unsafe { clock() } - cpu) as f64 / 1e6);
    });
}
