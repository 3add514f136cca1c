use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn column(name: &str) -> Column {
    Column { name: name.to_owned(), kind: "integer".to_owned(), nullable: true, ..Column::default() }
}

/// `table("a", "id x", "id", &["b"])`: the key, and for each table referred to a column of its name.
fn table(name: &str, columns: &str, key: &str, parents: &[&str]) -> Table {
    let names = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let references = parents.iter().map(|parent| Reference {
        columns: vec![(*parent).to_owned()],
        table: (*parent).to_owned(),
        to: vec!["id".to_owned()],
        ..Reference::default()
    });
    Table {
        name: name.to_owned(),
        columns: names(columns).iter().chain(&names(&parents.join(" "))).map(|name| column(name)).collect(),
        key: names(key),
        references: references.collect(),
        apart: None,
    }
}

fn expressions(all: &[(&str, &str, &str)]) -> Expressions {
    let mut found = Expressions::new();
    for (table, column, text) in all {
        found.entry((*table).to_owned()).or_default().insert((*column).to_owned(), (*text).to_owned());
    }
    found
}

fn sentences(left: &Left) -> Vec<String> {
    left.0.iter().map(Stay::to_string).collect()
}

#[test]
fn columns_of_equal_name_go_as_they_are_and_others_by_expression() {
    let old = table("user", "id fullname n age", "id", &[]);
    let new = table("user", "id first last n email", "id", &[]);
    let down = expressions(&[("User", "fullname", "first || ' ' || \"last\"")]);
    let way = Way::plan(std::slice::from_ref(&new), std::slice::from_ref(&old), &down);
    let of = |name: &str| (name.to_owned(), Value::Column(name.to_owned()));
    let passage = &way.passages[0];
    assert_eq!(
        passage.columns,
        [
            of("id"),
            ("fullname".to_owned(), Value::Expression("first || ' ' || \"last\"".to_owned())),
            of("n")
        ]
    );
    assert_eq!(passage.kept, ["age"]);
    assert_eq!(sentences(&way.left), ["table 'user': the other version has no column 'email'"]);

    let up = expressions(&[("user", "first", "fullname"), ("user", "last", "''")]);
    let way = Way::plan(&[old], &[new], &up);
    assert_eq!(way.passages[0].kept, ["email"]);
    assert_eq!(sentences(&way.left), ["table 'user': the other version has no column 'age'"]);
}

#[test]
fn what_the_target_cannot_hold_is_said() {
    let mut computed = table("computed", "id sum", "id", &[]);
    let mut search = table("search", "id", "id", &[]);
    search.apart = Some("it is a virtual table".to_owned());
    let mut typed = table("typed", "id", "id", &[]);
    let source = [
        table("area", "id", "id", &[]),
        computed.clone(),
        table("loose", "x", "", &[]),
        table("keyed", "id other", "other", &[]),
        table("django_migrations", "id app", "id", &[]),
        search.clone(),
        typed.clone(),
        table("strict", "id", "id", &[]),
    ];
    computed.columns[1].generated = true;
    typed.columns[0].kind = "text".to_owned();
    let mut strict = table("strict", "id must", "id", &[]);
    strict.columns[1].nullable = false;
    let target = [
        computed,
        table("loose", "x", "", &[]),
        table("keyed", "id other", "id", &[]),
        table("django_migrations", "id app name", "id", &[]),
        search,
        typed,
        strict,
    ];
    let map = expressions(&[
        ("nowhere", "x", "1"),
        ("computed", "sum", "1"),
        ("computed", "none", "1"),
        ("computed", "id", "1"),
        ("strict", "must", "1; DROP TABLE area"),
    ]);
    let mut way = Way::plan(&source, &target, &map);
    assert_eq!(
        sentences(&way.left),
        [
            "table 'area': the other version has none of this name",
            "table 'computed': the expression for column 'id' cannot be used: a key stays as it is",
            "table 'computed': the expression for column 'none' cannot be used: the table has no such column",
            "table 'computed': the expression for column 'sum' cannot be used: the database computes this column itself",
            "table 'keyed': its primary key is another one in the other version",
            "table 'loose': it has no primary key",
            "table 'nowhere': the expression for column 'x' cannot be used: there is no table of this name in both versions",
            "table 'search': it is a virtual table",
            "table 'strict': the expression for column 'must' cannot be used: it has a semicolon",
            "table 'strict': nothing gives new rows the column 'must' of the other version",
            "table 'typed': its primary key is another one in the other version",
        ]
    );
    let carried: Vec<_> = way.passages.iter().map(|passage| passage.table.as_str()).collect();
    assert_eq!(carried, ["computed", "strict"]);
    way.left.0[0].rows = Some(0);
    way.left.0[4].rows = Some(1);
    let matters = sentences(&way.left.that_matters());
    assert!(matters[0].contains("'computed'"));
    assert!(
        matters
            .contains(&"table 'keyed': its primary key is another one in the other version (1 row)".into())
    );
}

