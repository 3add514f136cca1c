//! Tables of every kind that the three engines have, with names that want quotes: all rows go forth, back and forth
//! again, and are the same each time. What has no key to be carried by is named.

use crate::backed::Backed;
use crate::servers::{Engine, is_mysql};

/// The schema by a script of one's own, whose statements end with `;;`: triggers have `;`.
const MIGRATE: &str = include_str!("../fixtures/rows/migrate.py");

/// What one engine has.
struct Kinds {
    /// The first step of its schema.
    schema: &'static str,
    /// Rows from before there was a second version.
    first: &'static str,
    /// What is written to the newer version, to the older one after the rollback, and to the newer one again.
    rounds: [&'static str; 3],
    /// Each table, and columns that sort its rows.
    tables: &'static [&'static str],
}

/// 64 characters, as many as a name may have on MySQL.
macro_rules! long {
    () => {
        "l234567890123456789012345678901234567890123456789012345678901234"
    };
}

const SQLITE: Kinds = Kinds {
    schema: concat!(
        "CREATE TABLE two (a INTEGER, b TEXT, v REAL, PRIMARY KEY (b, a)) WITHOUT ROWID;;
         CREATE TABLE folded (k TEXT COLLATE NOCASE PRIMARY KEY, v INTEGER);;
         CREATE TABLE uuids (k TEXT PRIMARY KEY, v BLOB, j TEXT CHECK (j IS NULL OR json_valid(j)));;
         CREATE TABLE bytes (k BLOB PRIMARY KEY, twice INTEGER AS (length(k) * 2) STORED, half REAL AS (length(k) / 2.0));;
         CREATE TABLE \"odd \"\" `name'\" (\"the \"\" key\" INTEGER PRIMARY KEY, \"a `b\" TEXT);;
         CREATE TABLE ", long!(), " (id INTEGER PRIMARY KEY AUTOINCREMENT, v TEXT);;
         CREATE TABLE parent (id INTEGER PRIMARY KEY, code INTEGER UNIQUE);;
         CREATE TABLE child (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE,
            code INTEGER REFERENCES parent (code) ON DELETE SET NULL ON UPDATE SET NULL);;
         CREATE TABLE told (id INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT);;
         CREATE TRIGGER tell AFTER INSERT ON two BEGIN INSERT INTO told (what) VALUES (NEW.b); END;;
         CREATE TRIGGER never BEFORE DELETE ON told BEGIN SELECT RAISE(ABORT, 'what was told stays'); END;;
         CREATE TABLE keyless (a INTEGER, b TEXT)"
    ),
    first: "INSERT INTO two VALUES (1, 'x', 0.1), (2, 'x', 1e300), (1, 'y', NULL); INSERT INTO folded VALUES ('Key', 1), ('other', 2);
        INSERT INTO uuids VALUES ('6f1c3e02-0000-4000-8000-000000000001', x'00', '{}'); INSERT INTO bytes VALUES (x'00'), (x'01');
        INSERT INTO \"odd \"\" `name'\" VALUES (1, 'a'), (2, 'b'); INSERT INTO keyless VALUES (1, 'one');
        INSERT INTO parent VALUES (1, 10), (2, 20), (3, 30), (4, 40); INSERT INTO child VALUES (1, 1, 20), (2, 2, NULL), (3, 3, 30), (4, 4, 20)",
    rounds: [
        concat!(
            "UPDATE two SET a = 9 WHERE b = 'x' AND a = 1; DELETE FROM two WHERE b = 'y'; INSERT INTO two VALUES (7, 'seven', 7);
             UPDATE folded SET k = 'KEY', v = 5 WHERE k = 'key'; DELETE FROM folded WHERE k = 'OTHER'; INSERT INTO folded VALUES ('OTHER', 6);
             INSERT OR REPLACE INTO uuids VALUES ('6f1c3e02-0000-4000-8000-000000000001', x'ff00', '[1, \"é\"]');
             INSERT INTO uuids VALUES ('6f1c3e02-0000-4000-8000-000000000002', NULL, NULL); UPDATE bytes SET k = x'0102' WHERE k = x'01';
             INSERT INTO \"odd \"\" `name'\" VALUES (2, 'x') ON CONFLICT DO UPDATE SET \"a `b\" = 'c''`'; INSERT INTO ", long!(), " (v) VALUES ('a'), ('b');
             DELETE FROM parent WHERE id = 1; UPDATE parent SET id = 22 WHERE id = 2; UPDATE parent SET code = 31 WHERE id = 3;
             INSERT OR REPLACE INTO parent VALUES (4, 41); INSERT INTO keyless VALUES (2, 'two')"
        ),
        concat!(
            "DELETE FROM two WHERE a = 9; INSERT INTO two VALUES (1, 'y', 3); DELETE FROM folded; INSERT INTO folded VALUES ('key', 7);
             UPDATE uuids SET v = zeroblob(70000); DELETE FROM bytes WHERE k = x'00'; UPDATE \"odd \"\" `name'\" SET \"the \"\" key\" = 9 WHERE \"the \"\" key\" = 1;
             INSERT INTO ", long!(), " (v) VALUES ('c'); DELETE FROM ", long!(), " WHERE v = 'b'; INSERT INTO parent VALUES (5, 50); INSERT INTO child VALUES (9, 5, 50)"
        ),
        "DELETE FROM two; DELETE FROM parent; INSERT OR REPLACE INTO folded VALUES ('KEY', 8); INSERT INTO bytes VALUES (x'00'); DELETE FROM uuids",
    ],
    tables: &["two", "folded", "uuids", "bytes", "\"odd \"\" `name'\"", long!(), "parent", "child", "told"],
};

