//! What a world's laptop pushes with: the same verbs on git and on Mercurial.
//!
//! A test says `commit` and `push`, and says them once: [`on_mercurial`] runs it in a world whose laptop has a
//! Mercurial repository, on the named branch `main`, so that what receiver says is the same, letter by letter.

use std::cell::Cell;
use std::process::Command;

use crate::world::{Said, World};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    Git,
    Mercurial,
}

thread_local! {
    static SYSTEM: Cell<System> = const { Cell::new(System::Git) };
}

impl System {
    /// That of the worlds that are made now, in this thread.
    pub fn now() -> System {
        SYSTEM.get()
    }

    pub fn program(self) -> &'static str {
        match self {
            System::Git => "git",
            System::Mercurial => "hg",
        }
    }

    pub fn repository(self) -> &'static str {
        match self {
            System::Git => "repo.git",
            System::Mercurial => "repo.hg",
        }
    }
}

/// Runs a test in worlds of Mercurial's.
pub fn on_mercurial(test: impl FnOnce()) {
    on(System::Mercurial, test);
}

/// Runs something in worlds of a system; a thread of its own does not know which ours are of.
pub fn on(system: System, test: impl FnOnce()) {
    struct Back(System);
    impl Drop for Back {
        fn drop(&mut self) {
            SYSTEM.set(self.0);
        }
    }
    let _back = Back(SYSTEM.replace(system));
    test();
}

/// Nothing of the machine's configuration.
pub fn environment(command: &mut Command) {
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    for (who, name) in [("AUTHOR", "Ada"), ("COMMITTER", "Ada")] {
        command.env(format!("GIT_{who}_NAME"), name).env(format!("GIT_{who}_EMAIL"), "ada@example.org");
    }
    command.env("HGRCPATH", "").env("HGUSER", "Ada <ada@example.org>");
}

impl World {
    /// `git …` or `hg …` on the laptop, whichever the world has.
    pub fn vcs(&self, arguments: &[&str]) -> Said {
        self.run(self.system.program(), &self.laptop(), arguments)
    }

    /// An empty repository on the laptop, on `main`.
    pub fn make_laptop(&self) {
        match self.system {
            System::Git => drop(self.vcs(&["init", "--quiet", "--initial-branch=main"]).ok()),
            System::Mercurial => {
                self.vcs(&["init"]).ok();
                self.vcs(&["branch", "--quiet", "main"]).ok();
            }
        }
    }

    /// `receiver create app`, for what the laptop has.
    pub fn create_app(&self) {
        let vcs = self.system.program();
        self.receiver(&["create", "app", "--vcs", vcs, "--branch", "main"]).ok();
    }

    /// The laptop's remote `production` becomes that of an app.
    pub fn remote(&self, app: &str) {
        self.remote_of(&self.root().join(app));
    }

    /// It becomes that of the app in a directory.
    pub fn remote_of(&self, app: &std::path::Path) {
        let url = app.join(self.system.repository()).display().to_string();
        match self.system {
            System::Git => {
                let _ = self.git(&["remote", "remove", "production"]);
                self.git(&["remote", "add", "production", &url]).ok();
            }
            System::Mercurial => {
                let hgrc = format!("[paths]\nproduction = {url}\n[ui]\nallowemptycommit = yes\n");
                std::fs::write(self.laptop().join(".hg/hgrc"), hgrc).unwrap();
            }
        }
    }

    /// The repository of the app called `app`.
    pub fn repository(&self) -> std::path::PathBuf {
        self.app().join(self.system.repository())
    }

    /// Commits everything; answers the full hash.
    pub fn commit(&self, message: &str) -> String {
        match self.system {
            System::Git => {
                self.git(&["add", "--all"]).ok();
                self.git(&["commit", "--quiet", "--allow-empty", "--message", message]).ok();
            }
            System::Mercurial => {
                self.vcs(&["addremove", "--quiet", "--similarity", "0"]).ok();
                self.vcs(&["--config", "ui.allowemptycommit=yes", "commit", "--message", message]).ok();
            }
        }
        self.head()
    }

    pub fn head(&self) -> String {
        let said = match self.system {
            System::Git => self.git(&["rev-parse", "HEAD"]),
            System::Mercurial => self.vcs(&["log", "--rev", ".", "--template", "{node}"]),
        };
        said.ok().stdout.trim().to_owned()
    }

