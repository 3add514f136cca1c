//! Which files a framework keeps its schema in: a table, and how it is read.
//!
//! A framework lives where its marker is: at the top of the tree or one directory down
//! (`backend/manage.py`). A tree may hold several; their files are put together, since each of them
//! can change the schema. Trees that are laid out otherwise say `[schema] paths`.

use std::collections::BTreeSet;

use super::{Detector, TreeFile};
use crate::support::Result;
use crate::support::threads::share_out;

#[cfg(test)]
mod tests;

/// What was found in a tree.
pub(super) struct Found<'a> {
    pub(super) detector: Detector,
    pub(super) files: Vec<TreeFile<'a>>,
    pub(super) lockfiles: Vec<TreeFile<'a>>,
}

struct Framework {
    detector: Detector,
    /// The file that shows that the framework is there.
    marker: fn(Place) -> bool,
    /// Whether the marker is enough; else there must also be a file of the schema.
    bare: bool,
    /// Whether its schema lies anywhere in the tree, and not only beside its marker.
    everywhere: bool,
    /// The files that hold the schema.
    keeps: fn(Place, &Landmarks) -> bool,
    /// The lockfiles of dependencies, where those may bring migrations that run unasked.
    locks: fn(Place) -> bool,
}

/// In the order of [`Detector`]: the first that matches is the main one.
static FRAMEWORKS: &[Framework] = &[
    Framework {
        detector: Detector::Django,
        marker: |place| place.is("manage.py"),
        bare: true,
        everywhere: true,
        keeps: |place, tree| is_django_migration(place) || is_unmigrated_model(place, tree),
        locks: is_python_lock,
    },
    Framework {
        detector: Detector::Rails,
        marker: |place| place.is("bin/rails"),
        bare: true,
        everywhere: false,
        // Several databases have db/NAME_schema.rb and db/NAME_migrate; an engine in the tree has its own db.
        keeps: |place, _| {
            let dump = place.dir() == b"db" && (place.ends("schema.rb") || place.ends("structure.sql"));
            dump || place.within("db/migrate") || (place.under("db") && place.dir().ends_with(b"_migrate"))
        },
        locks: |place| place.is("Gemfile.lock") || place.is("gems.locked"),
    },
    Framework {
        detector: Detector::Laravel,
        marker: |place| place.is("artisan"),
        bare: true,
        everywhere: false,
        // Modules and packages in the tree have migrations too, some with capital letters.
        keeps: |place, _| {
            place.within("database/migrations")
                || place.within("Database/Migrations")
                || place.under("database/schema")
        },
        locks: |place| place.is("composer.lock"),
    },
    Framework {
        detector: Detector::Alembic,
        marker: |place| place.is("alembic.ini") || place.name() == b"script.py.mako",
        bare: false,
        everywhere: true,
        // Where the scripts lie is said in alembic.ini, which is not read: they lie beside env.py.
        keeps: |place, tree| {
            let environment = place.before("versions").is_some_and(|dir| tree.environments.contains(dir));
            environment && (place.ends(".py") || place.ends(".sql"))
        },
        locks: |_| false,
    },
    Framework {
        detector: Detector::Prisma,
        marker: |place| place.is("schema.prisma") || (place.under("prisma") && place.ends(".prisma")),
        bare: true,
        everywhere: false,
        keeps: |place, _| place.ends(".prisma") || place.within("prisma/migrations"),
        locks: |_| false,
    },
    Framework {
        detector: Detector::Ecto,
        marker: |place| place.is("mix.exs"),
        bare: false,
        everywhere: false,
        // Every repository has its directory in priv, and every app of an umbrella its priv.
        keeps: |place, _| {
            place.before("priv").is_some() && (place.within("migrations") || place.ends("structure.sql"))
        },
        locks: |_| false,
    },
    Framework {
        detector: Detector::Diesel,
        marker: |place| place.is("diesel.toml"),
        bare: false,
        everywhere: false,
        keeps: |place, _| place.within("migrations"),
        locks: |_| false,
    },
    Framework {
        detector: Detector::Refinery,
        marker: |place| place.is("Cargo.toml"),
        bare: false,
        everywhere: false,
        keeps: |place, _| place.within("migrations") && is_versioned(place.name()),
        locks: |_| false,
    },
    Framework {
        detector: Detector::Sqlx,
        marker: |place| place.is("Cargo.toml"),
        bare: false,
        everywhere: false,
        keeps: |place, _| place.under("migrations") || (place.within("migrations") && place.ends(".sql")),
        locks: |_| false,
    },
    Framework {
        detector: Detector::Flyway,
        marker: |place| is_versioned(place.name()) && place.within("db/migration"),
        bare: true,
        everywhere: true,
        keeps: |place, _| place.within("db/migration"),
        locks: |_| false,
    },
    Framework {
        detector: Detector::Flyway,
        marker: |place| place.is("flyway.conf") || place.is("flyway.toml"),
        bare: false,
        everywhere: false,
        keeps: |place, _| is_sql(place.0),
        locks: |_| false,
    },
];

