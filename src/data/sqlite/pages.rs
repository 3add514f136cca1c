//! The proof by pages: a copy that has its original's pages has its rows.
//!
//! To compare two databases page by page takes less time than row by row, and writers wait for it. What receiver
//! strips from a copy changes some pages: those of its own tables, of the list of all that is there, and of the list of
//! free pages. Where no other differs, and both say the same of everything that is the app's, down to the page on which it
//! begins, each of its tables and indexes is the original's byte for byte.
//!
//! Pages are read through SQLite's own `sqlite_dbpage`, what is in the WAL included, and what pages a table has is told
//! by `dbstat`. Neither is in every SQLite: `.cargo/config.toml` asks for the first. Without them nothing is the same here.

use std::collections::HashSet;
use std::ops::Range;

use rusqlite::Connection;

use super::{fence, way};

/// What may differ in the header of two databases that are the same: the journal mode, what counts changes, the pages that there
/// are and those that are free, and which SQLite wrote last.
///
/// Source: <https://www.sqlite.org/fileformat2.html>, 1.3.
const MOVES: [Range<usize>; 3] = [18..20, 24..44, 92..100];

/// How long the header is that the first page begins with.
const HEADER: usize = 100;

/// Whether all that is the app's is the same in both, byte for byte. If not, it may still be the same row by row.
pub(super) fn are_same(copy: &Connection, original: &Connection) -> rusqlite::Result<bool> {
    let modules = "SELECT count(*) = 2 FROM pragma_module_list WHERE name IN ('sqlite_dbpage', 'dbstat')";
    if !original.query_row(modules, [], |row| row.get(0))? {
        return Ok(false);
    }
    // Both are read as they are at one moment.
    let (copy, original) = (copy.unchecked_transaction()?, original.unchecked_transaction()?);
    if objects(&copy)? != objects(&original)? {
        return Ok(false);
    }
    let Some(differing) = differing(&copy, &original)? else { return Ok(false) };
    if differing.is_empty() {
        return Ok(true);
    }
    let may_differ = may_differ(&original)?;
    Ok(differing.iter().all(|page| may_differ.contains(page)))
}

/// An object of the app's: its kind, its name, its table, where it begins, and how it was made.
type Object = (String, String, String, u32, Option<String>);

/// What a database says that there is, but for what is receiver's.
fn objects(connection: &Connection) -> rusqlite::Result<Vec<Object>> {
    let mut query = connection.prepare(&format!(
        "SELECT type, name, tbl_name, ifnull(rootpage, 0), sql FROM main.sqlite_schema
         WHERE NOT ifnull({}, 0) AND NOT ifnull({}, 0) ORDER BY type, name",
        fence::OURS,
        way::NOTES
    ))?;
    let object =
        |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?));
    query.query_map([], object)?.collect()
}

/// The pages of the original that the copy does not have like that; `None` where what holds for all of it differs.
fn differing(copy: &Connection, original: &Connection) -> rusqlite::Result<Option<Vec<u32>>> {
    let all = "SELECT pgno, data FROM sqlite_dbpage ORDER BY pgno";
    let (mut ours, mut theirs) = (copy.prepare(all)?, original.prepare(all)?);
    let (mut ours, mut theirs) = (ours.query([])?, theirs.query([])?);
    let mut differing = Vec::new();
    while let Some(theirs) = theirs.next()? {
        let (page, theirs) = (theirs.get(0)?, theirs.get_ref(1)?.as_blob()?);
        let ours = ours.next()?;
        let ours = ours.map(|ours| ours.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)).transpose()?;
        if page == 1 && !ours.is_some_and(|ours| is_same_header(ours, theirs)) {
            return Ok(None);
        }
        if ours != Some(theirs) {
            differing.push(page);
        }
    }
    Ok(Some(differing))
}

fn is_same_header(ours: &[u8], theirs: &[u8]) -> bool {
    let fixed = |at: &usize| !MOVES.iter().any(|moves| moves.contains(at));
    ours.len() == theirs.len() && (0..HEADER).filter(fixed).all(|at| ours.get(at) == theirs.get(at))
}

/// The pages in which nothing is the app's: those of receiver's tables, of the list of what there is, and the free ones.
fn may_differ(original: &Connection) -> rusqlite::Result<HashSet<u32>> {
    let mut pages = free(original)?;
    let mut names = original.prepare(&format!("SELECT name FROM main.sqlite_schema WHERE {}", way::NOTES))?;
    let mut names: Vec<String> = names.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    names.push("sqlite_schema".to_owned());
    let mut of = original.prepare("SELECT pageno FROM dbstat WHERE name = ?1")?;
    for name in names {
        for page in of.query_map([name], |row| row.get(0))? {
            pages.insert(page?);
        }
    }
    Ok(pages)
}

/// The free pages: a chain of some that list the others.
///
/// Source: <https://www.sqlite.org/fileformat2.html>, 1.5.
fn free(original: &Connection) -> rusqlite::Result<HashSet<u32>> {
    let mut page = original.prepare("SELECT data FROM sqlite_dbpage WHERE pgno = ?1")?;
    let mut numbers = |of: u32, from: usize| -> rusqlite::Result<Vec<u32>> {
        page.query_row([of], |row| {
            let data = row.get_ref(0)?.as_blob()?;
            let (words, _) = data.get(from..).unwrap_or_default().as_chunks();
            Ok(words.iter().map(|word| u32::from_be_bytes(*word)).collect())
        })
    };
    let mut pages = HashSet::new();
    let mut next = numbers(1, 32)?.first().copied().unwrap_or(0);
    // A chain that comes back to itself is damaged: it is not followed on.
    while next != 0 && pages.insert(next) {
        let listed = numbers(next, 0)?;
        let [after, count, leaves @ ..] = listed.as_slice() else { break };
        pages.extend(leaves.iter().take(*count as usize));
        next = *after;
    }
    Ok(pages)
}
