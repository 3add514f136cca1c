use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::Instant;
use std::{fs, thread};

use rustix::fs::FallocateFlags;

use super::server::TestServer;
use super::*;
use crate::support::files;

/// A small filesystem, as long as this lives.
struct Disk(PathBuf);

impl Disk {
    fn new(megabytes: u32) -> Disk {
        let place = tempfile::Builder::new().prefix("receiver-disk-").tempdir().unwrap().keep();
        let options = format!("mode=0755,size={megabytes}m");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&place).status();
        assert!(mounted.unwrap().success(), "this test mounts a small tmpfs, so it needs root");
        fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).unwrap();
        Disk(place)
    }

    /// A file that takes all that is left.
    fn fill(&self) -> PathBuf {
        let filler = self.0.join("filler");
        let file = fs::File::create(&filler).unwrap();
        let mut size = free(&self.0);
        while size > 0 && rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, size).is_err() {
            size -= 4096;
        }
        filler
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
        let _ = fs::remove_dir(&self.0);
    }
}

fn free(place: &Path) -> u64 {
    files::free_space(place).unwrap().0
}

/// Who looked for room a moment too early: the disk fills up between that look and the statement.
#[test]
fn a_statement_that_waits_for_room_is_hung_up_and_told_why() {
    if is_mysql() {
        // It keeps its roles where all else is, and refuses what it has no room for.
        return;
    }
    let disk = Disk::new(200);
    let server: &'static TestServer =
        Box::leak(Box::new(TestServer::start_in(disk.0.join("server"), &["--tmpdir=/tmp"])));
    let world = World { server, ..World::new() };
    let database = world.filled("CREATE TABLE t (a int PRIMARY KEY)");
    let mut session = database.session().unwrap();
    let filler = disk.fill();
    assert!(free(&disk.0) < 1 << 20);
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let mut told = Ok(());
        // Until one finds no room: the first few may fit into what their files have.
        for n in 0..10_000 {
            told =
                session.run(&format!("CREATE USER waits_{n}@localhost IDENTIFIED BY '{}'", "x".repeat(60)));
            if told.is_err() {
                break;
            }
        }
        let _ = tell.send(told);
    });
    let told = told.recv_timeout(Duration::from_secs(45));
    fs::remove_file(filler).unwrap();
    let error = told.expect("it waits for room as long as the server does").unwrap_err();
    assert!(error.one_line().contains("has no room left, and waits for some"), "{}", error.one_line());
    // With room again the server does what it was in the middle of, when it looks for room again, and goes on.
    assert_eq!(one::<u32>(&mut world.role(&database, Access::Write), "SELECT COUNT(*) FROM t"), 0);
    let began = Instant::now();
    while let Err(why) = database.remove() {
        assert!(began.elapsed() < Duration::from_secs(120), "{}", why.one_line());
    }
}
