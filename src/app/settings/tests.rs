//! The three steps together: what a file says, and what comes of it.

use std::fmt::Write as _;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::support::Result;

const SERVER: &str = "/srv/app/receiver.toml";

fn load(repo: &str, server: &str) -> Result<Settings> {
    Settings::load(Some(repo.as_bytes()), Some(server.as_bytes()), SERVER)
}

/// The complaints about a repository's file, without the summary.
fn complaints(repo: &str) -> Vec<String> {
    complaints_of(repo, "")
}

fn complaints_of(repo: &str, server: &str) -> Vec<String> {
    match load(repo, server) {
        Ok(_) => Vec::new(),
        Err(error) => error.to_string().lines().skip(1).map(|line| line.trim_start().to_owned()).collect(),
    }
}

fn command(settings: &Settings, name: StageName) -> Option<String> {
    match &settings.stage(name)?.action {
        Action::Run(command) => Some(command.clone()),
        Action::Sql(_) => None,
    }
}

#[test]
fn nothing_said_is_the_defaults() {
    let settings = Settings::load(None, None, SERVER).unwrap();
    assert!(!settings.has_stages());
    assert!(!settings.database.engine_said);
    assert_eq!(settings.database.engine, Engine::None);
    assert_eq!(settings.database.carry, Carry::Copy);
    assert_eq!(settings.database.max_pause, Duration::from_secs(20));
    assert_eq!(settings.branch.as_str(), "main");
    let keep = Keep { releases: 5, versions: 3, dumps: Duration::from_secs(30 * 86_400) };
    assert_eq!(settings.keep, keep);
    assert_eq!(settings.limits.time, Duration::from_secs(1800));
    assert_eq!(settings.limits.log_bytes, 16 << 20);
}

#[test]
fn the_pause_depends_on_the_engine_unless_it_is_said() {
    let pause = |text: &str| load(text, "").unwrap().database.max_pause;
    assert_eq!(pause("database.engine = 'sqlite'"), Duration::from_secs(4));
    assert_eq!(pause("database.engine = 'mysql'"), Duration::from_secs(20));
    assert_eq!(pause("database = { engine = 'sqlite', max_pause = '500ms' }"), Duration::from_millis(500));
}

#[test]
fn the_default_engine_can_be_said() {
    assert!(load("database.engine = 'none'", "").unwrap().database.engine_said);
    assert!(load("", "[database]\nengine = 'none'").unwrap().database.engine_said);
}

#[test]
fn the_servers_file_wins_key_by_key() {
    let repo = "[stages]\nbuild = 'make'\ncheck = { run = 'make check', timeout = '1m', env = { A = 'b' } }";
    let settings = load(repo, "[stages]\ncheck = { run = 'true' }\nassets = 'gzip'").unwrap();
    assert_eq!(command(&settings, StageName::Build).as_deref(), Some("make"));
    assert_eq!(command(&settings, StageName::Assets).as_deref(), Some("gzip"));
    let check = settings.stage(StageName::Check).unwrap();
    let whole = Stage {
        action: Action::Run("true".to_owned()),
        timeout: Duration::from_secs(1800),
        env: std::collections::BTreeMap::new(),
    };
    assert_eq!(check, &whole, "a stage is replaced, not mixed");
}

#[test]
fn a_stage_is_text_or_a_table() {
    let repo = "[stages]\nbuild = { run = 'make', timeout = '10m', env = { CC = 'cc' } }\n\
                syncdb = { sql = ['schema.sql', 'db/more.sql'], timeout = '1h' }";
    let settings = load(repo, "").unwrap();
    let build = settings.stage(StageName::Build).unwrap();
    assert_eq!(build.timeout, Duration::from_secs(600));
    assert_eq!(build.env.get("CC").map(String::as_str), Some("cc"));
    let Action::Sql(files) = &settings.stage(StageName::Syncdb).unwrap().action else { panic!("not SQL") };
    assert_eq!(files.iter().map(RelativePath::as_str).collect::<Vec<_>>(), ["schema.sql", "db/more.sql"]);
    let names: Vec<_> = settings.stages().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["build", "syncdb"]);
}

