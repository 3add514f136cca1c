//! The points at which the kill tests let the program die, without destructors, as `kill -9` would.
//!
//! A debug build aborts at the point that `RECEIVER_TEST_DIE_AT` names, and waits at the one that `RECEIVER_TEST_STOP_AT`
//! names, while the test does what it likes to others; a release build has none of it.

/// Every point, in the order in which a deploy that opens a version passes them; then those of a rollback; then those of an
/// app that is made, of a preview that is removed, of a restore, of the removal of an app, and of setup.
pub const POINTS: &[&str] = &[
    "locked",
    "job-taken",
    "begun",
    "spare-taken",
    "directory-made",
    "exported",
    "linked",
    "build",
    "copying",
    "rehearsed",
    "copied-ahead",
    "door-closed",
    "held",
    "database-closed",
    "carried",
    "migrated",
    "checked",
    "started",
    "fenced",
    "synced",
    "sealed",
    "switched",
    "last-moved",
    "journaled",
    "verdict-written",
    "pruned",
    "job-removed",
    "rollback-begun",
    "rollback-held",
    "rows-carried",
    "rollback-opened",
    "rollback-fenced",
    "rollback-switched",
    "app-made",
    "app-placed",
    "branch-made",
    "preview-silent",
    "preview-moved",
    "adoption-stopped",
    "app-restored",
    "data-loaded",
    "site-taken-back",
    "removal-silent",
    "removal-dumped",
    "removal-emptied",
    "removal-moved",
    "act-made",
    "act-undone",
    "owners-given",
];

/// Dies here where a test asked for it.
pub fn point(name: &str) {
    debug_assert!(POINTS.contains(&name), "{name} is not a known point");
    #[cfg(debug_assertions)]
    if std::env::var("RECEIVER_TEST_DIE_AT").is_ok_and(|wanted| wanted == name) && asked_for() {
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).ok();
    }
    #[cfg(debug_assertions)]
    if std::env::var("RECEIVER_TEST_STOP_AT").is_ok_and(|wanted| wanted == name) && asked_for() {
        wait_for_the_test();
    }
}

/// Goes on when the test has put a file beside the ticket, its name ending in `.go`, or after a minute.
#[cfg(debug_assertions)]
fn wait_for_the_test() {
    let Ok(ticket) = std::env::var("RECEIVER_TEST_DIE_ONCE") else { return };
    for _ in 0..12_000 {
        if std::path::Path::new(&format!("{ticket}.go")).exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Where `RECEIVER_TEST_DIE_ONCE` names a file, it is the ticket: it is used up by the first death. A
/// second ticket may lie beside it, its name ending in `.2`. One that holds a number lets so many pass before.
#[cfg(debug_assertions)]
fn asked_for() -> bool {
    let Ok(ticket) = std::env::var("RECEIVER_TEST_DIE_ONCE") else { return true };
    let passes = std::fs::read_to_string(&ticket).ok().and_then(|text| text.parse::<u32>().ok());
    if let Some(left) = passes.filter(|left| *left > 0) {
        return std::fs::write(&ticket, (left - 1).to_string()).is_err();
    }
    ["", ".2"].iter().any(|end| std::fs::remove_file(format!("{ticket}{end}")).is_ok())
}