const MYSQL: Kinds = Kinds {
    schema: concat!(
        "CREATE TABLE two (a int, b varchar(20), v float, PRIMARY KEY (b, a));;
         CREATE TABLE folded (k varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci PRIMARY KEY, v int);;
         CREATE TABLE uuids (k uuid PRIMARY KEY, v longblob, j json);;
         CREATE TABLE bytes (k varbinary(16) PRIMARY KEY, twice int AS (length(k) * 2) STORED, half decimal(9, 2) AS (length(k) / 2) VIRTUAL);;
         CREATE TABLE `odd \" ``name'` (`the `` key` int PRIMARY KEY, `a \"b` text);;
         CREATE TABLE ", long!(), " (id bigint AUTO_INCREMENT PRIMARY KEY, v text);;
         CREATE TABLE kinds (id bigint unsigned PRIMARY KEY, e enum('a', 'b') NOT NULL, s set('x', 'y'), g geometry, bits bit(9), d date NOT NULL,
            t timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, n decimal(30, 10), m datetime(6), y year, at point NOT NULL,
            SPATIAL INDEX (at));;
         CREATE TABLE parent (id int PRIMARY KEY, code int UNIQUE);;
         CREATE TABLE child (id int PRIMARY KEY, parent int, code int, FOREIGN KEY (parent) REFERENCES parent (id) ON DELETE CASCADE ON UPDATE CASCADE,
            FOREIGN KEY (code) REFERENCES parent (code) ON DELETE SET NULL ON UPDATE SET NULL);;
         CREATE TABLE told (id int AUTO_INCREMENT PRIMARY KEY, what text);;
         CREATE TRIGGER `te``ll` AFTER INSERT ON two FOR EACH ROW INSERT INTO told (what) VALUES (NEW.b);;
         CREATE TRIGGER never BEFORE DELETE ON told FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'what was told stays';;
         CREATE TABLE keyless (a int, b text)"
    ),
    first: "SET sql_mode = ''; INSERT INTO two VALUES (1, 'x', 0.1), (2, 'x', 1e30), (1, 'y', NULL); INSERT INTO folded VALUES ('Key', 1), ('other', 2);
        INSERT INTO uuids VALUES ('6f1c3e02-0000-4000-8000-000000000001', x'00', '{}'); INSERT INTO bytes (k) VALUES (x'00'), (x'01');
        INSERT INTO `odd \" ``name'` VALUES (1, 'a'), (2, 'b'); INSERT INTO keyless VALUES (1, 'one');
        INSERT INTO kinds (id, e, d, t, at) VALUES (1, 'a', '0000-00-00', '2001-02-03 04:05:06', POINT(1, 2)), (2, 'b', '2001-02-30', 0, POINT(3, 4)),
            (18446744073709551615, 'zzz', 0, '2001-02-03 04:05:06', POINT(5, 6));
        INSERT INTO parent VALUES (1, 10), (2, 20), (3, 30), (4, 40); INSERT INTO child VALUES (1, 1, 20), (2, 2, NULL), (3, 3, 30), (4, 4, 20)",
    rounds: [
        concat!(
            "SET sql_mode = ''; UPDATE two SET a = 9 WHERE b = 'x' AND a = 1; DELETE FROM two WHERE b = 'y'; INSERT INTO two VALUES (7, 'seven', 7);
             UPDATE folded SET k = 'KEY', v = 5 WHERE k = 'key'; DELETE FROM folded WHERE k = 'OTHER'; INSERT INTO folded VALUES ('OTHER', 6);
             REPLACE INTO uuids VALUES ('6f1c3e02-0000-4000-8000-000000000001', x'ff00', '[1, \"é\"]');
             INSERT INTO uuids VALUES ('6f1c3e02-0000-4000-8000-000000000002', NULL, NULL); UPDATE bytes SET k = x'0102' WHERE k = x'01';
             INSERT INTO `odd \" ``name'` VALUES (2, 'x') ON DUPLICATE KEY UPDATE `a \"b` = 'c''\\\\'; INSERT INTO ", long!(), " (v) VALUES ('a'), ('b');
             UPDATE kinds SET s = 'x,y', g = ST_GeomFromText('LINESTRING(1 2, 3 4)', 4326), bits = b'100000001', n = 12345678901234567890.123456789,
                m = '2020-02-02 02:02:02.123456', y = 1999 WHERE id = 1;
             UPDATE kinds SET e = '', t = t WHERE id = 2; DELETE FROM kinds WHERE id > 2; INSERT INTO kinds (id, e, d, at) VALUES (9, 'a', '0000-00-00', POINT(7, 8));
             DELETE FROM parent WHERE id = 1; UPDATE parent SET id = 22 WHERE id = 2; UPDATE parent SET code = 31 WHERE id = 3;
             REPLACE INTO parent VALUES (4, 41); INSERT INTO keyless VALUES (2, 'two')"
        ),
        concat!(
            "SET sql_mode = ''; DELETE FROM two WHERE a = 9; INSERT INTO two VALUES (1, 'y', 3); DELETE FROM folded; INSERT INTO folded VALUES ('key', 7);
             UPDATE uuids SET v = REPEAT('b', 70000); DELETE FROM bytes WHERE k = x'00'; UPDATE `odd \" ``name'` SET `the `` key` = 9 WHERE `the `` key` = 1;
             INSERT INTO ", long!(), " (v) VALUES ('c'); DELETE FROM ", long!(), " WHERE v = 'b'; UPDATE kinds SET e = 'b' WHERE id = 1;
             INSERT INTO kinds (id, e, d, t, at) VALUES (18446744073709551615, 'a', 0, 0, POINT(0, 0)); INSERT INTO parent VALUES (5, 50); INSERT INTO child VALUES (9, 5, 50)"
        ),
        "DELETE FROM two; DELETE FROM parent; REPLACE INTO folded VALUES ('KEY', 8); INSERT INTO bytes (k) VALUES (x'00'); DELETE FROM uuids;
         UPDATE kinds SET id = id - 1 WHERE id > 9",
    ],
    tables: &["two", "folded", "uuids", "bytes", "`odd \" ``name'`", long!(), "kinds", "parent", "child", "told"],
};

