//! From the database of one version to that of another which is there already: back at a rollback, and forward
//! again where a rollback left it.
//!
//! The order: both are prepared while nobody waits; then requests and writers are held, what changed is carried
//! along, the other one takes writes and its processes start; then the one that is left is fenced. Up to the
//! fence a failure lets the hold go, and the other one is fenced again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::databases;
use super::joblog::JobLog;
use crate::app::App;
use crate::app::record::DatabaseRecord;
use crate::app::settings::{self, TableMap};
use crate::data::way::{Capture, Carried, Expressions, OnConflict, Way, What};
use crate::data::{Database, Hold, Limit};
use crate::support::text::{grouped, plural};
use crate::support::{Result, clock};

/// The two databases, and how rows go from one into the other.
#[derive(Debug)]
pub struct Crossing {
    /// The one that is left.
    pub from: Box<dyn Database>,
    /// The one that takes writes afterwards.
    pub to: Box<dyn Database>,
    /// Why what changed cannot be carried along; `None` where it can.
    pub hindrance: Option<String>,
    way: Way,
}

/// What becomes of what was written since the two were the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fresh {
    /// It comes along.
    Carried(OnConflict),
    /// It stays where it is.
    LeftBehind,
}

/// The expressions of `[map.TABLE.up]` or `[map.TABLE.down]`.
pub fn expressions(map: &BTreeMap<String, TableMap>, which: fn(&TableMap) -> &Columns) -> Expressions {
    map.iter().map(|(table, map)| (table.clone(), which(map).clone())).collect()
}

type Columns = BTreeMap<String, String>;

/// What the settings say of conflicts, in the words of the room that carries.
pub fn on_conflict(said: settings::OnConflict) -> OnConflict {
    match said {
        settings::OnConflict::Abort => OnConflict::Abort,
        settings::OnConflict::Quarantine => OnConflict::Quarantine,
    }
}

impl Crossing {
    /// Looks at both, and changes nothing. `window` is how long what changed can be carried.
    pub fn of(
        app: &App,
        from: &DatabaseRecord,
        to: &DatabaseRecord,
        expressions: &Expressions,
        window: Duration,
    ) -> Result<Crossing> {
        let names = (&from.name, &to.name);
        let engines = (&from.engine, &to.engine);
        let (from, to) = (databases::of(app, from)?, databases::of(app, to)?);
        if engines.0 != engines.1 {
            let hindrance =
                Some(format!("{} is kept in {}, and {} in {}", names.0, engines.0, names.1, engines.1));
            return Ok(Crossing { from, to, hindrance, way: Way::default() });
        }
        let hindrance = hindrance(from.captured()?.as_ref(), names, window);
        let way = Way::plan(&from.tables()?, &to.tables()?, expressions);
        Ok(Crossing { from, to, hindrance, way })
    }

    /// What would come along and what would stay, counted, with nobody waiting.
    pub fn foresee(&self, limit: &Limit) -> Result<Carried> {
        self.from.foresee(self.to.spot(), &self.way, limit)
    }

    /// Carries what is to come along into the other one, and lets that take writes, which notes what changes
    /// from now on.
    pub fn open(&self, hold: &dyn Hold, fresh: Fresh, capture: bool, limit: &Limit) -> Result<Carried> {
        let carried = match fresh {
            Fresh::Carried(on_conflict) => hold.carry_to(self.to.spot(), &self.way, on_conflict, limit)?,
            Fresh::LeftBehind => Carried::default(),
        };
        if capture && fresh != Fresh::LeftBehind {
            self.to.capture(&self.from.spot().name, limit)?;
        } else {
            self.to.end_capture()?;
        }
        self.to.unfence()?;
        Ok(carried)
    }
}

