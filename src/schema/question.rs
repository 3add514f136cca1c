//! How a framework is asked whether something is pending.
//!
//! The question is put the way `syncdb` calls the framework: the same interpreter, directory and
//! options, with the asking command in the place of the migrating one. Where that cannot be read off,
//! it is the framework's usual command; if that is not there, or does not understand it, nobody knows.

use super::{Detector, Said};

/// A command for the built release, run on the live database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// For `/bin/sh -c`.
    pub command: String,
    /// How it answers.
    pub answer: Answer,
}

/// How the answer to a [`Question`] is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Exit status 0: nothing is pending. Any other, or none in time: a version opens.
    Status,
    /// What it prints is the schema: another output, or a failure, opens a version.
    Output,
}

/// What a framework says of what is pending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pending {
    /// That nothing is.
    Nothing,
    /// That something is: the end of what it printed.
    Something(String),
    /// It was not understood, or is not there: the end of what was printed then.
    Unknown(String),
}

impl Pending {
    /// What a status says, of an [`Answer::Status`], and the end of what was printed.
    ///
    /// 126 and 127 are the shell's, for what is not there. 2 is said by argparse (of Django, of Alembic) and by click (of
    /// Flask) of options that they do not know, as releases of before the question do; no oracle says it of migrations.
    pub fn of(status: Option<i32>, end: String) -> Pending {
        match status {
            Some(0) => Pending::Nothing,
            Some(2 | 126 | 127) => Pending::Unknown(end),
            _ => Pending::Something(end),
        }
    }
}

/// A framework's own word on what is pending.
struct Oracle {
    detectors: &'static [Detector],
    /// The programs that run its commands.
    tools: &'static [&'static str],
    /// The words for "bring the schema up".
    verbs: &'static [&'static str],
    /// What is said instead.
    asks: &'static str,
    /// Which of the words after the verb are kept.
    keeps: fn(&str) -> bool,
    /// What is said after them.
    then: &'static str,
    usual: &'static str,
    /// Programs that bring the schema up by other words, and cannot be asked: nor can the usual command, beside them.
    mute: &'static [&'static str],
}

/// Those whose exit status is a sound answer (or, in releases that are too old for it, a failure).
/// Ecto, sqlx and Diesel only print.
static ORACLES: &[Oracle] = &[
    Oracle {
        detectors: &[Detector::Django, Detector::DjangoModels],
        tools: &["manage.py", "django-admin"],
        verbs: &["migrate"],
        asks: "migrate",
        keeps: |_| true,
        then: " --check",
        usual: ".venv/bin/python manage.py migrate --check",
        mute: &[],
    },
    Oracle {
        detectors: &[Detector::Rails],
        tools: &["rails", "rake"],
        verbs: &["db:migrate", "db:prepare", "db:schema:load", "db:setup"],
        asks: "db:abort_if_pending_migrations",
        keeps: is_assignment,
        then: "",
        usual: "bin/rails db:abort_if_pending_migrations",
        mute: &[],
    },
    Oracle {
        detectors: &[Detector::Laravel],
        tools: &["artisan"],
        verbs: &["migrate"],
        asks: "migrate:status --pending=1",
        keeps: is_assignment,
        then: "",
        usual: "php artisan migrate:status --pending=1",
        mute: &[],
    },
    Oracle {
        detectors: &[Detector::Alembic],
        tools: &["alembic"],
        verbs: &["upgrade"],
        asks: "current --check-heads",
        keeps: is_assignment,
        then: "",
        usual: ".venv/bin/alembic current --check-heads",
        // Flask-Migrate keeps its configuration elsewhere.
        mute: &["flask"],
    },
    Oracle {
        detectors: &[Detector::Prisma],
        tools: &["prisma"],
        verbs: &["migrate"],
        asks: "migrate status",
        keeps: is_assignment,
        then: "",
        usual: "npx prisma migrate status",
        mute: &[],
    },
    Oracle {
        detectors: &[Detector::Flyway],
        tools: &["flyway"],
        verbs: &["migrate"],
        asks: "validate",
        keeps: is_assignment,
        then: "",
        usual: "flyway validate",
        mute: &[],
    },
];

/// How to ask whether something is pending, if there is anybody to ask: without a `syncdb` command
/// there is not.
pub fn question(detector: Detector, said: &Said) -> Option<Question> {
    if let (Detector::Command, Some(command)) = (detector, said.command) {
        return Some(Question { command: command.to_owned(), answer: Answer::Output });
    }
    let syncdb = said.syncdb?;
    let own = ORACLES.iter().find(|oracle| oracle.detectors.contains(&detector));
    // Where the settings say the paths, the framework is the one that syncdb calls.
    let called = || ORACLES.iter().find(|oracle| oracle.is_called_in(syncdb));
    let oracle = own.or_else(|| if detector == Detector::Paths { called() } else { None })?;
    if oracle.mute.iter().any(|program| names(syncdb).any(|name| name == *program)) {
        return None;
    }
    let command = oracle.as_called_in(syncdb).unwrap_or_else(|| oracle.usual.to_owned());
    Some(Question { command, answer: Answer::Status })
}

/// The words of a command, each without the directory that it lies in.
fn names(command: &str) -> impl Iterator<Item = &str> {
    command.split_whitespace().filter_map(|word| word.rsplit('/').next())
}