const POSTGRES: Kinds = Kinds {
    schema: "CREATE COLLATION folding (provider = icu, locale = 'und-u-ks-level2', deterministic = false);;
         CREATE TYPE mood AS ENUM ('sad', 'glad');; CREATE DOMAIN short AS varchar(5) CHECK (VALUE <> 'no');; CREATE SCHEMA \"a `schema'\";;
         CREATE TABLE two (a int, b text, v float8, PRIMARY KEY (b, a));; CREATE TABLE folded (k text COLLATE folding PRIMARY KEY, v short);;
         CREATE TABLE uuids (k uuid PRIMARY KEY, v bytea, j jsonb);;
         CREATE TABLE bytes (k bytea PRIMARY KEY, n int GENERATED ALWAYS AS IDENTITY, twice int GENERATED ALWAYS AS (length(k) * 2) STORED);;
         CREATE TABLE \"a `schema'\".\"odd \"\" `name' 8901234567890123456789012345678901234567890123456\" (\"the \"\" key\" int PRIMARY KEY, \"a `b\" text);;
         CREATE TABLE numbered (id bigserial PRIMARY KEY, v text);;
         CREATE TABLE kinds (id numeric PRIMARY KEY, m mood[], t timestamptz DEFAULT now(), r int4range, at point, i interval, c char(4), x xml, o inet, f float4);;
         CREATE TABLE part (a int, b date, v text, PRIMARY KEY (a, b)) PARTITION BY RANGE (b);;
         CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');; CREATE TABLE part_2 PARTITION OF part DEFAULT;;
         CREATE TABLE parent (id int PRIMARY KEY, code int UNIQUE);;
         CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE,
            code int REFERENCES parent (code) ON DELETE SET NULL ON UPDATE SET NULL);;
         CREATE TABLE told (id serial PRIMARY KEY, what text);;
         CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO told (what) VALUES (NEW.b); RETURN NULL; END $$;;
         CREATE FUNCTION never() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'what was told stays'; END $$;;
         CREATE TRIGGER \"te\"\"ll\" AFTER INSERT ON two FOR EACH ROW EXECUTE FUNCTION tell();;
         CREATE TRIGGER never BEFORE DELETE ON told FOR EACH ROW EXECUTE FUNCTION never();; ALTER TABLE told ENABLE ALWAYS TRIGGER never;;
         CREATE TABLE keyless (a int, b text)",
    first: "INSERT INTO two VALUES (1, 'x', 0.1), (2, 'x', 'NaN'), (1, 'y', NULL); INSERT INTO folded VALUES ('Key', 1), ('other', 2);
        INSERT INTO uuids VALUES ('6f1c3e02-0000-4000-8000-000000000001', '\\x00', '{}'); INSERT INTO bytes VALUES ('\\x00'), ('\\x01');
        INSERT INTO \"a `schema'\".\"odd \"\" `name' 8901234567890123456789012345678901234567890123456\" VALUES (1, 'a'), (2, 'b');
        INSERT INTO keyless VALUES (1, 'one'); INSERT INTO kinds (id, t) VALUES (1, '0001-01-01 BC'), (2.50, 'infinity'), ('NaN', NULL);
        INSERT INTO part VALUES (1, '2020-05-05', 'x'), (2, '2021-05-05', 'y');
        INSERT INTO parent VALUES (1, 10), (2, 20), (3, 30), (4, 40); INSERT INTO child VALUES (1, 1, 20), (2, 2, NULL), (3, 3, 30), (4, 4, 20)",
    rounds: [
        "UPDATE two SET a = 9 WHERE b = 'x' AND a = 1; DELETE FROM two WHERE b = 'y'; INSERT INTO two VALUES (7, 'seven', 7);
         UPDATE folded SET k = 'KEY', v = 5 WHERE k = 'key'; DELETE FROM folded WHERE k = 'OTHER'; INSERT INTO folded VALUES ('OTHER', 6);
         UPDATE uuids SET v = '\\xff00', j = '[1, \"é\"]'; INSERT INTO uuids VALUES ('6f1c3e02-0000-4000-8000-000000000002', NULL, NULL);
         UPDATE bytes SET k = '\\x0102' WHERE k = '\\x01'; INSERT INTO numbered (v) VALUES ('a'), ('b');
         INSERT INTO \"a `schema'\".\"odd \"\" `name' 8901234567890123456789012345678901234567890123456\" VALUES (2, 'x') ON CONFLICT (\"the \"\" key\") DO UPDATE SET \"a `b\" = 'c''\\';
         UPDATE kinds SET m = '{sad,glad}', r = '[1,5)', at = '(1,2)', i = '1 mon 2 days 03:04:05.6', c = 'ab', x = '<a>ä</a>', o = '::1/64', f = 0.1 WHERE id = 1;
         DELETE FROM kinds WHERE id = 'NaN'; UPDATE part SET b = '2022-06-06' WHERE a = 1; INSERT INTO part VALUES (3, '2020-01-01', NULL);
         DELETE FROM parent WHERE id = 1; UPDATE parent SET id = 22 WHERE id = 2; UPDATE parent SET code = 31 WHERE id = 3;
         UPDATE parent SET code = 41 WHERE id = 4; INSERT INTO keyless VALUES (2, 'two')",
        "DELETE FROM two WHERE a = 9; INSERT INTO two VALUES (1, 'y', 3); TRUNCATE folded; INSERT INTO folded VALUES ('key', 7);
         UPDATE uuids SET v = convert_to(repeat('b', 70000), 'UTF8'); DELETE FROM bytes WHERE k = '\\x00'; INSERT INTO numbered (v) VALUES ('c');
         DELETE FROM numbered WHERE v = 'b'; INSERT INTO kinds (id) VALUES ('NaN'); INSERT INTO parent VALUES (5, 50); INSERT INTO child VALUES (9, 5, 50);
         UPDATE \"a `schema'\".\"odd \"\" `name' 8901234567890123456789012345678901234567890123456\" SET \"the \"\" key\" = 9 WHERE \"the \"\" key\" = 1",
        "TRUNCATE two, parent, child; INSERT INTO folded VALUES ('x', 8); INSERT INTO bytes VALUES ('\\x00'); DELETE FROM uuids; UPDATE part SET v = 'z'",
    ],
    tables: &[
        "two",
        "folded",
        "uuids",
        "bytes",
        "numbered",
        "\"a `schema'\".\"odd \"\" `name' 8901234567890123456789012345678901234567890123456\"",
        "kinds",
        "part",
        "part_1",
        "parent",
        "child",
        "told",
    ],
};