/// Whether what was written to the live database has room in the one that a rollback left: not where a column of
/// that must not be null, and nothing gives it to new rows. A migration would; so a version opens, which has one.
pub fn fits(
    app: &App,
    from: &DatabaseRecord,
    to: &DatabaseRecord,
    settings: &settings::Database,
) -> Result<bool> {
    let (from, to) = (databases::of(app, from)?, databases::of(app, to)?);
    let up = expressions(&settings.map, |map| &map.up);
    let way = Way::plan(&from.tables()?, &to.tables()?, &up);
    let lacking = way.left.0.iter().filter(|stay| matches!(stay.what, What::Required(_)));
    let lacking: Vec<&str> = lacking.map(|stay| stay.table.as_str()).collect();
    if lacking.is_empty() {
        return Ok(true);
    }
    let changes = from.changes(&Limit::within(LOOKING))?;
    Ok(!lacking.iter().any(|table| changes.get(*table).is_some_and(|changes| changes.written > 0)))
}

/// How long a look at what changed may take.
const LOOKING: Duration = Duration::from_secs(60);

/// Why what changed in one database cannot be carried into the other.
pub fn hindrance(
    capture: Option<&Capture>,
    (from, to): (&String, &String),
    window: Duration,
) -> Option<String> {
    let Some(capture) = capture else { return Some(format!("it was not noted what changes in {from}")) };
    if capture.peer != *to {
        return Some(format!("what changes in {from} is noted for {}, not for {to}", capture.peer));
    }
    if is_over(capture, window) {
        let hours = text_of(window);
        return Some(format!("it is longer than {hours} (database.rollback_window) since {}", capture.since));
    }
    capture.gaps.first().map(|gap| format!("it is not certain that every change was noted: {gap}"))
}

/// Whether what a capture noted is too old to be carried.
pub fn is_over(capture: &Capture, window: Duration) -> bool {
    let since: Option<Timestamp> = capture.since.parse().ok();
    since.is_none_or(|since| clock::now().duration_since(since).unsigned_abs() > window)
}

fn text_of(window: Duration) -> String {
    let seconds = window.as_secs();
    if seconds.is_multiple_of(3600) { format!("{} h", seconds / 3600) } else { format!("{seconds} s") }
}

/// What came along, a line for each table.
pub fn words_of_moved(carried: &Carried) -> Vec<String> {
    let rows = |count: u64, what: &str| {
        (count > 0).then(|| {
            let noun = plural(usize::try_from(count).unwrap_or(usize::MAX), "row", "rows");
            format!("{} {noun} {what}", grouped(count))
        })
    };
    let line = |(table, moved): (&String, &crate::data::way::Moved)| {
        let parts = [rows(moved.written, "written"), rows(moved.deleted, "deleted")];
        format!("{}: {}", table.escape_debug(), parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    };
    carried.moved.iter().map(line).collect()
}

/// What did not, a line each.
pub fn words_of_left(carried: &Carried) -> Vec<String> {
    let mut lines: Vec<String> = carried.left.0.iter().map(ToString::to_string).collect();
    for (table, refused) in &carried.refused {
        for (key, why) in &refused.first {
            let parts = [table, key, why].map(|part| part.escape_debug().to_string());
            lines.push(format!("{}, {}: {}", parts[0], parts[1], parts[2]));
        }
        let more = refused.rows.saturating_sub(refused.first.len() as u64);
        if more > 0 {
            lines.push(format!("{}: {} more that are refused", table.escape_debug(), grouped(more)));
        }
    }
    lines
}

/// Says what came along and what did not.
pub fn tell(log: &JobLog, crossing: &Crossing, fresh: Fresh, carried: &Carried, begun: Instant) {
    let (from, to) = (&crossing.from.spot().name, &crossing.to.spot().name);
    if fresh == Fresh::LeftBehind {
        log.note(format!("{to} is as it was left; what was written since stays in {from}"));
        return;
    }
    log.timed("carry", format!("{from} → {to}: what changed came along"), begun);
    for line in words_of_moved(carried) {
        log.step("carry", line);
    }
    for line in words_of_left(carried) {
        log.note(format!("stays in {from}: {line}"));
    }
}