/// SQL without a framework: looked for where none of the others is. It shows near the top of the tree,
/// or by the names of its directories; an example deep in a static site is none.
static SQL: Framework = Framework {
    detector: Detector::Sql,
    marker: |place| {
        let known = ["db", "sql", "database", "migrations", "schema"];
        let top = place.dir().is_empty();
        is_sql(place.0) && (top || place.name() == b"schema.sql" || known.iter().any(|dir| place.within(dir)))
    },
    bare: false,
    everywhere: true,
    // Once there is some, any may be part of it: one file includes another.
    keeps: |place, _| is_sql(place.0) && !place.is_test(),
    locks: |_| false,
};

/// Directories that hold what others wrote, installed: not the app's migrations.
const VENDORED: [&[u8]; 5] = [b".venv", b"venv", b"site-packages", b"node_modules", b".tox"];

/// So many files, one after the other, a thread looks at.
const NEIGHBOURS: usize = 4096;

/// Finds the schema of a tree.
pub(super) fn find<'a>(tree: &[TreeFile<'a>]) -> Result<Found<'a>> {
    let chunks: Vec<_> = tree.chunks(NEIGHBOURS).collect();
    let mut sight = Sight::of(&[]);
    for more in share_out(&chunks, || |chunk: &&[TreeFile<'a>]| Ok(Sight::of(chunk)))? {
        sight.add(more);
    }
    let Sight { own, homes, landmarks } = &sight;
    let mut found = Found { detector: Detector::None, files: vec![], lockfiles: vec![] };
    for (framework, homes) in FRAMEWORKS.iter().zip(homes) {
        framework.add_to(&mut found, homes, own, landmarks);
    }
    if found.detector == Detector::None {
        let homes = own.iter().flat_map(|file| SQL.homes(file.path)).collect();
        SQL.add_to(&mut found, &homes, own, landmarks);
    }
    if found.detector == Detector::Django && landmarks.migrated.is_empty() {
        found.detector = Detector::DjangoModels;
    }
    Ok(found)
}

/// What one look at each file shows: a tree has many more paths than a processor has at hand.
struct Sight<'a> {
    /// The files that are not vendored.
    own: Vec<TreeFile<'a>>,
    /// The homes of each framework.
    homes: Vec<BTreeSet<&'a [u8]>>,
    landmarks: Landmarks<'a>,
}

impl<'a> Sight<'a> {
    fn of(tree: &[TreeFile<'a>]) -> Self {
        let own: Vec<TreeFile<'a>> = tree.iter().copied().filter(|file| !is_vendored(file.path)).collect();
        let mut homes = vec![BTreeSet::new(); FRAMEWORKS.len()];
        for file in &own {
            for (framework, homes) in FRAMEWORKS.iter().zip(&mut homes) {
                homes.extend(framework.homes(file.path));
            }
        }
        Sight { landmarks: Landmarks::of(&own), own, homes }
    }

    fn add(&mut self, mut more: Self) {
        self.own.append(&mut more.own);
        self.homes.iter_mut().zip(more.homes).for_each(|(homes, more)| homes.extend(more));
        self.landmarks.migrated.append(&mut more.landmarks.migrated);
        self.landmarks.environments.append(&mut more.landmarks.environments);
    }
}

/// Whether a file is SQL, by its name.
pub(super) fn is_sql(path: &[u8]) -> bool {
    path.len() > 4 && path[path.len() - 4..].eq_ignore_ascii_case(b".sql")
}

impl Framework {
    fn add_to<'a>(
        &self,
        found: &mut Found<'a>,
        homes: &BTreeSet<&[u8]>,
        tree: &[TreeFile<'a>],
        landmarks: &Landmarks,
    ) {
        if homes.is_empty() {
            return;
        }
        let beside = |file: &TreeFile<'a>, says: &dyn Fn(Place) -> bool| {
            homes.iter().any(|home| file.path.strip_prefix(*home).is_some_and(|path| says(Place(path))))
        };
        let keeps = |place: Place| (self.keeps)(place, landmarks);
        let kept = |file: &&TreeFile<'a>| {
            if self.everywhere { keeps(Place(file.path)) } else { beside(file, &keeps) }
        };
        let files: Vec<TreeFile<'a>> = tree.iter().filter(kept).copied().collect();
        if files.is_empty() && !self.bare {
            return;
        }
        if found.detector == Detector::None {
            found.detector = self.detector;
        }
        found.files.extend(files);
        let locks = |file: &&TreeFile<'a>| (self.locks)(Place(file.path)) || beside(file, &self.locks);
        found.lockfiles.extend(tree.iter().filter(locks));
    }

    /// The directories, with their slash, that a file marks as the framework's home.
    fn homes<'a>(&self, path: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let (top, rest) = path.split_at(path.iter().position(|&byte| byte == b'/').map_or(0, |at| at + 1));
        let at_top = (self.marker)(Place(path)).then_some(&path[..0]);
        let one_down = (!top.is_empty() && (self.marker)(Place(rest))).then_some(top);
        at_top.into_iter().chain(one_down)
    }
}