#[test]
fn the_servers_time_is_the_default_and_the_most_of_a_stage() {
    let repo = "[stages]\nbuild = { run = 'make', timeout = '2h' }\nassets = 'gzip'\ncheck = { run = 'x', timeout = '1m' }";
    let timeout =
        |server: &str, name| load(repo, server).unwrap().stage(name).unwrap().timeout.as_secs() / 60;
    assert_eq!(timeout("", StageName::Build), 120);
    assert_eq!(timeout("", StageName::Assets), 30);
    assert_eq!(timeout("limits.time = '1h'", StageName::Build), 60);
    assert_eq!(timeout("limits.time = '1h'", StageName::Assets), 60);
    assert_eq!(timeout("limits.time = '1h'", StageName::Check), 1);
}

#[test]
fn unknown_keys_name_file_line_and_nearest_key() {
    assert_eq!(
        complaints("format = 1\n[stages]\nbuidl = 'make'\n"),
        ["receiver.toml:3: unknown key 'stages.buidl' (did you mean 'stages.build'?)"]
    );
    assert_eq!(
        complaints_of("", "[kepe]\nreleases = 1"),
        ["/srv/app/receiver.toml:1: unknown key 'kepe' (did you mean 'keep'?)"]
    );
    assert_eq!(
        complaints("[stages]\nbuild = { rnu = 'make', run = 'make' }"),
        ["receiver.toml:2: unknown key 'stages.build.rnu' (did you mean 'stages.build.run'?)"]
    );
}

#[test]
fn the_servers_keys_are_refused_in_the_repository() {
    let why = "belongs in the server's receiver.toml, not in the repository's";
    assert_eq!(
        complaints("branch = 'x'\n[keep]\nreleases = 1\nversions = 2\n"),
        [format!("receiver.toml:1: 'branch' {why}"), format!("receiver.toml:2: 'keep' {why}")]
    );
}

#[test]
fn wrong_kinds_name_what_was_found_and_what_is_wanted() {
    assert_eq!(
        complaints(
            "[stages]\nbuild = 5\n[database]\nengine = 'oracle'\nmax_pause = 20\n[shared]\nfiles = '.env'\n"
        ),
        [
            "receiver.toml:2: 'stages.build': invalid type: integer `5`, expected a command as text, or a table with run or sql",
            "receiver.toml:4: 'database.engine': unknown variant `oracle`, expected one of `none`, `sqlite`, `mysql`, `postgres`",
            "receiver.toml:5: 'database.max_pause': invalid type: integer `20`, expected a duration with its unit, such as \"30s\" (ms, s, m, h, d)",
            "receiver.toml:7: 'shared.files': invalid type: string \".env\", expected a sequence",
        ]
    );
    assert_eq!(complaints("stages = 'x'"), ["receiver.toml:1: 'stages': found string, expected a table"]);
    assert_eq!(
        complaints("[database]\nmax_pause = '20'"),
        ["receiver.toml:2: 'database.max_pause': '20' has no unit: write \"30s\" (ms, s, m, h, d)"]
    );
}

#[test]
fn the_line_is_that_of_the_wrong_item_in_a_list() {
    assert_eq!(
        complaints("[shared]\nfiles = [\n  '.env',\n  '../x',\n]\n"),
        ["receiver.toml:4: 'shared.files': '../x' leads out of the release"]
    );
}

#[test]
fn all_complaints_of_both_files_are_reported() {
    let found = complaints_of(
        "bogus = 1\n[stages]\nbuild = ''\n[shared]\ndirs = ['a', 'a/b']",
        "[keep]\nreleases = 0",
    );
    assert_eq!(
        found,
        [
            "receiver.toml:1: unknown key 'bogus'",
            "receiver.toml:3: 'stages.build': the command is empty",
            "/srv/app/receiver.toml:2: 'keep.releases': invalid value: integer `0`, expected a whole number from 1 up",
            "receiver.toml:5: 'shared.dirs': 'a/b' lies in 'a', which is shared too",
        ]
    );
}

#[test]
fn syntax_errors_have_their_line() {
    let found = complaints("[stages]\nbuild = \n");
    assert!(found[0].starts_with("receiver.toml:2: "), "{found:?}");
    let twice = complaints("format = 1\nformat = 1\n");
    assert_eq!(twice, ["receiver.toml:2: duplicate key"]);
}