fn is_assignment(word: &str) -> bool {
    word.contains('=')
}

impl Oracle {
    /// Where the words of a command bring the schema up.
    fn verb(&self, words: &[&str]) -> Option<usize> {
        let name = |word: &str| word.rsplit('/').next().is_some_and(|name| self.tools.contains(&name));
        let tool = words.iter().position(|word| name(word))?;
        let verb = words[tool..].iter().position(|word| self.verbs.contains(word))?;
        Some(tool + verb)
    }

    fn is_called_in(&self, syncdb: &str) -> bool {
        self.verb(&syncdb.split_whitespace().collect::<Vec<_>>()).is_some()
    }

    /// The question in the words of `syncdb`: of `cd backend && ./manage.py migrate && ./seed` it is
    /// `cd backend && ./manage.py migrate --check`. Nothing for what needs a shell to be understood.
    fn as_called_in(&self, syncdb: &str) -> Option<String> {
        let prepares = ["cd", "export", "source", ".", "set"];
        let mut said = Vec::new();
        for part in syncdb.split("&&") {
            if part.contains(|sign| ";|&<>()`'\"\\\n#".contains(sign)) {
                return None;
            }
            let words: Vec<&str> = part.split_whitespace().collect();
            if let Some(verb) = self.verb(&words) {
                let mut asks = words[..verb].to_vec();
                asks.push(self.asks);
                asks.extend(words[verb + 1..].iter().filter(|word| (self.keeps)(word)));
                said.push(asks.join(" ") + self.then);
                return Some(said.join(" && "));
            }
            if words.first().is_some_and(|first| prepares.contains(first)) {
                said.push(words.join(" "));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(detector: Detector, syncdb: &str) -> Option<String> {
        let said = Said { syncdb: Some(syncdb), ..Said::default() };
        question(detector, &said).map(|question| question.command)
    }

    #[test]
    fn the_question_is_put_the_way_syncdb_calls_the_framework() {
        use Detector::{Alembic, Django, DjangoModels, Flyway, Laravel, Paths, Prisma, Rails};
        for (detector, syncdb, expected) in [
            (
                Django,
                ".venv/bin/python manage.py migrate --noinput",
                ".venv/bin/python manage.py migrate --noinput --check",
            ),
            (DjangoModels, "./manage.py migrate --run-syncdb", "./manage.py migrate --run-syncdb --check"),
            (
                Django,
                "uv run manage.py migrate --settings a.b",
                "uv run manage.py migrate --settings a.b --check",
            ),
            (
                Django,
                ". .venv/bin/activate && cd backend && ./manage.py flush && ./manage.py migrate && ./seed",
                ". .venv/bin/activate && cd backend && ./manage.py migrate --check",
            ),
            (Django, "make tables", ".venv/bin/python manage.py migrate --check"),
            (Django, "sh -c 'python manage.py migrate'", ".venv/bin/python manage.py migrate --check"),
            (Django, "./manage.py migrate > log", ".venv/bin/python manage.py migrate --check"),
            (
                Rails,
                "RAILS_ENV=production bin/rails db:migrate db:seed",
                "RAILS_ENV=production bin/rails db:abort_if_pending_migrations",
            ),
            (
                Laravel,
                "php artisan migrate --force --database=a",
                "php artisan migrate:status --pending=1 --database=a",
            ),
            (
                Alembic,
                ".venv/bin/alembic -c x.ini upgrade head",
                ".venv/bin/alembic -c x.ini current --check-heads",
            ),
            (Prisma, "npx prisma migrate deploy", "npx prisma migrate status"),
            (Flyway, "flyway -configFiles=a migrate", "flyway -configFiles=a validate"),
            (Paths, "php artisan migrate --force", "php artisan migrate:status --pending=1"),
        ] {
            assert_eq!(asked(detector, syncdb).as_deref(), Some(expected), "{syncdb}");
        }
    }

    #[test]
    fn without_a_sound_answer_nobody_is_asked() {
        assert_eq!(question(Detector::Django, &Said::default()), None);
        assert_eq!(asked(Detector::Ecto, "mix ecto.migrate"), None);
        assert_eq!(asked(Detector::Paths, "make tables"), None);
        assert_eq!(asked(Detector::None, "./manage.py migrate"), None);
        assert_eq!(asked(Detector::Alembic, ".venv/bin/flask --app shop db upgrade"), None);
    }

    #[test]
    fn who_does_not_understand_the_question_has_not_answered_it() {
        let said = |status| Pending::of(status, "end".to_owned());
        assert_eq!(said(Some(0)), Pending::Nothing);
        for status in [2, 126, 127] {
            assert_eq!(said(Some(status)), Pending::Unknown("end".to_owned()));
        }
        for status in [Some(1), Some(255), None] {
            assert_eq!(said(status), Pending::Something("end".to_owned()));
        }
    }

    #[test]
    fn the_command_of_the_settings_is_asked_without_a_syncdb_too() {
        let said = Said { command: Some("bin/schema --print"), ..Said::default() };
        let question = question(Detector::Command, &said).unwrap();
        assert_eq!((question.command.as_str(), question.answer), ("bin/schema --print", Answer::Output));
    }
}
