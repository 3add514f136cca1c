use std::os::unix::fs::PermissionsExt as _;

use mysql::prelude::Queryable;

use super::proof::EVERYTHING;
use super::*;

#[test]
fn a_dump_goes_out_and_in_again_also_from_a_retired_version() {
    let world = World::new();
    let everything = EVERYTHING.replace("DEFAULT NEXTVAL(numbers)", "AUTO_INCREMENT");
    let database = world.filled(&everything);
    let file = world.place.path().join("shop.sql");
    database.prepare_hold(&soon()).unwrap();
    database.hold(&soon()).unwrap().fence("version 1 of shop is retired").unwrap();
    database.dump(&file, &soon(), &mut |_| {}).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains("receiver_fence") && text.ends_with("-- receiver: whole\n"));
    assert_eq!(std::fs::read_dir(world.ground().secrets).unwrap().count(), 1, "no file of options is left");
    assert!(database.dump(&file, &soon(), &mut |_| {}).is_err(), "a file that is there stays");
    let scratch = world.at(&format!("{}_beside", database.name()));
    let error = database.load(&file, scratch.spot(), &soon()).unwrap_err().one_line();
    assert!(error.contains("it is retired, and takes no writes"), "{error}");
    let other = world.filled("CREATE TABLE old_one (a int);; CREATE TABLE parent (other text);; CREATE VIEW gone AS SELECT 1 AS one");
    other.load(&file, scratch.spot(), &soon()).unwrap();
    assert_eq!(database.schema().unwrap().diff(&other.schema().unwrap()), [""; 0]);
    assert_eq!(other.rows(&soon()).unwrap(), database.rows(&soon()).unwrap());
    assert!(!scratch.exists().unwrap());
    let mut app = world.role(&other, Access::Write);
    app.query_drop("INSERT INTO child (parent_id) VALUES (1)").unwrap();
    assert_eq!(one::<u32>(&mut app, "SELECT @fired"), 1);
    assert!(app.query_drop("INSERT INTO child (parent_id) VALUES (4711)").is_err(), "keys hold");
    // A dump that was cut off, and one that fails, leave what was there.
    let cut = world.place.path().join("cut.sql");
    std::fs::write(&cut, &text[..text.len() / 2]).unwrap();
    let error = other.load(&cut, scratch.spot(), &soon()).unwrap_err().one_line();
    assert!(error.contains("the dump is cut off"), "{error}");
    std::fs::write(&cut, "CREATE TABLE x (a int);\nINSERT INTO y VALUES (1);\n").unwrap();
    let error = other.load(&cut, scratch.spot(), &soon()).unwrap_err().one_line();
    assert!(error.contains("cut.sql:2 failed"), "{error}");
    assert_eq!(one::<u32>(&mut app, "SELECT COUNT(*) FROM child"), 4);
    assert!(!scratch.exists().unwrap());
    database.remove().unwrap();
    other.remove().unwrap();
}
