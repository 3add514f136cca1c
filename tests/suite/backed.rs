//! A world whose app keeps its data in a real database, of whichever engine.

use std::io::{BufRead as _, BufReader, Write as _};
use std::ops::{Deref, DerefMut};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::servers::{self, Engine, Server};
use crate::world::World;

/// Stages in plain SQL.
pub const SQL: &str = "syncdb = { sql = [\"schema.sql\"] }\n";
/// The web application of `tests/fixtures/rows`.
pub const WEB: &str = "[web]\ncommand = \"exec /usr/bin/python3 -B web.py\"\nsettle = \"10ms\"\nstart_timeout = \"20s\"\ndrain = \"10s\"\n";

/// A world with `app`, and the server of its databases where the engine has one.
pub struct Backed {
    // The server ends first, and its disk after it.
    pub server: Option<Server>,
    disk: Option<Disk>,
    pub world: World,
    pub engine: Engine,
}

impl Deref for Backed {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl DerefMut for Backed {
    fn deref_mut(&mut self) -> &mut World {
        &mut self.world
    }
}

impl Backed {
    /// With an app called `app`, the files of `tests/fixtures/rows` on the laptop, and nothing pushed.
    pub fn new(engine: Engine) -> Backed {
        Backed::with_options(engine, &[])
    }

    /// The same, with further options for the server.
    pub fn with_options(engine: Engine, more: &[&str]) -> Backed {
        let backed = Backed::around_with(World::with_app(), engine, more);
        backed.files();
        backed
    }

    /// A world that is there already, and a server for its `app`.
    pub fn around(world: World, engine: Engine) -> Backed {
        Backed::around_with(world, engine, &[])
    }

    fn around_with(world: World, engine: Engine, more: &[&str]) -> Backed {
        Backed::assemble(world, engine, more, None)
    }

    fn assemble(world: World, engine: Engine, more: &[&str], disk: Option<Disk>) -> Backed {
        let server =
            (engine != Engine::Sqlite).then(|| Server::start_with(engine, &world.place().join("db"), more));
        let mut backed = Backed { server, disk, world, engine };
        if let Some(other) = servers::other_programs(engine) {
            // Its dump and restore, too: those of the system may be older than it, or another server's.
            let path = std::env::var_os("PATH").unwrap();
            let all = std::iter::once(other).chain(std::env::split_paths(&path));
            let path = std::env::join_paths(all).unwrap().into_string().unwrap();
            backed.world.env.insert("PATH".into(), path);
        }
        backed.grant("app");
        backed
    }

    /// The same as [`Backed::new`], but the server is alone on a disk of so many megabytes; or, without one, all apps.
    pub fn on_a_disk_of(engine: Engine, megabytes: u32, more: &[&str]) -> Backed {
        let world = if engine == Engine::Sqlite { World::new() } else { World::with_app() };
        let place = if engine == Engine::Sqlite { world.root() } else { world.place().join("db") };
        std::fs::create_dir(&place).unwrap();
        let options = format!("mode=0755,size={megabytes}m");
        let path = place.display().to_string();
        let said = world.run("mount", world.place(), &["-t", "tmpfs", "-o", &options, "tmpfs", &path]);
        assert_eq!(said.code, 0, "this test mounts a small tmpfs, so it needs root: {}", said.stderr);
        let disk = Some(Disk(place));
        if engine == Engine::Sqlite {
            world.receiver(&["create", "app"]).ok();
            world.remote("app");
        }
        let backed = Backed::assemble(world, engine, more, disk);
        backed.files();
        backed
    }

    /// Where that disk is.
    pub fn disk(&self) -> &std::path::Path {
        &self.disk.as_ref().expect("a disk of its own").0
    }

    /// The free bytes of that disk.
    pub fn disk_free(&self) -> u64 {
        let about = rustix::fs::statvfs(self.disk()).unwrap();
        about.f_bavail * about.f_frsize
    }

    fn files(&self) {
        self.file("database.py", include_str!("../fixtures/rows/database.py"));
        self.file("web.py", include_str!("../fixtures/rows/web.py"));
        self.file("migrate.py", include_str!("../fixtures/rows/migrate.py"));
        self.file("index.html", "page one\n");
        self.schema(&[]);
    }

