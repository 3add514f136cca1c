//! What a dead worker's stages left running could write into what is made next: it is ended first.

use crate::world::World;

fn pid_of(world: &World, file: &str) -> Option<String> {
    let text = std::fs::read_to_string(world.app().join("shared").join(file)).ok()?;
    text.strip_suffix('\n').map(str::to_owned)
}

fn runs(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

#[test]
fn what_a_dead_workers_stage_left_running_is_ended_before_anything_is_made_again() {
    let world = World::with_app();
    let build = "setsid sh -c 'echo $$ > \"$RECEIVER_SHARED_DIR/daemon\"; exec sleep 600' & \
                 echo $$ >> \"$RECEIVER_SHARED_DIR/shells\"; exec sleep 600";
    world.file("receiver.toml", &format!("[stages]\nbuild = {}\n", toml_text(build)));
    world.commit("a build that never ends");
    let mut push = world.push_in_background();
    world.until(20, "the stage to run", || {
        pid_of(&world, "daemon").is_some() && pid_of(&world, "shells").is_some()
    });
    let (shell, daemon) = (pid_of(&world, "shells").unwrap(), pid_of(&world, "daemon").unwrap());
    assert!(runs(&shell) && runs(&daemon));
    let lock: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(world.app().join("receiver/lock")).unwrap()).unwrap();
    world.run("kill", world.place(), &["-9", &lock["pid"].to_string()]).ok();
    // Whoever follows starts another worker, which begins again.
    world.until(20, "the deploy to begin again", || {
        pid_of(&world, "shells").is_some_and(|all| all.contains('\n'))
    });
    assert!(!runs(&shell), "the shell of the dead worker's stage still runs");
    assert!(!runs(&daemon), "the daemon of the dead worker's stage still runs");
    world.receiver(&["cancel"]).ok();
    push.wait().unwrap();
}

fn toml_text(text: &str) -> String {
    format!("'''{text}'''")
}
