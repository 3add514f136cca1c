//! The newest PostgreSQL that a package brings (`target/newest-postgres`), and MySQL itself (`target/newest-mysql`): what is
//! otherwise than on the system's own servers. tests/run brings both; `tests/on SERVER` runs all cases on another server.

use crate::servers::{Engine, on_the_newest};
use crate::{ahead, disconnect, dumped, engines, kinds};

#[test]
fn a_version_opens_on_the_newest_postgresql() {
    on_the_newest(Engine::Postgres, || {
        engines::a_version_opens_with_its_data_in_a_database_of_its_own_and_the_old_one_refuses_writes(
            Engine::Postgres,
        );
    });
}

#[test]
fn a_rollback_brings_what_was_written_since_on_the_newest_postgresql() {
    on_the_newest(Engine::Postgres, || {
        engines::a_rollback_brings_what_was_written_since_and_forward_does_so_too(Engine::Postgres);
    });
}

#[test]
fn what_doctor_says_is_all_that_a_role_needs_on_the_newest_postgresql() {
    on_the_newest(Engine::Postgres, || {
        engines::what_doctor_says_a_role_lacks_is_all_that_it_needs(Engine::Postgres);
    });
}

#[test]
fn what_is_written_while_the_data_is_copied_ahead_comes_behind_on_the_newest_postgresql() {
    on_the_newest(Engine::Postgres, || {
        ahead::what_is_written_while_the_data_is_copied_ahead_comes_behind(Engine::Postgres);
    });
}

#[test]
fn what_is_written_while_the_data_is_copied_ahead_comes_behind_on_mysql_itself() {
    on_the_newest(Engine::Mysql, || {
        ahead::what_is_written_while_the_data_is_copied_ahead_comes_behind(Engine::Mysql);
    });
}

#[test]
fn a_version_opens_by_a_clone_on_the_newest_postgresql() {
    on_the_newest(Engine::Postgres, || {
        disconnect::a_version_opens_by_the_servers_own_copy(Engine::Postgres);
    });
}

#[test]
fn a_version_opens_on_mysql_itself() {
    on_the_newest(Engine::Mysql, || {
        engines::a_version_opens_with_its_data_in_a_database_of_its_own_and_the_old_one_refuses_writes(
            Engine::Mysql,
        );
    });
}

#[test]
fn what_doctor_says_is_all_that_a_role_needs_on_mysql_itself() {
    on_the_newest(Engine::Mysql, || {
        engines::what_doctor_says_a_role_lacks_is_all_that_it_needs(Engine::Mysql);
    });
}

#[test]
fn a_deploy_that_fails_leaves_nothing_behind_on_mysql_itself() {
    on_the_newest(Engine::Mysql, || {
        engines::a_deploy_that_fails_anywhere_leaves_everything_and_nothing_behind(Engine::Mysql);
    });
}

#[test]
fn all_rows_of_every_kind_go_forth_and_back_and_forth_again_on_mysql_itself() {
    on_the_newest(Engine::Mysql, || kinds::all_rows_go_forth_and_back_and_forth_again(Engine::Mysql));
}

#[test]
fn an_administrators_own_dump_of_mysql_itself_changes_nothing_of_the_original() {
    on_the_newest(Engine::Mysql, || dumped::is_loaded_elsewhere(Engine::Mysql));
}
