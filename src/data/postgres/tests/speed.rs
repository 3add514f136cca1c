//! Which way a copy is made was measured: `cargo test --release --lib -- --ignored --nocapture how_fast`.

use super::*;

const SHOP: &str = "CREATE TABLE a (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, note text, at timestamptz, price numeric, doc jsonb);
    INSERT INTO a (name, note, at, price, doc) SELECT md5(g::text), repeat(md5(g::text), 4), now(), g * 1.17, jsonb_build_object('n', g, 't', md5(g::text)) FROM generate_series(1, 330000) g;
    CREATE INDEX ON a (name); CREATE INDEX ON a (at);
    CREATE TABLE b (id int PRIMARY KEY, a bigint REFERENCES a, f float8); INSERT INTO b SELECT g, g % 330000 + 1, random() FROM generate_series(1, 1000000) g; CREATE INDEX ON b (a);
    CREATE TABLE c (id uuid PRIMARY KEY, raw bytea); INSERT INTO c SELECT gen_random_uuid(), decode(repeat(md5(g::text), 8), 'hex') FROM generate_series(1, 150000) g";

#[test]
#[ignore = "a measurement"]
fn how_fast_is_a_copy() {
    let sandbox = Sandbox::new();
    let database = sandbox.database("speed_v1", SHOP);
    sandbox.app("speed_v1").batch_execute("VACUUM ANALYZE").unwrap();
    let bytes = database.size().unwrap();
    let copy = sandbox.at("speed_v2");
    for round in 0..3 {
        let began = Instant::now();
        let hold = database.hold(&patience()).unwrap();
        hold.copy_to(copy.spot(), &patience(), &mut |progress| println!("{progress:?}")).unwrap();
        println!("{round}: {bytes} bytes: copied {:?}", began.elapsed());
        let began = Instant::now();
        copy.verify(database.spot(), &patience()).unwrap();
        println!("verified {:?}", began.elapsed());
        let began = Instant::now();
        copy.census(&patience()).unwrap();
        println!("census {:?}", began.elapsed());
        drop(hold);
    }
    for compress in ["0", "1"] {
        sandbox.at("speed_v3").create().unwrap();
        let began = Instant::now();
        let place = tempfile::tempdir().unwrap();
        let run = |program: &str, arguments: &[&str]| {
            let status = Command::new(program)
                .env("PGHOST", &sandbox.server.directory)
                .env("PGUSER", "postgres")
                .args(arguments)
                .status()
                .unwrap();
            assert!(status.success());
        };
        let to = place.path().join("d").display().to_string();
        run("pg_dump", &["-Fd", "-j2", "-Z", compress, "-f", &to, "speed_v1"]);
        let dumped = began.elapsed();
        run("pg_restore", &["-j2", "--no-owner", "--no-acl", "-d", "speed_v3", &to]);
        println!("pg_dump -Fd -j2 -Z{compress}: {dumped:?}, with pg_restore -j2 {:?}", began.elapsed());
        let began = Instant::now();
        sandbox.server.postgres("speed_v3").batch_execute("ANALYZE").unwrap();
        println!("and ANALYZE {:?}", began.elapsed());
    }
}
