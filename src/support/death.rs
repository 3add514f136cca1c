//! The points at which the kill tests let the program die, without destructors, as `kill -9` would.
//!
//! A debug build aborts at the point that `RECEIVER_TEST_DIE_AT` names; a release build has none of it.

/// Every point, in the order in which a deploy that opens a version passes them; then those of a rollback; then those of an
/// app that is made, of a preview that is removed, of a restore, and of the removal of an app.
pub const POINTS: &[&str] = &[
    "locked",
    "job-taken",
    "begun",
    "spare-taken",
    "directory-made",
    "exported",
    "linked",
    "build",
    "rehearsed",
    "door-closed",
    "held",
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
    "rollback-opened",
    "rollback-fenced",
    "rollback-switched",
    "app-made",
    "app-placed",
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
];

/// Dies here where a test asked for it.
pub fn point(name: &str) {
    debug_assert!(POINTS.contains(&name), "{name} is not a known point");
    #[cfg(debug_assertions)]
    if std::env::var("RECEIVER_TEST_DIE_AT").is_ok_and(|wanted| wanted == name) && asked_for() {
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).ok();
    }
}

/// Where `RECEIVER_TEST_DIE_ONCE` names a file, it is the ticket: it is used up by the first death. A
/// second ticket may lie beside it, its name ending in `.2`.
#[cfg(debug_assertions)]
fn asked_for() -> bool {
    let Ok(ticket) = std::env::var("RECEIVER_TEST_DIE_ONCE") else { return true };
    ["", ".2"].iter().any(|end| std::fs::remove_file(format!("{ticket}{end}")).is_ok())
}
