//! The newest PostgreSQL that a package brings (`target/newest-postgres`, by tests/run): what changed since the system's.
//! `RECEIVER_TEST_POSTGRES=DIRECTORY` runs all cases on another one.

use crate::servers::{Engine, on_the_newest};
use crate::{disconnect, engines};

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
        engines::what_doctor_says_a_role_lacks_is_all_that_it_needs(Engine::Postgres)
    });
}

#[test]
fn a_version_opens_by_a_clone_on_the_newest_postgresql() {
    on_the_newest(Engine::Postgres, || disconnect::a_version_opens_by_the_servers_own_copy(Engine::Postgres));
}
