use mysql::prelude::Queryable;

use super::*;
use crate::data::Credentials;

#[test]
fn a_database_is_made_with_two_roles_and_leaves_nothing() {
    let world = World::new();
    let database = world.fresh();
    let name = database.name().to_owned();
    assert!(database.exists().unwrap());
    let url = database.url(Access::Write).unwrap();
    let known = Credentials::read(&world.ground().secrets, &name).unwrap().unwrap();
    let socket = world.server.socket.display();
    assert_eq!(url, format!("mysql://{name}:{}@localhost/{name}?unix_socket={socket}", known.password));
    let mut app = world.role(&database, Access::Write);
    app.query_drop("CREATE TABLE t (a varchar(10)); INSERT INTO t VALUES ('ä€😀')").unwrap();
    let charset: String = one(&mut app, "SELECT @@character_set_database");
    assert_eq!(charset, "utf8mb4");
    let mut reader = world.role(&database, Access::Read);
    assert_eq!(one::<String>(&mut reader, "SELECT a FROM t"), "ä€😀");
    for write in ["INSERT INTO t VALUES (1)", "CREATE TABLE u (a int)", "DROP TABLE t", "TRUNCATE t"] {
        assert!(reader.query_drop(write).is_err(), "{write}");
    }
    database.remove().unwrap();
    assert!(!database.exists().unwrap());
    assert!(app.query_drop("SELECT 1").is_err(), "who was connected is not any more");
    let left: u32 = one(
        &mut world.root(),
        &format!(
            "SELECT (SELECT COUNT(*) FROM mysql.user WHERE User LIKE '{name}%') +
                    (SELECT COUNT(*) FROM mysql.db WHERE User LIKE '{name}%')"
        ),
    );
    assert_eq!(left, 0);
    assert!(world.try_role_gone(&name));
    database.remove().unwrap();
}

impl World {
    fn try_role_gone(&self, name: &str) -> bool {
        Credentials::read(&self.ground().secrets, name).unwrap().is_none()
    }
}

#[test]
fn a_role_opens_no_database_whose_name_is_like_its_own() {
    let world = World::new();
    let shop = world.at("shop_v1");
    shop.create().unwrap();
    let like = world.at("shopXv1");
    like.create().unwrap();
    let videos = world.at("shop_videos_v1");
    videos.create().unwrap();
    let mut app = world.role(&shop, Access::Write);
    for other in ["shopXv1", "shop_videos_v1"] {
        let error = app.query_drop(format!("USE {other}")).unwrap_err().to_string();
        assert!(error.contains("1044"), "{error}");
    }
    let seen: Vec<String> = app.query("SHOW DATABASES").unwrap();
    let servers_own = |name: &String| ["information_schema", "performance_schema"].contains(&name.as_str());
    assert_eq!(seen.into_iter().filter(|name| !servers_own(name)).collect::<Vec<_>>(), ["shop_v1"]);
    // Nor does the removal of one touch the other.
    shop.remove().unwrap();
    assert!(like.exists().unwrap() && videos.exists().unwrap());
    world.role(&videos, Access::Write);
    like.remove().unwrap();
    videos.remove().unwrap();
}

#[test]
fn what_receiver_did_not_make_is_refused_and_left_alone() {
    let world = World::new();
    let mut root = world.root();
    root.query_drop("CREATE DATABASE foreign_v1; CREATE TABLE foreign_v1.t (a int)").unwrap();
    root.query_drop("CREATE USER foreign_v2_ro@'%'; CREATE DATABASE foreign_v3_log").unwrap();
    for (name, why) in [
        ("foreign_v1", "a database foreign_v1 is on the server already, and receiver did not make it"),
        ("foreign_v2", "a role foreign_v2_ro is on the server already, and receiver did not make it"),
        ("foreign_v3", "a database foreign_v3_log is on the server already, and receiver did not make it"),
    ] {
        let database = world.at(name);
        assert!(!database.exists().unwrap());
        assert_eq!(database.create().unwrap_err().to_string(), why);
        database.remove().unwrap();
        assert!(world.try_role_gone(name));
    }
    assert_eq!(one::<u32>(&mut root, "SELECT COUNT(*) FROM foreign_v1.t"), 0);
    root.query_drop("DROP DATABASE foreign_v1; DROP DATABASE foreign_v3_log; DROP USER foreign_v2_ro@'%'")
        .unwrap();
    for bad in ["", "../x", "a b", "a`b", &"a".repeat(33)] {
        assert!(world.at(bad).create().is_err(), "{bad}");
    }
}