    /// Plain SQL on this engine with this carry, live with three entries.
    pub fn live(engine: Engine, carry: &str) -> Backed {
        Backed::live_with(engine, SQL, &format!("carry = \"{carry}\"\n"))
    }

    /// These stages, these lines of `[database]` and of what follows it, live with three entries.
    pub fn live_with(engine: Engine, stages: &str, more: &str) -> Backed {
        let backed = Backed::new(engine);
        backed.settings(stages, more);
        backed.commit("one");
        backed.push().ok().says("=====> live: 0/");
        backed.enter(&[(1, "one"), (2, "two"), (3, "three")]);
        backed
    }

    /// Tells an app of the server, as its administrator does.
    pub fn grant(&self, app: &str) {
        if let Some(server) = &self.server {
            let socket = server.socket().display().to_string();
            self.receiver(&["config", app, "database.server", &socket]).ok();
            self.receiver(&["config", app, "database.admin", self.engine.admin()]).ok();
        }
    }

    pub fn server(&self) -> &Server {
        self.server.as_ref().expect("an engine that is a server")
    }

    pub fn server_mut(&mut self) -> &mut Server {
        self.server.as_mut().expect("an engine that is a server")
    }

    /// The repository's settings: stages, and what stands in `[database]` and after it.
    pub fn settings(&self, stages: &str, more: &str) {
        self.file("receiver.toml", &format!("[stages]\n{stages}{}{more}", self.engine.settings()));
    }

    /// `schema.sql`: entries and the remarks on them, and these tables of a number each.
    pub fn schema(&self, tables: &[&str]) {
        let serial = self.engine.serial();
        let mut text = format!(
            "CREATE TABLE IF NOT EXISTS entry (id {serial}, writer INTEGER NOT NULL, number INTEGER NOT NULL,\n  \
             turn INTEGER NOT NULL DEFAULT 0, text VARCHAR(200) NOT NULL, UNIQUE (writer, number));\n\
             CREATE TABLE IF NOT EXISTS remark (id {serial}, entry BIGINT NOT NULL, text VARCHAR(200) NOT NULL,\n  \
             FOREIGN KEY (entry) REFERENCES entry (id) ON DELETE CASCADE);\n"
        );
        for table in tables {
            text.push_str(&format!("CREATE TABLE IF NOT EXISTS {table} (id INTEGER PRIMARY KEY);\n"));
        }
        self.file("schema.sql", &text);
    }

    /// `schema.sql` gets one table more, and is committed: the next push opens a version.
    pub fn add_table(&self, name: &str) {
        let before = std::fs::read_to_string(self.laptop().join("schema.sql")).unwrap();
        self.file(
            "schema.sql",
            &format!("{before}CREATE TABLE IF NOT EXISTS {name} (id INTEGER PRIMARY KEY);\n"),
        );
        self.commit(name);
    }

    /// Writes entries of writer 0 into the live database, as an application does.
    #[track_caller]
    pub fn enter(&self, entries: &[(u32, &str)]) {
        let mut text = String::new();
        for (number, entry) in entries {
            text.push_str(&format!(
                "INSERT INTO entry (writer, number, text) VALUES (0, {number}, '{entry}');\
                 INSERT INTO remark (entry, text) SELECT id, text FROM entry WHERE writer = 0 AND number = {number};"
            ));
        }
        self.by(&self.url(None), &text).unwrap_or_else(|said| panic!("{said}\n{}", self.picture()));
    }

    /// The entries of writer 0 in the live database, as an application reads them: `one two three`.
    #[track_caller]
    pub fn entries(&self) -> String {
        let query = "SELECT text FROM entry WHERE writer = 0 ORDER BY number";
        let rows = self.by(&self.url(None), query);
        rows.unwrap_or_else(|said| panic!("{said}\n{}", self.picture())).trim().replace('\n', " ")
    }

    /// What a write into the database at an address is answered.
    pub fn write_by(&self, url: &str) -> Result<(), String> {
        let statement = "INSERT INTO entry (writer, number, text) VALUES (7, (SELECT n FROM (SELECT count(*) AS n \
                         FROM entry) AS all_of_them), 'late')";
        self.by(url, statement).map(drop)
    }

    /// The address of a version's database, or the live one's.
    #[track_caller]
    pub fn url(&self, version: Option<u32>) -> String {
        self.url_of("app", version)
    }

