//! `examples/` is the reference of the configuration: it has every key that there is, and no other.

use std::collections::BTreeSet;

use super::fragments::{Entry, File, Fragment};
use super::keys::{KEYS, Owner};
use super::stage::PARTS;
use super::{Settings, StageName};

const REPOSITORY: &str = include_str!("../../../examples/receiver.toml");
const SERVER: &str = include_str!("../../../examples/server-receiver.toml");

/// The reference with every setting in force: `#key = …` is a setting, `# words` is not.
fn uncommented(reference: &str) -> String {
    let in_force = |line: &str| match line.strip_prefix('#') {
        Some(setting) if !setting.is_empty() && !setting.starts_with(' ') => format!("{setting}\n"),
        _ => format!("{line}\n"),
    };
    reference.lines().map(in_force).collect()
}

fn entries(owner: Owner, text: &str) -> Vec<Entry> {
    let fragment = Fragment::read(File { owner, name: "the reference" }, text.as_bytes());
    assert_eq!(fragment.complaints, []);
    fragment.entries
}

fn said(entries: &[Entry]) -> BTreeSet<&'static str> {
    entries.iter().map(|entry| KEYS[entry.rank].path).collect()
}

fn known(owner: Owner) -> BTreeSet<&'static str> {
    KEYS.iter().filter(|key| key.owner == owner).map(|key| key.path).collect()
}

#[test]
fn the_reference_loads_as_it_stands_and_says_nothing_but_the_defaults() {
    let settings = Settings::load(Some(REPOSITORY.as_bytes()), Some(SERVER.as_bytes()), "server").unwrap();
    let said: Vec<_> = settings.explain().into_iter().filter(|line| line.origin != "default").collect();
    assert_eq!(said.iter().map(|line| line.key.as_str()).collect::<Vec<_>>(), ["format"]);
}

#[test]
fn the_reference_loads_with_every_key_in_force() {
    let (repository, server) = (uncommented(REPOSITORY), uncommented(SERVER));
    let settings = Settings::load(Some(repository.as_bytes()), Some(server.as_bytes()), "server").unwrap();
    assert!(StageName::ALL.into_iter().all(|name| settings.stage(name).is_some()));
    assert_eq!(settings.branches.len(), 2);
    let (up, down) = (&settings.database.map["customer"].up, &settings.database.map["customer"].down);
    assert_eq!((up.len(), down.len()), (1, 1));
}

#[test]
fn the_reference_has_every_known_key_and_no_other() {
    assert_eq!(said(&entries(Owner::Code, &uncommented(REPOSITORY))), known(Owner::Code));
    assert_eq!(said(&entries(Owner::Server, &uncommented(SERVER))), known(Owner::Server));
    let repository = uncommented(REPOSITORY);
    let stages: Vec<_> = entries(Owner::Code, &repository).into_iter().map(|entry| entry.value).collect();
    for part in PARTS {
        assert!(stages.iter().any(|stage| stage.get(part).is_some()), "{part}");
    }
}

#[test]
fn the_reference_shows_the_defaults() {
    let defaults = Settings::load(None, None, "server").unwrap().explain();
    for (owner, text) in [(Owner::Code, REPOSITORY), (Owner::Server, SERVER)] {
        for entry in entries(owner, &uncommented(text)) {
            if let Some(default) = defaults.iter().find(|default| default.key == entry.path.join(".")) {
                assert_eq!(entry.value.to_string(), default.value, "{}", default.key);
            }
        }
    }
}

#[test]
fn every_default_is_a_value_of_its_key() {
    let defaults = Settings::load(None, None, "server").unwrap().explain();
    let with_default = KEYS.iter().filter(|key| key.default.is_some()).count();
    assert_eq!(defaults.len(), with_default + 1, "database.max_pause depends on the engine");
    for default in defaults {
        entries(Owner::Server, &format!("{} = {}", default.key, default.value));
    }
}
