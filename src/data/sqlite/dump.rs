//! A database as one file to keep or to take away, and the way back in.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use rusqlite::Connection;

use super::{copy, fence, open, place, proof, script};
use crate::data::{Fence, Limit, Progress, Rows, Script};
use crate::support::{Context, Error, Result};

/// What every SQLite database begins with.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Writes what a database holds at one moment to a new file, without receiver's own objects, synced,
/// and read back. Answers the rows of each table, for a later [`read_back`].
///
/// The dump is a database itself, in one file. One that fails is taken away.
pub fn dump(
    path: &Path,
    to: &Path,
    limit: &Limit<'_>,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<Rows> {
    let source = open::reader(path)?;
    place::make_file(to)?;
    let mut write = || -> Result<Rows> {
        let rows = copy::at_one_moment(&source, path, || {
            copy::fill(&source, to, limit, on_progress)?;
            open::within(&source, limit, || proof::count(&source).context(|| "cannot count the rows"))
        })?;
        open::journal_mode(&open::writer(to)?, to, "delete")?;
        fence::strip(to)?;
        copy::touch(&open::writer(to)?).context(|| format!("cannot sync the dump {}", to.display()))?;
        place::sync_names(to)?;
        read_back(to, &rows, limit)?;
        Ok(rows)
    };
    write()
        .inspect_err(|_| place::abandon_file(to))
        .context(|| format!("cannot dump the database {}", path.display()))
}

/// Proves that a dump can be read: its pages hold together, and its tables have these rows.
pub fn read_back(dump: &Path, rows: &Rows, limit: &Limit<'_>) -> Result<()> {
    proof::sound(dump, "integrity_check", limit)
        .and_then(|()| proof::equal(&proof::rows(dump, limit)?, rows))
        .context(|| format!("the dump {} cannot be trusted", dump.display()))
}

/// Puts what a dump holds, or what a file of SQL makes, in the place of what `into` holds.
///
/// It is first made and proved in a database of its own at `scratch` (which must not be there, and is
/// gone afterwards), then copied over in one transaction: readers see the old content or the new one,
/// writers wait. A retired database is refused.
pub fn load(from: &Path, into: &Path, scratch: &Path, limit: &Limit<'_>) -> Result<()> {
    refuse_retired(into)?;
    place::make_directory(scratch)?;
    let called = from.display().to_string();
    let result = load_through(from, &called, into, scratch, limit);
    place::abandon(scratch);
    result
}

/// The same, of a file that people know as `called`, in a directory of `scratch` that is there, and stays.
pub(super) fn load_through(
    from: &Path,
    called: &str,
    into: &Path,
    scratch: &Path,
    limit: &Limit<'_>,
) -> Result<()> {
    refuse_retired(into)?;
    place::make_file(scratch)?;
    prepare(from, called, scratch, limit)
        .and_then(|()| replace(scratch, into, limit))
        .context(|| format!("cannot load {called} into {}", into.display()))
}

fn refuse_retired(into: &Path) -> Result<()> {
    if fence(into)? == Fence::Open {
        return Ok(());
    }
    Err(Error::new(format!("cannot load into {}: it is retired, and takes no writes", into.display())))
}

/// Makes the new content at `scratch`, and proves it.
fn prepare(from: &Path, called: &str, scratch: &Path, limit: &Limit<'_>) -> Result<()> {
    let file = place::existing(from)?;
    let cannot = || format!("cannot read {called}");
    let mut start = Vec::new();
    File::open(&file).context(cannot)?.take(16).read_to_end(&mut start).context(cannot)?;
    if start == MAGIC {
        let source = open::reader(&file)?;
        copy::at_one_moment(&source, &file, || copy::fill(&source, scratch, limit, &mut |_| {}))?;
    } else {
        let text = fs::read(&file).context(cannot)?;
        script::run_sql(scratch, &[Script { name: called, text: &text }], None, limit, &mut |_| {})?;
    }
    fence::strip(scratch)?;
    proof::sound(scratch, "integrity_check", limit)
}

/// Copies the content of `scratch` over that of a live database.
fn replace(scratch: &Path, into: &Path, limit: &Limit<'_>) -> Result<()> {
    let source = open::writer(scratch)?;
    let mut target = open::writer(into)?;
    let size = |connection: &Connection| -> Result<u32> {
        connection
            .pragma_query_value(None, "page_size", |row| row.get(0))
            .context(|| "cannot read the size of the pages")
    };
    let wanted = size(&target)?;
    if size(&source)? != wanted {
        // A database in WAL mode cannot change the size of its pages: what goes into it must.
        open::journal_mode(&source, scratch, "delete")?;
        source
            .execute_batch(&format!("PRAGMA page_size={wanted}; VACUUM"))
            .context(|| "cannot change the size of the pages")?;
    }
    copy::pages(&source, &mut target, limit, &mut |_| {})
}
