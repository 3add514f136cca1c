use mysql::prelude::Queryable;

use super::*;

/// A schema with one of everything; `;;` ends a statement, as bodies have `;`.
pub(super) const EVERYTHING: &str = "
    CREATE TABLE parent (id int AUTO_INCREMENT PRIMARY KEY, name varchar(100) COLLATE utf8mb4_bin, UNIQUE (name));;
    CREATE TABLE child (id bigint AUTO_INCREMENT PRIMARY KEY, parent_id int,
        CONSTRAINT child_of FOREIGN KEY (parent_id) REFERENCES parent (id) ON DELETE CASCADE);;
    CREATE TABLE `we``ird \"t' x` (`a b` int CHECK (`a b` > 0), `from` varchar(10) NOT NULL DEFAULT 'x''y',
        doubled int AS (`a b` * 2) STORED, halved int AS (`a b` / 2) VIRTUAL, j json, KEY `k``k` (`from`(3)));;
    CREATE TABLE egg (id int PRIMARY KEY, hen_id int);;
    CREATE TABLE hen (id int PRIMARY KEY, egg_id int, FOREIGN KEY (egg_id) REFERENCES egg (id));;
    ALTER TABLE egg ADD FOREIGN KEY (hen_id) REFERENCES hen (id);;
    CREATE TABLE kinds (e enum('a', 'b') NOT NULL, s set('x', 'y'), b blob, g geometry, d date NOT NULL DEFAULT '2000-01-01',
        t timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, n decimal(20, 5), bits bit(9), y year, f float);;
    CREATE TABLE parts (id int, at date) PARTITION BY RANGE (id) (PARTITION low VALUES LESS THAN (10), PARTITION high VALUES LESS THAN MAXVALUE);;
    CREATE VIEW names AS SELECT c.id, p.name FROM child c JOIN parent p ON p.id = c.parent_id;;
    CREATE VIEW aaa AS SELECT name FROM names;;
    CREATE FUNCTION twice(n int) RETURNS int DETERMINISTIC RETURN n * 2;;
    CREATE PROCEDURE add_one(IN who varchar(100)) BEGIN INSERT INTO parent (name) VALUES (who); END;;
    CREATE VIEW doubled AS SELECT twice(id) AS n FROM parent;;
    CREATE TRIGGER count_up BEFORE INSERT ON child FOR EACH ROW BEGIN SET @fired = COALESCE(@fired, 0) + 1; INSERT INTO parts VALUES (5, NULL); END;;
    CREATE EVENT sweep ON SCHEDULE EVERY 1 HOUR DO DELETE FROM parts WHERE id = 0;;
    CREATE SEQUENCE numbers START WITH 7;;
    CREATE TABLE numbered (id bigint DEFAULT NEXTVAL(numbers) PRIMARY KEY, v int);;
    INSERT INTO parent (name) VALUES ('a'), ('A'), ('ä€😀');;
    INSERT INTO child (parent_id) VALUES (1), (2), (NULL);;
    INSERT INTO `we``ird \"t' x` (`a b`, `from`, j) VALUES (2, 'q', '{\"a\": [1]}'), (3, '', NULL);;
    SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO', foreign_key_checks = 0;;
    INSERT INTO egg VALUES (1, 1), (2, 99);;
    INSERT INTO hen VALUES (1, 1);;
    INSERT INTO kinds VALUES ('zzz', 'x,y', x'00ff27', ST_GeomFromText('POINT(1 2)'), '0000-00-00', '2001-02-03 04:05:06', 12345.678, b'101', 1999, 0.1);;
    INSERT INTO parts VALUES (1, '2024-01-01'), (100, NULL);;
    INSERT INTO numbered (v) VALUES (1), (2);;
    INSERT INTO parent (id, name) VALUES (0, 'zero'), (50, 'fifty');;
    DELETE FROM parent WHERE id = 50
";

#[test]
fn a_schema_is_the_same_however_it_was_made() {
    let world = World::new();
    let one = world.filled(
        "CREATE TABLE a (id int PRIMARY KEY, x varchar(10), colour char(4) DEFAULT '#fff', KEY named (x), CONSTRAINT chosen UNIQUE (x, id));;
         CREATE TABLE b (a_id int, CONSTRAINT by_hand FOREIGN KEY (a_id) REFERENCES a (id));;
         CREATE VIEW v AS SELECT id FROM a;; CREATE TABLE django_migrations (id int);;
         CREATE TRIGGER t BEFORE INSERT ON b FOR EACH ROW SET NEW.a_id = 1",
    );
    let other = world.filled(
        "CREATE TABLE b (a_id int);;
         CREATE TABLE a (x varchar(10), id int NOT NULL, colour char(4) DEFAULT '#fff');;
         ALTER TABLE a ADD UNIQUE (x, id), ADD INDEX (x), ADD PRIMARY KEY (id);;
         ALTER TABLE b ADD FOREIGN KEY (a_id) REFERENCES a (id);;
         CREATE VIEW v AS select id /* the key */ FROM a;;
         CREATE TRIGGER t BEFORE INSERT ON b FOR EACH ROW set   NEW.a_id = 1 -- one",
    );
    let (schema, same) = (one.schema().unwrap(), other.schema().unwrap());
    assert_eq!(schema.diff(&same), [""; 0]);
    assert_eq!(schema.hash().unwrap(), same.hash().unwrap());
    let mut app = world.role(&other, Access::Write);
    app.query_drop("ALTER TABLE a ADD y int UNSIGNED NULL DEFAULT 5").unwrap();
    app.query_drop("ALTER TABLE b DROP FOREIGN KEY b_ibfk_1").unwrap();
    app.query_drop("ALTER TABLE a ALTER colour SET DEFAULT '#000'").unwrap();
    app.query_drop("INSERT INTO a (id, x) VALUES (1, 'x')").unwrap();
    let diff = schema.diff(&other.schema().unwrap());
    assert!(diff[0].starts_with("~ a.colour: ") && diff[0].ends_with(" default '#000'"), "{}", diff[0]);
    assert_eq!(diff[1..], ["+ a.y", "- b foreign key (a_id) references a (id)"].map(String::from));
    one.remove().unwrap();
    other.remove().unwrap();
}