/// What has to be known of the whole tree to judge one file.
struct Landmarks<'a> {
    /// The directories of Django apps that have migrations.
    migrated: BTreeSet<&'a [u8]>,
    /// The directories that have an `env.py`: Alembic's environments.
    environments: BTreeSet<&'a [u8]>,
}

impl<'a> Landmarks<'a> {
    fn of(tree: &[TreeFile<'a>]) -> Self {
        let places = || tree.iter().map(|file| Place(file.path));
        let migrations = places().filter(|&place| is_django_migration(place) && place.ends(".py"));
        let environments = places().filter(|place| place.name() == b"env.py");
        Landmarks {
            migrated: migrations.filter_map(|place| place.before("migrations")).collect(),
            environments: environments.map(Place::dir).collect(),
        }
    }
}

/// A path, seen from where its framework lives.
#[derive(Clone, Copy)]
struct Place<'a>(&'a [u8]);

impl<'a> Place<'a> {
    fn is(self, path: &str) -> bool {
        self.0 == path.as_bytes()
    }

    fn ends(self, end: &str) -> bool {
        self.0.ends_with(end.as_bytes())
    }

    fn name(self) -> &'a [u8] {
        self.0.rsplit(|&byte| byte == b'/').next().unwrap_or(self.0)
    }

    /// The directory that the file is in: empty at the top.
    fn dir(self) -> &'a [u8] {
        &self.0[..self.0.iter().rposition(|&byte| byte == b'/').unwrap_or(0)]
    }

    /// Whether the file is anywhere below this directory of the top.
    fn under(self, dir: &str) -> bool {
        self.0.strip_prefix(dir.as_bytes()).is_some_and(|rest| rest.starts_with(b"/"))
    }

    /// Whether a directory (or a path of several) of this name is anywhere on the way to the file.
    fn within(self, dir: &str) -> bool {
        self.before(dir).is_some()
    }

    /// What is above the first directory of this name on the way to the file.
    fn before(self, dir: &str) -> Option<&'a [u8]> {
        let mut start = 0;
        loop {
            if Place(&self.0[start..]).under(dir) {
                return Some(&self.0[..start.saturating_sub(1)]);
            }
            start += self.0[start..].iter().position(|&byte| byte == b'/')? + 1;
        }
    }

    fn is_test(self) -> bool {
        self.within("tests") || self.within("test")
    }
}

fn is_vendored(path: &[u8]) -> bool {
    path.split(|&byte| byte == b'/').any(|part| VENDORED.contains(&part))
}

/// Django runs what lies in `migrations`; that may import from below it, and read SQL there. An app may
/// be called `tests` and have migrations: only tests of the migrations themselves do not count.
fn is_django_migration(place: Place) -> bool {
    let runs = place.ends(".py") || is_sql(place.0);
    let below = |above: &[u8]| Place(&place.0[above.len()..]);
    runs && place.before("migrations").is_some_and(|above| !below(above).is_test())
}

/// Models of an app without migrations: `migrate --run-syncdb` makes their tables.
fn is_unmigrated_model(place: Place, tree: &Landmarks) -> bool {
    if !place.ends(".py") {
        return false;
    }
    let app = if place.name() == b"models.py" { Some(place.dir()) } else { place.before("models") };
    app.is_some_and(|app| !tree.migrated.contains(app)) && !place.is_test()
}

/// What pins the dependencies of a Python app, or names them.
fn is_python_lock(place: Place) -> bool {
    let known =
        ["Pipfile.lock", "poetry.lock", "uv.lock", "pdm.lock", "setup.py", "setup.cfg", "pyproject.toml"];
    let requirements = place.ends(".txt") && (place.0.starts_with(b"requirements"));
    known.iter().any(|lock| place.is(lock))
        || (requirements && (place.dir().is_empty() || place.dir() == b"requirements"))
}

/// `V1__name.sql` and its kin (`U` undoes, `R` is run again whenever it changes).
fn is_versioned(name: &[u8]) -> bool {
    let Some((b'V' | b'U' | b'R' | b'B', rest)) = name.split_first() else { return false };
    rest.windows(2).any(|pair| pair == b"__")
}