    /// The words after `git` or `hg` of a push; `arguments` as git has them: options first, then what to push.
    fn push_words(&self, arguments: &[&str]) -> Vec<String> {
        let mut words = vec!["push".to_owned(), "--quiet".to_owned()];
        if self.system == System::Git {
            words.extend(arguments.iter().map(|one| (*one).to_owned()));
            if !arguments
                .iter()
                .any(|one| *one == "production" || one.contains("://") || one.starts_with('/'))
            {
                words.extend(["production", "main"].map(str::to_owned));
            }
            return words;
        }
        let mut remote = "production";
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match *argument {
                "-o" => {
                    let option = arguments.next().unwrap();
                    let (name, value) = option.split_once('=').unwrap_or((option, "1"));
                    let name = name.to_uppercase().replace('-', "_");
                    words.extend(["--pushvars".to_owned(), format!("RECEIVER_{name}={value}")]);
                }
                "production" => {}
                url if url.contains("://") => remote = url,
                option if option.starts_with('-') => words.push(option.to_owned()),
                branch => words.extend(["--new-branch".to_owned(), "--branch".to_owned(), branch.to_owned()]),
            }
        }
        if !words.iter().any(|word| word == "--branch") {
            words.extend(["--branch", "main"].map(str::to_owned));
        }
        words.push(remote.to_owned());
        words
    }

    /// `git push production main`, quiet but for the hooks.
    pub fn push(&self) -> Said {
        self.push_with(&[])
    }

    pub fn push_with(&self, arguments: &[&str]) -> Said {
        let words = self.push_words(arguments);
        let said = self.vcs(&words.iter().map(String::as_str).collect::<Vec<_>>());
        self.understood(said)
    }

    /// A push, ready to be started. Mercurial locks its repository while it pushes: there it is that of a clone,
    /// so that the laptop can go on working.
    pub fn push_command(&self, arguments: &[&str]) -> Command {
        let mut place = self.laptop();
        if self.system == System::Mercurial {
            let clone = tempfile::Builder::new().prefix("clone").tempdir_in(self.place()).unwrap().keep();
            std::fs::remove_dir(&clone).unwrap();
            let clone_path = clone.display().to_string();
            self.run("hg", self.place(), &["clone", "--quiet", "--noupdate", "laptop", &clone_path]).ok();
            std::fs::copy(self.laptop().join(".hg/hgrc"), clone.join(".hg/hgrc")).unwrap();
            place = clone;
        }
        let mut command = self.command(self.system.program(), &place);
        command.args(self.push_words(arguments));
        command
    }

    /// What a push said, as git would have: Mercurial's exit codes are its own, and it says more around it.
    pub fn understood(&self, mut said: Said) -> Said {
        if self.system == System::Git {
            return said;
        }
        said.code = match said.code {
            255 => 1,
            // There was nothing to push: that is what git calls success.
            1 => 0,
            code => code,
        };
        let around = [
            "transaction abort!",
            "rollback completed",
            "abort: pretxnclose.receiver hook",
            "warning: txnclose.receiver hook",
        ];
        let lines: Vec<&str> =
            said.stderr.lines().filter(|line| !around.iter().any(|begin| line.contains(begin))).collect();
        said.stderr = lines.iter().map(|line| format!("{line}\n")).collect();
        said
    }

    /// What pushes connect with.
    pub fn ssh_command(&mut self, ssh: &str) {
        match self.system {
            System::Git => drop(self.env.insert("GIT_SSH_COMMAND".into(), ssh.to_owned())),
            System::Mercurial => {
                let hgrc = self.laptop().join(".hg/hgrc");
                let text = std::fs::read_to_string(&hgrc).unwrap();
                std::fs::write(hgrc, text.replace("[ui]\n", &format!("[ui]\nssh = {ssh}\n"))).unwrap();
            }
        }
    }

    /// The branch `main` of the app moves, and no hook runs.
    pub fn arrive_without_a_hook(&self, hash: &str) {
        let (repository, laptop) = (self.repository(), self.laptop().display().to_string());
        let run = |arguments: &[&str]| drop(self.run(self.system.program(), &repository, arguments).ok());
        match self.system {
            System::Git => {
                run(&["fetch", "--quiet", &laptop, "main"]);
                run(&["update-ref", "refs/heads/main", hash]);
            }
            System::Mercurial => {
                let none = ["hooks.pretxnclose.receiver=", "hooks.txnclose.receiver="];
                run(&["pull", "--quiet", "--config", none[0], "--config", none[1], "--rev", hash, &laptop]);
            }
        }
    }
}