/// All rows of a version's database, a table at a time, as its administrator reads them.
fn rows(world: &Backed, kinds: &Kinds, database: &str) -> Vec<String> {
    let of = |table: &&str| {
        let rows = if world.engine == Engine::Postgres {
            world.query(database, &format!("SELECT t::text FROM {table} t ORDER BY 1"))
        } else {
            world.query(database, &format!("SELECT * FROM {table} ORDER BY 1, 2"))
        };
        format!("{table}:\n{rows}")
    };
    kinds.tables.iter().map(of).collect()
}

pub fn all_rows_go_forth_and_back_and_forth_again(engine: Engine) {
    let kinds = match engine {
        Engine::Sqlite => SQLITE,
        Engine::Mysql => MYSQL,
        Engine::Postgres => POSTGRES,
    };
    let world = Backed::new(engine);
    let migrate = MIGRATE.replace("split(\";\")", "split(\";;\")");
    assert_ne!(migrate, MIGRATE);
    world.file("migrate.py", &migrate);
    world.remove("schema.sql");
    // MySQL has no type of its own for these.
    let uuid = if engine == Engine::Mysql && is_mysql() { "uuids (k char(36) " } else { "uuids (k uuid " };
    let mut schema = kinds.schema.replace("uuids (k uuid ", uuid);
    let has_icu = "SELECT count(*) FROM pg_collation WHERE collname = 'und-x-icu'";
    if engine == Engine::Postgres && world.server().sql("", has_icu).trim() == "0" {
        // A server that was built without ICU has another way to fold.
        let (icu, rest) = schema.split_once(";;").unwrap();
        assert!(icu.starts_with("CREATE COLLATION folding"));
        schema = format!("CREATE EXTENSION citext;;{}", rest.replace("text COLLATE folding", "citext"));
    }
    world.file("steps/1.sql", &schema);
    world.settings("syncdb = \"/usr/bin/python3 -B migrate.py\"\n", "[schema]\npaths = [\"steps/*\"]\n");
    world.commit("one");
    world.push().ok().says("=====> live: 0/");
    world.by(&world.url(None), kinds.first).unwrap();

    world.file("steps/2.sql", "CREATE TABLE tag (id INTEGER PRIMARY KEY)");
    world.commit("two");
    let before = rows(&world, &kinds, "app_v0");
    world.push().ok().says("=====> live: 1/");
    assert_eq!(rows(&world, &kinds, "app_v1"), before);

    let [back, forth, again] = kinds.rounds;
    world.by(&world.url(None), back).unwrap();
    let before = rows(&world, &kinds, "app_v1");
    let said = world.receiver(&["rollback", "app"]).ok().says("=====> live: 0/");
    said.says("table 'keyless'").says("primary key");
    assert_eq!(rows(&world, &kinds, "app_v0"), before);
    assert_eq!(world.query("app_v0", "SELECT count(*) FROM keyless").trim(), "1");

    world.by(&world.url(None), forth).unwrap();
    let before = rows(&world, &kinds, "app_v0");
    world.receiver(&["deploy", "app"]).ok().says("=====> live: 1/");
    assert_eq!(rows(&world, &kinds, "app_v1"), before);
    assert_eq!(world.query("app_v1", "SELECT count(*) FROM keyless").trim(), "2");

    world.by(&world.url(None), again).unwrap();
    let before = rows(&world, &kinds, "app_v1");
    world.receiver(&["rollback", "app"]).ok().says("=====> live: 0/");
    assert_eq!(rows(&world, &kinds, "app_v0"), before);
    world.only(&["app_v0", "app_v1"]);
    world.receiver(&["doctor", "app"]).ok();
    world.nothing_is_left_over();
}