#[test]
fn a_newer_format_is_refused_without_more_words() {
    assert_eq!(
        complaints("format = 2\n[later]\nx = 1"),
        ["receiver.toml:1: 'format': written for a newer receiver: format 2, this one reads 1"]
    );
    assert!(load("format = 1", "").is_ok());
    assert_eq!(complaints("format = 0\nx = 1").len(), 2);
}

#[test]
fn stages_that_cannot_be_are_refused() {
    let why = |text: &str| complaints(&format!("[stages]\n{text}")).join("\n");
    assert!(why("syncdb = { run = 'x', sql = ['a.sql'] }").contains("has both run and sql"));
    assert!(why("syncdb = { timeout = '1m' }").contains("has neither run nor sql"));
    assert!(why("syncdb = { sql = [] }").contains("sql names no file"));
    assert!(why("syncdb = { sql = ['/etc/x.sql'] }").contains("is absolute"));
    assert!(why("syncdb = { sql = ['../x.sql'] }").contains("leads out of the release"));
    assert!(why("syncdb = { sql = ['a.sql'], env = { A = 'b' } }").contains("no environment"));
    assert!(why("build = { sql = ['a.sql'] }").contains("sql is for syncdb and migration only"));
    assert!(why("build = { run = 'x', timeout = '0s' }").contains("leaves no time"));
    assert!(why("build = { run = 'x', env = { RECEIVER_APP = 'y' } }").contains("RECEIVER_"));
    assert!(why("build = { run = 'x', env = { 'A B' = 'y' } }").contains("not a variable's name"));
    assert!(why("build = { run = 'x', env = { A = \"\\u0000\" } }").contains("NUL"));
    assert!(why("build = \"a\\u0000\"").contains("NUL"));
}

#[test]
fn shared_paths_do_not_overlap() {
    let why = |text: &str| complaints(&format!("[shared]\n{text}")).join("\n");
    assert!(why("files = ['a']\ndirs = ['a']").contains("'a' is shared twice"));
    assert!(why("files = ['media/x']\ndirs = ['media', 'media-2']").contains("'media/x' lies in 'media'"));
    assert!(why("dirs = ['.git/hooks']").contains("is not the application's own"));
    assert_eq!(why("files = ['.env']\ndirs = ['media', 'media2', 'medi']"), "");
}

#[test]
fn tables_that_lack_something_are_refused_only_once_both_files_are_read() {
    assert_eq!(
        complaints("[process.mailer]\noverlap = true"),
        ["receiver.toml:2: 'process.mailer': has no command"]
    );
    let settings = load("[process.mailer]\ncommand = 'mail'", "[process.mailer]\noverlap = true").unwrap();
    assert_eq!(settings.processes["mailer"], Process { command: "mail".to_owned(), overlap: true });
    assert_eq!(complaints("[cron.clean]\nat = 'daily'"), ["receiver.toml:2: 'cron.clean': has no command"]);
    assert_eq!(complaints("[process.mailer]"), ["receiver.toml:1: 'process.mailer' is empty"]);
    // what is there, but wrong, is not missing; nor is what stands in a file that cannot be read
    assert_eq!(complaints("[process.mailer]\ncommand = 5").len(), 1);
    assert_eq!(complaints_of("[process.mailer\n", "[process.mailer]\noverlap = true").len(), 1);
}

#[test]
fn branches_are_an_app_or_previews() {
    let why = |text: &str| complaints_of("", &format!("[branches]\n{text}")).join("\n");
    assert_eq!(
        why(
            "develop = { app = 'agroguia--dev', domain = 'dev.example' }\n'f/*' = { preview = true, data = 'copy' }"
        ),
        ""
    );
    assert!(why("develop = { domain = 'dev.example' }").contains("neither app nor preview"));
    assert!(why("develop = { app = 'a--b', preview = true }").contains("both app and preview"));
    assert!(why("'f/*' = { app = 'a--b' }").contains("is a pattern"));
    assert!(why("develop = { app = 'a--b', data = 'copy' }").contains("for previews"));
    assert!(why("'a..b' = { preview = true }").contains("not a branch"));
    assert!(why("develop = { app = 'a-very-long-name--develop' }").contains("at most 24"));
    for own in ["main", "*", "ma*", "m*n"] {
        let refused = why(&format!("'{own}' = {{ preview = true }}"));
        assert!(
            refused.contains("means the branch 'main', which the app deploys itself"),
            "{own}: {refused}"
        );
    }
    assert!(complaints_of("", "branch = 'x'\n[branches]\nmain = { app = 'a--b' }").is_empty());
}

