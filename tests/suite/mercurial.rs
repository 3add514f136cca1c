//! The tests of pushes, run again by the same code in worlds whose laptop has a Mercurial repository.

use crate::system::on_mercurial;

macro_rules! the_same_on_mercurial {
    ($($module:ident: $($name:ident),+;)+) => {
        $(mod $module {
            $(#[test]
            fn $name() {
                super::on_mercurial(crate::$module::$name);
            })+
        })+
    };
}

the_same_on_mercurial! {
    push: a_push_becomes_a_live_release,
        a_second_push_joins_the_version_and_the_first_release_stays,
        a_rollback_goes_back_and_the_release_that_it_left_is_withdrawn;
    away: a_deploy_that_has_begun_ends_whatever_happens_to_the_pusher_and_its_hook,
        a_deploy_that_has_begun_ends_when_the_push_is_killed_under_its_hook,
        a_deploy_that_has_begun_ends_when_nobody_reads_what_it_prints,
        a_deploy_that_has_begun_ends_when_the_ssh_connection_drops,
        a_push_whose_hook_was_lost_is_named_by_reading_commands_and_deployed_by_the_others,
        what_failed_or_was_withdrawn_is_not_tried_again_unasked;
    together: a_second_push_waits_for_the_first,
        a_push_that_is_overtaken_while_it_waits_is_superseded,
        a_rollback_goes_before_everything_that_waits_and_cancels_a_deploy_that_has_not_reached_its_hold,
        cancel_stops_what_runs_and_what_waits_and_changes_nothing,
        while_an_app_is_locked_a_push_is_refused_and_told_why_and_a_rollback_is_possible,
        attach_joins_a_running_deploy_and_returns_its_exit_code;
    kill: current_always_points_to_a_complete_release_wherever_a_deploy_dies_and_a_deploy_that_has_begun_ends;
    promises: nothing_before_the_switch_changes_what_is_live,
        rollback_is_always_possible_to_every_kept_release;
    stages: a_stage_finds_exactly_the_environment_of_the_contract,
        two_deploys_of_one_commit_in_one_second_have_names_of_their_own;
    tree: verify_names_what_is_not_as_in_the_revision,
        outside_links_are_let_through_where_the_server_grants_them,
        unchanged_files_keep_their_modification_time_over_releases_and_new_content_always_gets_a_new_one;
    settings: every_error_in_receiver_toml_is_said_with_its_line_and_the_nearest_key,
        a_static_site_is_deployed_without_a_word;
    prune: prune_never_removes_the_live_release_or_the_one_before_it;
    django: a_commit_without_a_migration_joins_the_version_and_one_with_a_migration_opens_one,
        a_failing_migration_changes_nothing;
    data: rows_that_were_there_before_a_version_opens_are_there_after_it_by_a_migration;
    commands: list_and_status_read_as_they_should;
    backup: a_backup_makes_the_same_app_again,
        a_restore_that_dies_anywhere_is_begun_again,
        a_restore_whose_build_fails_keeps_the_data_for_the_next_deploy,
        a_backup_never_holds_up_a_deploy_and_is_of_one_moment;
}
