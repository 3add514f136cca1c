use super::*;

fn of(sql: &str) -> crate::data::Schema {
    let sandbox = Sandbox::new();
    schema(&sandbox.database("3", sql)).unwrap()
}

#[test]
fn two_ways_to_make_one_schema_are_the_same_schema() {
    let scratch = of(
        "CREATE TABLE django_migrations (id);
         CREATE TABLE \"user\" (\"id\" integer NOT NULL PRIMARY KEY AUTOINCREMENT, \"name\" varchar(20) NOT NULL
             CHECK (\"name\" <> ''), \"age\" int DEFAULT 0, UNIQUE (\"name\", \"age\"));
         CREATE INDEX user_age ON \"user\" (\"age\" DESC) WHERE age > 3;
         CREATE VIEW grown AS SELECT * FROM user WHERE age > 17;",
    );
    let migrated = of("create table user (
             age int default 0, -- years
             id INTEGER not null primary key autoincrement,
             name VARCHAR(20) not null, unique (name, age), constraint c check (name<>'')
         );
         create index user_age on user (age desc) where age>3;
         create view grown as select * from user where age /* of majority */ > 17;");
    assert_eq!(scratch.diff(&migrated), [""; 0]);
    assert_eq!(scratch.hash().unwrap(), migrated.hash().unwrap());
}

#[test]
fn what_differs_is_told_line_by_line() {
    let old = of("CREATE TABLE user (id INTEGER PRIMARY KEY, fullname TEXT); CREATE TABLE gone (x, y);");
    let new = of("CREATE TABLE user (id INTEGER PRIMARY KEY, first TEXT, last TEXT);
                  CREATE TABLE parcels_area (id INTEGER PRIMARY KEY, a REFERENCES user (id));");
    assert_eq!(
        old.diff(&new),
        ["- table gone", "+ table parcels_area", "+ user.first", "- user.fullname", "+ user.last"]
    );
    assert_ne!(old.hash().unwrap(), new.hash().unwrap());
}

#[test]
fn every_rule_of_a_table_counts() {
    let base = "CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE t (a TEXT, b INT, c REFERENCES p (id))";
    let line = |sql: &str| of(base).diff(&of(sql)).join("; ");
    let table =
        |columns: &str| line(&format!("CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE t ({columns})"));
    assert_eq!(table("a TEXT NOT NULL, b INT, c REFERENCES p (id)"), "~ t.a: text → text not null");
    assert_eq!(table("a TEXT COLLATE NOCASE, b INT, c REFERENCES p (id)"), "+ t.a collate");
    assert_eq!(table("a TEXT, b INT CHECK (b > 0), c REFERENCES p (id)"), "+ t check ( b > 0 )");
    assert_eq!(table("a TEXT UNIQUE, b INT, c REFERENCES p (id)"), "+ t unique (a)");
    assert_eq!(
        table("a TEXT, b INT, c REFERENCES p (id) ON DELETE CASCADE"),
        "~ t foreign key (c) references p (id): on update no action on delete no action → on update no action on delete cascade"
    );
    assert_eq!(table("a TEXT, b INT, c REFERENCES p (id) DEFERRABLE INITIALLY DEFERRED"), "+ t c initially");
    assert_eq!(
        table("a TEXT, b INT AS (length(a)) STORED, c REFERENCES p (id)"),
        "~ t.b: int → int stored; + t.b as"
    );
    assert_eq!(of("CREATE TABLE t (a TEXT)").diff(&of("CREATE TABLE t (a TEXT) STRICT")), ["+ t options"]);
    assert_eq!(
        line(&format!("{base}; CREATE TRIGGER x AFTER DELETE ON t BEGIN DELETE FROM p; END;")),
        "+ trigger x on t"
    );
    assert_eq!(line(&format!("{base}; CREATE VIRTUAL TABLE f USING fts5 (x);")), "+ table f");
}
