//! `receiver demo`: the whole story in a temporary directory, told by the real programs.
//!
//! It runs this binary, real hooks and real `git push`, and prints what they print. It needs git and
//! sh, and nothing else.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;

use super::{Global, talk};

use crate::support::{Context, Error, Result, files, program};

/// Arguments of `demo`.
#[derive(Args)]
pub struct Demo {
    /// Leave the directory, to go on playing
    #[arg(long)]
    keep: bool,
}

const SETTINGS: &str = "\
[stages]
syncdb    = { sql = [\"schema.sql\"] }        # makes the schema of a version that opens
migration = { sql = [\"from-previous.sql\"] } # brings the data of the version before

[database]
engine = \"sqlite\"
carry  = \"empty\"
";

/// The stage on which the story plays.
struct Stage {
    place: PathBuf,
    laptop: PathBuf,
    root: PathBuf,
}

impl Demo {
    /// Tells the story.
    pub fn run(self, global: &Global) -> Result<u8> {
        let place = std::env::temp_dir().join(format!("receiver-demo-{}", std::process::id()));
        files::remove_tree(&place)?;
        let stage = Stage { laptop: place.join("laptop"), root: place.join("srv"), place };
        files::make_directory(&stage.laptop, 0o755)?;
        let told = stage.tell();
        if self.keep {
            talk::say(global, &format!("\nkept: {}. To go on playing:", stage.place.display()));
            talk::say(global, &format!("  export RECEIVER_ROOT={}", stage.root.display()));
            talk::say(
                global,
                &format!(
                    "  cd {}; edit index.html; git commit -am 'my change'; git push production main",
                    stage.laptop.display()
                ),
            );
            talk::say(global, "  receiver list; receiver rollback; receiver doctor");
        } else {
            files::remove_tree(&stage.place)?;
        }
        told.map(|()| 0)
    }
}

impl Stage {
    fn tell(&self) -> Result<()> {
        self.title("An app on the server, and a repository on the laptop");
        self.receiver(&["create", "notes"])?;
        self.hush(&["init", "--quiet", "--initial-branch=main"])?;
        self.hush(&["config", "user.name", "Ada"])?;
        self.hush(&["config", "user.email", "ada@example.org"])?;
        self.hush(&["remote", "add", "production", &self.root.join("notes/repo.git").display().to_string()])?;
        self.write("receiver.toml", SETTINGS)?;
        self.write("index.html", "<h1>Notes</h1>\n")?;
        self.write("schema.sql", "CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL);\n")?;
        self.write("from-previous.sql", "INSERT INTO note (id, text) SELECT id, text FROM previous.note;\n")?;

        self.title("The first push: version 0, with a database of its own");
        self.push("Notes", true)?;
        self.note("what a visitor writes:");
        self.sql("INSERT INTO note (text) VALUES ('bread'), ('milk');")?;

        self.title("A change of a page: the same schema, so it joins version 0 and its database");
        self.write("index.html", "<h1>My notes</h1>\n")?;
        self.push("A friendlier title", true)?;

        self.title("A change of the schema: version 1 opens, with the data carried over");
        self.write("schema.sql", "CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL, done INTEGER NOT NULL DEFAULT 0);\n")?;
        self.push("A note can be done", true)?;
        self.sql("SELECT * FROM note;")?;

        self.title("A migration that fails changes nothing");
        self.write(
            "schema.sql",
            "CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL, owner TEXT NOT NULL);\n",
        )?;
        self.push("A note has an owner", false)?;
        self.receiver(&["list"])?;

        self.title("And back: code and database, with what was written since");
        self.sql("INSERT INTO note (text, done) VALUES ('eggs', 1);")?;
        self.receiver(&["rollback", "--dry-run"])?;
        self.receiver(&["rollback"])?;
        self.sql("SELECT * FROM note;")?;
        self.receiver(&["list"])?;

        self.title("What is on disk now");
        self.shell("find srv/notes -maxdepth 3 \\( -path '*/repo.git/*' -o -path '*/receiver/*' \\) -prune -o -print | sort")?;
        self.shell("readlink srv/notes/current; cat srv/notes/current/index.html")
    }

    fn title(&self, text: &str) {
        let _ = self;
        println_lossy(&format!("\n# {text}\n"));
    }

    fn note(&self, text: &str) {
        let _ = self;
        println_lossy(&format!("({text})"));
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        files::write_atomic(&self.laptop.join(name), text.as_bytes(), 0o644)
    }

    fn push(&self, message: &str, goes_live: bool) -> Result<()> {
        self.hush(&["add", "--all"])?;
        self.hush(&["commit", "--quiet", "--message", message])?;
        self.show(&self.laptop, OsStr::new("git"), "git", &["push", "--quiet", "production", "main"])?;
        let live = self.receiver_says(&["status", "notes", "--json"])?.contains("\"in_sync\":true");
        if live == goes_live { Ok(()) } else { Err(Error::new("the demo did not go as it should")) }
    }

    fn sql(&self, statement: &str) -> Result<()> {
        println_lossy(&format!("$ echo \"{statement}\" | receiver db notes shell"));
        let mut child = self.command(OsStr::new(&program::program()?), &self.place);
        let mut child = child
            .args(["db", "notes", "shell"])
            .stdin(Stdio::piped())
            .spawn()
            .context(|| "cannot run receiver")?;
        if let Some(mut input) = child.stdin.take() {
            std::io::Write::write_all(&mut input, statement.as_bytes())
                .context(|| "cannot speak to receiver")?;
        }
        let status = child.wait().context(|| "cannot run receiver")?;
        if status.success() { Ok(()) } else { Err(Error::new("the demo did not go as it should")) }
    }

    fn receiver(&self, arguments: &[&str]) -> Result<()> {
        let program = program::program()?;
        if self.show(&self.place, program.as_os_str(), "receiver", arguments)? {
            return Ok(());
        }
        Err(Error::new("the demo did not go as it should"))
    }

    fn receiver_says(&self, arguments: &[&str]) -> Result<String> {
        let program = program::program()?;
        let output =
            self.command(program.as_os_str(), &self.place).args(arguments).stderr(Stdio::null()).output();
        Ok(String::from_utf8_lossy(&output.context(|| "cannot run receiver")?.stdout).into_owned())
    }

    fn shell(&self, line: &str) -> Result<()> {
        println_lossy(&format!("$ {line}"));
        let status = self
            .command(OsStr::new("sh"), &self.place)
            .args(["-c", line])
            .status()
            .context(|| "cannot run sh")?;
        if status.success() { Ok(()) } else { Err(Error::new("the demo did not go as it should")) }
    }

    /// Prints a command and what it prints; answers whether it succeeded.
    fn show(&self, place: &Path, program: &OsStr, name: &str, arguments: &[&str]) -> Result<bool> {
        println_lossy(&format!("$ {name} {}", arguments.join(" ")));
        let status = self.command(program, place).args(arguments).status();
        Ok(status.context(|| format!("cannot run {name}"))?.success())
    }

    fn hush(&self, arguments: &[&str]) -> Result<()> {
        let output = self.command(OsStr::new("git"), &self.laptop).args(arguments).output();
        let output = output.context(|| "cannot run git: is it installed?")?;
        if output.status.success() {
            return Ok(());
        }
        Err(Error::new(format!(
            "`git {}` failed: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        )))
    }

    /// The user's own git settings (signing, templates, hooks) play no part in the story.
    fn command(&self, program: &OsStr, place: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(place).env("RECEIVER_ROOT", &self.root);
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
        command
    }
}

/// A reader that is gone (`| head`) is no error.
fn println_lossy(line: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stdout(), format!("{line}\n").as_bytes());
}