#[test]
fn all_rows_of_every_kind_go_forth_and_back_and_forth_again_on_sqlite() {
    all_rows_go_forth_and_back_and_forth_again(Engine::Sqlite);
}

#[test]
fn all_rows_of_every_kind_go_forth_and_back_and_forth_again_on_mysql() {
    all_rows_go_forth_and_back_and_forth_again(Engine::Mysql);
}

#[test]
fn all_rows_of_every_kind_go_forth_and_back_and_forth_again_on_postgres() {
    all_rows_go_forth_and_back_and_forth_again(Engine::Postgres);
}

#[test]
fn a_table_that_was_emptied_by_truncate_on_mysql_makes_a_rollback_say_that_not_every_change_was_noted() {
    let world = Backed::live(Engine::Mysql, "copy");
    world.add_table("tag");
    world.push().ok().says("=====> live: 1/");
    world.by(&world.url(None), "TRUNCATE remark").unwrap();
    let live = world.live();
    let said = world.receiver(&["rollback", "app"]).fails(1).says("remark").says("--without-new-data");
    said.says("not certain that every change was noted");
    assert_eq!(world.live(), live);
    assert_eq!(world.entries(), "one two three");
    world.enter(&[(4, "four")]);
    world.only(&["app_v0", "app_v1"]);
}