#[test]
fn an_exact_branch_wins_over_a_pattern_and_the_longest_pattern_over_the_others() {
    let text = "[branches]\n'f/*' = { preview = true }\n'f/a/*' = { preview = true, data = 'copy' }\n\
                'f/a/b' = { app = 'app--b' }";
    let settings = load("", text).unwrap();
    let pattern = |branch| settings.branch_for(branch).map(|(pattern, _)| pattern);
    assert_eq!(pattern("f/a/b"), Some("f/a/b"));
    assert_eq!(pattern("f/a/bc"), Some("f/a/*"));
    assert_eq!(pattern("f/ab"), Some("f/*"));
    assert_eq!((pattern("f"), pattern("main")), (None, None));
}

#[test]
fn names_that_a_file_chooses_are_checked() {
    let why = |text: &str| complaints(text).join("\n");
    assert!(why("[process.'../x']\ncommand = 'x'").contains("must be 1 to 24"));
    assert!(why("[process.web]\ncommand = 'x'").contains("is the process of [web]"));
    assert!(why("[cache]\n'/etc' = ['a']").contains("is absolute"));
    assert!(why("[web.static]\n'/a; }' = 'b'").contains("is not a path on the web"));
    assert!(why("[web.static]\n'/a' = '/etc'").contains("is absolute"));
}

#[test]
fn what_is_pushed_reaches_no_terminal_raw() {
    let hostile = "\"\\u001b[2J\\u009b\\u202e\\r\\n\" = 1\n[stages]\nbuild = { run = 'x', timeout = \"\\u001b]0;x\\u0007\" }\n\
                   [database]\nengine = \"\\u001b[31m\"\n[process.\"a\\u001b\"]\ncommand = 'x'\n[shared]\nfiles = [\"a\\u001bb\"]\n";
    let text = load(hostile, "").unwrap_err().to_string();
    assert_eq!(text.lines().count(), 6, "{text}");
    let raw = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
    assert!(!text.contains(raw), "{text:?}");
    assert!(text.contains("\\u{1b}"), "{text}");
}

#[test]
fn explained_settings_are_safe_to_print() {
    let settings = load("[stages]\nbuild = \"echo \\u001b[2J\\u009b\\u202e\\necho\"", "").unwrap();
    let explained = settings.explain();
    let build = explained.iter().find(|explained| explained.key == "stages.build").unwrap();
    assert!(!build.value.contains(|c: char| c.is_control() || c == '\u{202e}'), "{:?}", build.value);
}

#[test]
fn explain_says_where_each_value_came_from() {
    let repo =
        "[stages]\nbuild = 'make'\n[database]\nengine = 'sqlite'\n[cache]\n'.venv' = ['requirements.txt']\n";
    let settings = load(repo, "branch = 'release'\n[database]\ncarry = 'empty'").unwrap();
    let lines: Vec<String> = settings
        .explain()
        .iter()
        .map(|Explained { key, value, origin }| format!("{key} = {value} # {origin}"))
        .filter(|line| {
            ["format", "stages", "database", "cache", "branch"].iter().any(|key| line.starts_with(key))
        })
        .collect();
    assert_eq!(
        lines,
        [
            "format = 1 # default",
            "stages.build = \"make\" # receiver.toml:2",
            "database.engine = \"sqlite\" # receiver.toml:4",
            "database.carry = \"empty\" # /srv/app/receiver.toml:3",
            "database.hold = \"lock\" # default",
            "database.max_pause = \"4s\" # default",
            "database.copy_ahead = \"500ms\" # default",
            "database.rollback_window = \"24h\" # default",
            "database.on_conflict = \"abort\" # default",
            "cache.\".venv\" = [\"requirements.txt\"] # receiver.toml:6",
            "branch = \"release\" # /srv/app/receiver.toml:1",
        ]
    );
}