#[test]
fn a_schema_has_one_of_everything() {
    let world = World::new();
    let database = world.filled(EVERYTHING);
    let text = database.schema().unwrap().to_string();
    // Each server has words of its own for the same.
    let of = |mariadb: &'static str, mysql: &'static str| if is_mysql() { mysql } else { mariadb };
    for says in [
        of(
            "child foreign key (parent_id) references parent (id): on update restrict on delete cascade",
            "child foreign key (parent_id) references parent (id): on update no action on delete cascade",
        ),
        of("we`ird \"t' x check `a b` > 0", "we`ird \"t' x check ( `a b` > 0 ) enforced yes"),
        of(
            "doubled: int(11) default null stored generated as `a b` * 2",
            "doubled: int stored generated as ( `a b` * 2 )",
        ),
        "not null default 'x''y'",
        "index btree (from(3))",
        of(
            "kinds.t: timestamp not null default current_timestamp ( ) on update current_timestamp()",
            "kinds.t: timestamp not null default current_timestamp default_generated on update current_timestamp",
        ),
        "parts partition low: RANGE `id` 10",
        "view aaa: select `names` . `name` as `name` from `names`",
        "procedure add_one: (IN who varchar(100))",
        of("function twice: (IN n int(11))", "function twice: (IN n int)"),
        "event sweep: every 1 HOUR",
        of("sequence numbers:", ""),
        "trigger count_up on child: before insert begin",
    ] {
        assert!(text.contains(says), "{says} is not in\n{text}");
    }
    assert!(!text.contains(database.name()), "{text}");
    database.remove().unwrap();
}

#[test]
fn the_census_moves_with_every_write() {
    let world = World::new();
    let database = world.filled(EVERYTHING);
    let mut app = world.role(&database, Access::Write);
    let mut last = database.census(&soon()).unwrap();
    assert_eq!(database.census(&soon()).unwrap(), last);
    assert_eq!(last.rows["parent"], 4);
    for write in [
        "UPDATE child SET parent_id = 1 WHERE id = 2",
        "INSERT INTO kinds (e) VALUES ('a')",
        "DELETE FROM kinds ORDER BY e LIMIT 1",
        "INSERT INTO parent (id, name) VALUES (1000, 'x'); DELETE FROM parent WHERE id = 1000",
        "SELECT SETVAL(numbers, 5000)",
        "ALTER TABLE hen ADD age int",
    ] {
        if is_mysql() && write.contains("SETVAL") {
            continue;
        }
        app.query_drop(write).unwrap();
        let now = database.census(&soon()).unwrap();
        assert!(last.used_since(&now), "{write}");
        last = now;
    }
    assert!(!database.is_empty().unwrap());
    assert!(world.fresh().is_empty().unwrap());
    database.sync().unwrap();
    database.remove().unwrap();
}

#[test]
fn references_that_lead_nowhere_are_counted() {
    let world = World::new();
    let database = world.filled(EVERYTHING);
    database.examine(1, &soon()).unwrap();
    let error = database.examine(0, &soon()).unwrap_err();
    assert!(error.one_line().contains("1 references lead nowhere, and 0 did before"), "{}", error.one_line());
    let mut app = world.role(&database, Access::Write);
    app.query_drop("SET foreign_key_checks = 0; INSERT INTO child (parent_id) VALUES (77), (78)").unwrap();
    database.examine(3, &soon()).unwrap();
    assert!(database.examine(2, &soon()).is_err());
    database.remove().unwrap();
}

#[test]
fn a_limit_ends_what_the_server_does() {
    let world = World::new();
    let database = world.filled(
        "CREATE TABLE big (id int PRIMARY KEY);; INSERT INTO big SELECT seq FROM seq_1_to_3000;;
         CREATE TABLE slow (id int PRIMARY KEY, late int AS (id) VIRTUAL)",
    );
    let flag = std::sync::atomic::AtomicBool::new(true);
    let error = database.census(&soon().unless(&flag)).unwrap_err();
    assert_eq!(error.to_string(), "it was cancelled");
    let mut session = database.session().unwrap();
    let limit = Limit::within(std::time::Duration::from_millis(100));
    let error = database
        .server
        .within(&mut session, &limit, |session| {
            session.run("SELECT COUNT(*) FROM big a, big b, big c WHERE a.id + b.id = c.id + 0.5")
        })
        .unwrap_err();
    assert!(error.to_string().starts_with("it took longer"), "{error}");
    database.remove().unwrap();
}