#[test]
fn parents_come_before_children_and_circles_are_named() {
    let tables = [
        table("a", "id", "id", &["b"]),
        table("b", "id", "id", &["c", "b"]),
        table("c", "id", "id", &["d", "unknown"]),
        table("d", "id", "id", &["c"]),
        table("e", "id", "id", &[]),
    ];
    let order = order(&tables);
    assert_eq!(order.tables, ["c", "d", "b", "a", "e"]);
    assert_eq!(order.cycles, [["c", "d"]]);
    let way = Way::plan(&tables, &tables, &Expressions::new());
    assert_eq!(
        way.passages.iter().map(|passage| &passage.table).collect::<Vec<_>>(),
        ["c", "d", "b", "a", "e"]
    );
    assert_eq!(way.links.len(), 5, "a reference to a table that is not there binds nobody");
}

#[test]
fn what_the_left_version_alone_holds_is_merged_and_the_rest_is_said() {
    let base = [table("t", "id x", "id", &[]), table("u", "id", "id", &[])];
    let left = [
        table("t", "id x tag gone", "id", &[]),
        table("u", "id", "id", &[]),
        table("extra", "id v", "id", &[]),
        table("lost", "id", "id", &[]),
    ];
    let own = [
        table("t", "id x tag more", "id", &[]),
        table("u", "id", "id", &[]),
        table("extra", "id v w", "id", &[]),
    ];
    let way = Way::merge(&left, &base, &own);
    assert_eq!(way.passages.len(), 2, "{:?}", way.passages);
    let (extra, t) = (&way.passages[0], &way.passages[1]);
    assert_eq!(
        (extra.table.as_str(), extra.fills, extra.kept.as_slice()),
        ("extra", false, &["w".to_owned()][..])
    );
    assert_eq!(
        (t.table.as_str(), t.fills, t.kept.as_slice()),
        ("t", true, &["more".to_owned(), "x".to_owned()][..])
    );
    assert_eq!(t.columns.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["id", "tag"]);
    assert_eq!(
        sentences(&way.left),
        [
            "table 'lost': the other version has none of this name",
            "table 't': the other version has no column 'gone'"
        ]
    );
}

#[test]
fn only_what_changed_and_what_it_refers_to_goes() {
    let tables = [
        table("a", "id", "id", &[]),
        table("b", "id", "id", &["a"]),
        table("c", "id", "id", &["b", "c"]),
        table("d", "id", "id", &["c"]),
        table("e", "id", "id", &["f"]),
        table("f", "id", "id", &["e"]),
    ];
    let way = Way::plan(&tables, &tables, &Expressions::new());
    let of = |changed: &[&str]| {
        let part = way.of_changed(&changed.iter().copied().collect());
        let passages: Vec<_> = part.passages.iter().map(|passage| passage.table.clone()).collect();
        let links: Vec<_> = part.links.iter().map(|link| link.table.clone()).collect();
        (passages.join(" "), links.join(" "))
    };
    assert_eq!(of(&[]), (String::new(), String::new()));
    // `d` only refers to it: it is looked at, and not carried.
    assert_eq!(of(&["c"]), ("a b c".to_owned(), "b c c d".to_owned()));
    assert_eq!(of(&["e"]), ("e f".to_owned(), "e f".to_owned()));
    assert_eq!(way.of_changed(&["a", "b", "c", "d", "e", "f"].into()), way);
}

#[test]
fn ten_thousand_tables_are_planned() {
    let names: Vec<String> = (0..10_000).map(|n| format!("t{n:05}")).collect();
    let parent = |n: usize| if n == 0 { vec![] } else { vec![names[n - 1].as_str()] };
    let tables: Vec<_> = (0..names.len()).map(|n| table(&names[n], "id", "id", &parent(n))).collect();
    let way = Way::plan(&tables, &tables, &Expressions::new());
    assert_eq!((way.passages.len(), way.links.len()), (10_000, 9_999));
    assert!(Way::merge(&tables, &tables, &tables).passages.is_empty());
    assert_eq!(way.of_changed(&["t09999"].into()).passages.len(), 10_000);
}