#[test]
fn files_that_are_no_text_or_too_large_are_refused() {
    let refused = |bytes: &[u8]| Settings::load(Some(bytes), None, SERVER).unwrap_err().to_string();
    assert!(refused(b"a = '\xff'").ends_with("receiver.toml: is not UTF-8 text, from byte 6 on"));
    let large = vec![b'#'; MOST_BYTES + 1];
    assert!(refused(&large).ends_with("receiver.toml: has 262145 bytes, at most 262144 are read"));
    assert!(Settings::load(Some(&large[1..]), None, SERVER).is_ok());
}

#[test]
fn hostile_nesting_is_an_error_and_no_overflow() {
    let dots = vec!["a"; 79].join(".");
    let both = format!("{}1{}", format!("{dots} = {{").repeat(78) + &dots + " = ", "}".repeat(78));
    let deep = [
        "[".repeat(MOST_BYTES),
        format!("a={}", "[".repeat(MOST_BYTES - 2)),
        format!("a={}", "{a=".repeat(MOST_BYTES / 3 - 2)),
        format!("a{}=1", ".a".repeat(MOST_BYTES / 2 - 2)),
        format!("[a{}]", ".a".repeat(MOST_BYTES / 2 - 2)),
        "[stages.build]\n".to_owned() + &both,
        format!("[web.static]\n{both}"),
        "a=1\n".repeat(MOST_BYTES / 4),
    ];
    // a stack as small as that of a thread
    let read = move || deep.iter().map(|text| complaints(text).len()).collect::<Vec<_>>();
    let found = std::thread::Builder::new().stack_size(1 << 20).spawn(read).unwrap().join().unwrap();
    assert!(found.iter().all(|count| (1..=21).contains(count)), "{found:?}");
}

#[test]
fn a_flood_of_keys_is_read_in_time() {
    let mut flood = String::new();
    for number in 0..10_000 {
        writeln!(flood, "'a{number}' = 1").unwrap();
    }
    assert_eq!(complaints(&flood).len(), 21);
}

#[test]
fn hostile_patterns_end_as_settings_or_as_an_error() {
    for pattern in
        ["{a,b}".repeat(51), "*?".repeat(128), "**/".repeat(85), "[!a]".repeat(64), "{".repeat(256)]
    {
        let patterns = vec![format!("'{pattern}'"); 64].join(",");
        let _ = load(&format!("schema.paths = [{patterns}]"), "");
        assert_eq!(complaints(&format!("schema.paths = [{patterns}, 'x']")).len(), 1);
    }
}

proptest! {
    #[test]
    fn no_bytes_at_all_panic(repo in prop::collection::vec(any::<u8>(), 0..400), server in ".{0,200}") {
        let _ = Settings::load(Some(&repo), Some(server.as_bytes()), SERVER);
    }

    #[test]
    fn nothing_that_looks_like_settings_panics(lines in prop::collection::vec(
        "(\\[|)(format|stages|stages\\.build|web|web\\.static|process\\.a|cache|shared\\.files|branches\\.\"x/\\*\"|schema\\.paths)(\\]|) ?= ?('[ -~]{0,8}'|[0-9]{1,20}|\\[('[*{}/a\\[]{0,9}',?){0,3}\\]|\\{run='x'\\}|true)", 0..8)) {
        let text = lines.join("\n");
        let _ = load(&text, &text);
    }
}

#[test]
fn a_hold_that_disconnects_is_postgresqls_alone() {
    let text = |engine: &str| format!("[database]\nengine = '{engine}'\nhold = 'disconnect'\n");
    assert_eq!(load(&text("postgres"), "").unwrap().database.hold, HoldBy::Disconnect);
    for engine in ["sqlite", "mysql"] {
        let said = complaints(&text(engine));
        assert!(
            said.iter().any(|line| line.contains("'database.hold': is for engine = \"postgres\"")),
            "{said:?}"
        );
    }
    // The server's file alone need not say which engine it is.
    assert_eq!(load("", "[database]\nhold = 'disconnect'\n").unwrap().database.hold, HoldBy::Disconnect);
}