#[test]
fn one_that_is_there_is_begun_anew_with_the_same_passwords() {
    let world = World::new();
    let database = world.filled("CREATE TABLE t (a int)");
    let url = database.url(Access::Write).unwrap();
    database.create().unwrap();
    assert_eq!(database.url(Access::Write).unwrap(), url);
    let mut app = world.role(&database, Access::Write);
    assert!(app.query::<String, _>("SHOW TABLES").unwrap().is_empty());
    // A death after the passwords were written, and before anything was made.
    world.root().query_drop(format!("DROP DATABASE {0}; DROP USER {0}@localhost", database.name())).unwrap();
    database.create().unwrap();
    world.role(&database, Access::Read);
    database.remove().unwrap();
}

#[test]
fn a_server_that_is_not_there_is_said_in_one_sentence() {
    let world = World::new();
    let ground = Ground { server: Some("/nowhere/s.sock".into()), ..world.ground() };
    let spot = Spot { directory: "/nowhere".into(), name: "shop_v1".into() };
    let error = Mysql::at(&ground, spot).create().unwrap_err();
    let text = error.render();
    assert!(text.contains("the database server at /nowhere/s.sock does not answer"), "{text}");
    assert!(text.contains("systemctl status mariadb"), "{text}");
    let ground = Ground { admin: Some("nobody\x1b[2J".into()), ..world.ground() };
    let spot = Spot { directory: "/nowhere".into(), name: "shop_v1".into() };
    let text = Mysql::at(&ground, spot).create().unwrap_err().render();
    assert!(text.contains("does not let 'nobody\\u{1b}[2J' in"), "{text}");
}

#[test]
fn an_administrator_may_come_by_the_socket_or_with_a_password_file() {
    let world = World::new();
    let mut root = world.root();
    root.query_drop("CREATE USER by_file@localhost IDENTIFIED BY 'it''s'").unwrap();
    root.query_drop("GRANT ALL ON *.* TO by_file@localhost WITH GRANT OPTION").unwrap();
    let file = world.place.path().join("password");
    std::fs::write(&file, "it's\n").unwrap();
    let ground = Ground { admin: Some("by_file".into()), password_file: Some(file), ..world.ground() };
    let spot = Spot { directory: "/nowhere".into(), name: "by_file_v1".into() };
    let database = Mysql::at(&ground, spot);
    database.create().unwrap();
    assert!(database.size().unwrap() < 1 << 20);
    assert!(database.directory().unwrap().is_some());
    database.remove().unwrap();
    root.query_drop("DROP USER by_file@localhost").unwrap();
    // Whoever runs the tests has a name on this machine, and the server asks the kernel for it.
    let me = crate::support::user_name();
    let ground = Ground { admin: Some(me.clone()), ..world.ground() };
    let by_socket = if is_mysql() {
        root.query_drop("INSTALL PLUGIN auth_socket SONAME 'auth_socket.so'").unwrap();
        format!("ALTER USER {me}@localhost IDENTIFIED WITH auth_socket")
    } else if me == "root" {
        "ALTER USER root@localhost IDENTIFIED VIA unix_socket OR mysql_native_password USING ''".to_owned()
    } else {
        format!("GRANT ALL ON *.* TO {me}@localhost IDENTIFIED VIA unix_socket WITH GRANT OPTION")
    };
    root.query_drop(by_socket).unwrap();
    let spot = Spot { directory: "/nowhere".into(), name: "by_socket_v1".into() };
    let database = Mysql::at(&ground, spot);
    database.create().unwrap();
    database.remove().unwrap();
}