#[test]
fn an_expression_stays_one_expression() {
    for good in
        ["a", "coalesce(a, 'it''s; -- /*')", "\"a \"\"b\"", "a || ' ' || `b`", "a->>'x'", "(a + 1) * 2", "-1"]
    {
        assert_eq!(expression::fault(good), None, "{good}");
    }
    for bad in [
        "",
        " ",
        "a)",
        "(a",
        "a) FROM x --",
        "a -- b",
        "a /* b",
        "a; b",
        "'a",
        "\"a",
        "$$a$$",
        "a # b",
        "?",
        "'\\'",
        "([)]",
    ] {
        assert!(expression::fault(bad).is_some(), "{bad}");
    }
    for (text, found) in [
        ("first || ' ' || last", true),
        ("\"First\"", true),
        ("firsts || 'first'", false),
        ("f(`first`)", true),
        ("\"a\"\"first\"", false),
    ] {
        assert_eq!(expression::mentions(text, "first"), found, "{text}");
    }
}

prop_compose! {
    /// Schemas of up to six tables, with some of eight columns, some of them in the key, and parents.
    fn schema()(tables in prop::collection::btree_map(
        "[a-f]",
        (prop::collection::btree_set("[g-n]", 0..6), 0..3_usize, prop::collection::btree_set("[a-f]", 0..3), any::<u8>()),
        0..6,
    )) -> Vec<Table> {
        tables.into_iter().map(|(name, (columns, key, parents, odd))| {
            let parents: Vec<&str> = parents.iter().map(String::as_str).collect();
            let key = ["id", "part"][..key.min(2)].join(" ");
            let columns: Vec<_> = columns.iter().map(String::as_str).collect();
            let mut table = table(&name, &format!("id part {}", columns.join(" ")), &key, &parents);
            for (at, column) in table.columns.iter_mut().enumerate().skip(2) {
                column.generated = odd >> (at % 8) & 1 == 1 && at % 3 == 0;
                column.nullable = odd >> (at % 8) & 1 == 0;
            }
            table
        }).collect()
    }
}

proptest! {
    #[test]
    fn every_column_of_a_source_goes_or_is_said_to_stay(source in schema(), target in schema()) {
        let way = Way::plan(&source, &target, &Expressions::new());
        for table in &source {
            let passage = way.passages.iter().find(|passage| passage.table == table.name);
            let stays: Vec<_> = way.left.0.iter().filter(|stay| stay.table == table.name).collect();
            let Some(passage) = passage else {
                let whole = |what: &What| matches!(what, What::Table | What::Keyless | What::Key | What::Apart(_));
                prop_assert_eq!(stays.iter().filter(|stay| whole(&stay.what)).count(), 1);
                continue;
            };
            let other = target.iter().find(|other| other.name == table.name).unwrap();
            for column in &table.columns {
                let goes = passage.columns.contains(&(column.name.clone(), Value::Column(column.name.clone())));
                let stays = stays.iter().any(|stay| stay.what == What::Column(column.name.clone()));
                let computed = column.generated || other.column(&column.name).is_some_and(|column| column.generated);
                prop_assert!(goes != stays || computed, "{}", column.name);
                prop_assert!(!(goes && stays));
            }
            for column in &other.columns {
                let goes = passage.columns.iter().any(|(name, _)| *name == column.name);
                let kept = passage.kept.contains(&column.name);
                prop_assert_eq!(goes != kept, !column.generated);
                prop_assert!(!(goes && kept));
            }
            prop_assert!(passage.key.iter().all(|name| passage.columns.iter().any(|(column, _)| column == name)));
        }
        let names: BTreeSet<_> = way.passages.iter().map(|passage| &passage.table).collect();
        prop_assert_eq!(names.len(), way.passages.len());
    }

    #[test]
    fn a_schema_goes_whole_into_itself(schema in schema()) {
        let way = Way::plan(&schema, &schema, &Expressions::new());
        prop_assert!(way.passages.iter().all(|passage| passage.kept.is_empty() && !passage.fills));
        prop_assert!(way.left.0.iter().all(|stay| stay.what == What::Keyless));
        prop_assert!(Way::merge(&schema, &schema, &schema).passages.is_empty());
    }

    #[test]
    fn nothing_comes_before_what_it_refers_to_but_in_a_circle(schema in schema()) {
        let order = order(&schema);
        let all: BTreeSet<_> = order.tables.iter().collect();
        prop_assert_eq!(all.len(), schema.len());
        let place = |name: &str| order.tables.iter().position(|other| other == name);
        for table in &schema {
            for reference in &table.references {
                let round = order.cycles.iter().any(|circle| circle.contains(&table.name) && circle.contains(&reference.table));
                if reference.table != table.name && !round {
                    prop_assert!(place(&reference.table) < place(&table.name));
                }
            }
        }
    }

    #[test]
    fn no_text_makes_the_look_at_expressions_panic(text in "[-'\"`()\\[\\];/*a-zé$\\\\ ]{0,30}") {
        let _ = (expression::fault(&text), expression::mentions(&text, "é"));
    }
}