    #[track_caller]
    pub fn url_of(&self, app: &str, version: Option<u32>) -> String {
        let version = version.map(|version| version.to_string());
        let mut arguments = vec!["db", app, "url"];
        arguments.extend(version.iter().flat_map(|version| ["--version", version]));
        self.receiver(&arguments).ok().stdout.trim().to_owned()
    }

    fn python(&self, url: &str) -> Command {
        let mut command = Command::new("/usr/bin/python3");
        command.arg("-B").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/rows/database.py"));
        command.env("DATABASE_URL", url).env("PATIENCE", "5").current_dir(self.place());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Statements in one transaction, by whoever the address says, and the rows; or what was said against it.
    pub fn by(&self, url: &str, statements: &str) -> Result<String, String> {
        let mut command = self.python(url);
        if statements.trim_start().starts_with("SELECT") {
            command.env("BEGIN", "BEGIN");
        }
        let mut child = command.spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(statements.as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// A connection that stays open.
    #[track_caller]
    pub fn talk(&self, url: &str) -> Talk {
        self.try_talk(url).unwrap_or_else(|| panic!("nobody comes in by {url}\n{}", self.picture()))
    }

    /// The same, where there is still one to be had.
    pub fn try_talk(&self, url: &str) -> Option<Talk> {
        let mut child = self.python(url).arg("talk").stderr(Stdio::inherit()).spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut talk = Talk { child, input, output };
        (talk.line() == "talks").then_some(talk)
    }

    /// Statements past receiver, by the server's administrator, and the rows.
    #[track_caller]
    pub fn query(&self, database: &str, statements: &str) -> String {
        if let Some(server) = &self.server {
            return server.sql(database, statements);
        }
        let version = database.rsplit_once("_v").unwrap().1.parse().unwrap();
        let url = format!("sqlite:///{}", self.database(version).display());
        self.by(&url, statements).unwrap()
    }

    /// All databases that there are, whoever made them.
    pub fn databases(&self) -> Vec<String> {
        if let Some(server) = &self.server {
            return server.databases();
        }
        let inside = |place: std::path::PathBuf| {
            std::fs::read_dir(place).into_iter().flatten().map(|entry| entry.unwrap().path())
        };
        let mut names: Vec<String> = inside(self.root())
            .flat_map(|app| inside(app.join("receiver/databases")))
            .flat_map(inside)
            .filter_map(|file| Some(file.file_name()?.to_str()?.strip_suffix(".sqlite3")?.to_owned()))
            .collect();
        names.sort();
        names
    }

    /// These databases are there, with their roles, and no others.
    #[track_caller]
    pub fn only(&self, databases: &[&str]) {
        assert_eq!(self.databases(), databases, "{}", self.picture());
        let roles = self.server.as_ref().map(Server::roles).unwrap_or_default();
        let whose = |role: &str| databases.iter().filter(|name| role.starts_with(**name)).count();
        let strays: Vec<&String> = roles.iter().filter(|role| whose(role) == 0).collect();
        assert!(strays.is_empty(), "roles without a database: {strays:?}");
        for database in databases.iter().filter(|_| self.server.is_some()) {
            assert!(
                roles.iter().any(|role| role == database),
                "{database} has no role of its name: {roles:?}"
            );
        }
    }

    /// The world's, and what its server has to say.
    pub fn picture(&self) -> String {
        let server = self.server.as_ref();
        let server = server.map(|server| format!("{:?}\n{}", server.connected(), server.log_end()));
        format!("{}\n{}", self.world.picture(), server.unwrap_or_default())
    }
}

/// A small filesystem in memory.
struct Disk(std::path::PathBuf);

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// A connection that stays open, and what it is answered.
pub struct Talk {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Talk {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Rows, or what was said against it.
    pub fn says(&mut self, statement: &str) -> Result<Vec<String>, String> {
        self.tell(statement);
        self.answer()
    }

    /// Asks without waiting for the answer.
    pub fn tell(&mut self, statement: &str) {
        writeln!(self.input, "{statement}").unwrap();
    }

    /// Waits for it.
    pub fn answer(&mut self) -> Result<Vec<String>, String> {
        let mut rows = Vec::new();
        loop {
            match self.line() {
                end if end == "done" => return Ok(rows),
                end if end.starts_with("refused:") => return Err(end),
                end if end.is_empty() => return Err("refused: the connection's process ended".into()),
                row => rows.push(row),
            }
        }
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
