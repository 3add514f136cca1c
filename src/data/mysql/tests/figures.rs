//! Figures, not checks: `cargo test --release --lib mysql::tests::figures -- --ignored --nocapture`.

use std::process::Command;
use std::time::Instant;

use mysql::prelude::Queryable;

use super::server::TestServer;
use super::*;

fn timed<T>(what: &str, act: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = act();
    println!("{what}: {:.2} s", began.elapsed().as_secs_f64());
    result
}

#[test]
#[ignore = "prints figures"]
fn a_copy_against_the_dump_pipe() {
    let server: &'static TestServer = Box::leak(Box::new(TestServer::start(&[
        "--innodb-buffer-pool-size=512M",
        "--innodb-log-file-size=256M",
    ])));
    let world = World { server, ..World::new() };
    let rows = std::env::var("RECEIVER_ROWS").unwrap_or("600000".into());
    let table = |name: &str| {
        format!(
            "CREATE TABLE {name} (id int AUTO_INCREMENT PRIMARY KEY, a varchar(100), b datetime, c int, KEY (c), KEY (a));;
             INSERT INTO {name} (a, b, c) SELECT CONCAT('row ', seq, REPEAT('x', 60)), NOW(), seq * 7919 % 100003 FROM seq_1_to_{rows};;"
        )
    };
    let database = world.filled(&format!("{}{}", table("one"), table("two")));
    let to = world.at("copy_v1");
    println!("{} bytes", database.size().unwrap());
    let hold = database.hold(&soon()).unwrap();
    timed("hold.copy_to", || hold.copy_to(to.spot(), &soon(), &mut |p| println!("  {p:?}")).unwrap());
    timed("verify", || to.verify(database.spot(), &soon()).unwrap());
    drop(hold);
    timed("snapshot", || database.snapshot(to.spot(), &soon(), &mut |p| println!("  {p:?}")).unwrap());
    to.create().unwrap();
    let socket = world.server.socket.display();
    let pipe = format!(
        "mariadb-dump --no-defaults -uroot -S {socket} --single-transaction --routines --triggers --events {} \
         | mariadb --no-defaults -uroot -S {socket} {}",
        database.name(),
        to.name()
    );
    timed("mariadb-dump | mariadb", || {
        assert!(Command::new("sh").args(["-c", &pipe]).status().unwrap().success())
    });
}

#[test]
#[ignore = "prints figures"]
fn ten_thousand_tables() {
    let world = World::new();
    let database = world.fresh();
    let mut app = world.role(&database, Access::Write);
    timed("10,000 tables made", || {
        for number in 0..10_000 {
            app.query_drop(format!("CREATE TABLE t{number} (id int PRIMARY KEY, n int, KEY (n))")).unwrap();
        }
    });
    let limit = Limit::within(std::time::Duration::from_secs(3600));
    let hold = timed("hold", || database.hold(&limit).unwrap());
    let to = world.at("many_v1");
    timed("hold.copy_to", || hold.copy_to(to.spot(), &limit, &mut |_| {}).unwrap());
    timed("verify", || to.verify(database.spot(), &limit).unwrap());
    drop(hold);
    timed("prepare_hold", || database.prepare_hold(&limit).unwrap());
    let hold = timed("hold with gates", || database.hold(&limit).unwrap());
    timed("fence", || hold.fence("x").unwrap());
    timed("state", || println!("{:?}", database.fence().unwrap()));
    timed("unfence", || database.unfence().unwrap());
    timed("remove", || to.remove().unwrap());
    database.remove().unwrap();
}
