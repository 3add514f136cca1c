//! What is said: a length of four bytes, and so much JSON. Content of files goes after it as it is.

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::data::way::{OnConflict, Refusal, Way};
use crate::data::{Access, Progress, Spot};
use crate::support::{Context, Error, Result};

/// The longest message: the schema of a hundred thousand tables.
const MOST: u32 = 256 << 20;

/// What is to be done, and with what.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    /// The database.
    pub(super) spot: Spot,
    /// How long it may take.
    pub(super) within: Duration,
    /// What.
    pub(super) ask: Ask,
}

/// What can be done: the verbs of a [`Database`](crate::data::Database) and of a [`Hold`](crate::data::Hold), in directories
/// that the asking side makes and removes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Ask {
    Create,
    Snapshot {
        to: Spot,
    },
    /// A database comes, of so many bytes, and becomes this one.
    Receive {
        length: u64,
    },
    Freeze,
    Sync,
    Schema,
    Census,
    Rows,
    IsEmpty,
    Verify {
        original: Spot,
    },
    Examine {
        broken: u64,
    },
    /// Files of SQL come, with these names and lengths.
    RunSql {
        scripts: Vec<(String, u64)>,
        previous: Option<Spot>,
    },
    Fence,
    Unfence,
    /// A database goes, through a copy at `by`.
    Dump {
        by: Spot,
    },
    /// Content comes, of so many bytes, that people know as `called`.
    Load {
        called: String,
        length: u64,
        scratch: Spot,
    },
    /// The conversation becomes a shell.
    Shell {
        access: Access,
    },
    /// A statement for the shell.
    Statement {
        sql: String,
    },
    CloseShell,
    Tables,
    Capture {
        peer: String,
    },
    Captured,
    EndCapture,
    Changes,
    Foresee {
        target: Spot,
        way: Way,
    },
    Merge {
        left: Spot,
        way: Way,
    },
    /// The conversation becomes a hold, which ends with it.
    Hold,
    StillHeld,
    Carry {
        target: Spot,
        way: Way,
        on_conflict: OnConflict,
    },
    /// The hold becomes a fence.
    Retire {
        why: String,
    },
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Told {
    /// The work goes on.
    Alive,
    /// It is under way.
    Progress(Progress),
    /// A line for the log.
    Line(String),
    /// What a statement prints.
    Output(String),
    /// It is done; what was asked for.
    Done(serde_json::Value),
    /// It is not.
    Failed(Failure),
}

/// An error on its way: its sentences, outermost first.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Failure {
    sentences: Vec<String>,
    hint: Option<String>,
    refusal: Option<Refusal>,
}

impl Failure {
    pub(super) fn of(error: &Error) -> Failure {
        let mut sentences = vec![error.to_string()];
        sentences.extend(error.causes());
        let hint = error.innermost_hint().map(str::to_owned);
        Failure { sentences, hint, refusal: Refusal::of(error).cloned() }
    }

    pub(super) fn into_error(self) -> Error {
        let mut sentences = self.sentences.into_iter().rev();
        let mut error = Error::new(sentences.next().unwrap_or_default());
        if let Some(refusal) = self.refusal {
            // What somebody decides on is found by its type, and says itself what the sentence said.
            let said = refusal.to_string() == error.to_string();
            let outer = if said { sentences.next() } else { None };
            error = Error::new(outer.unwrap_or_else(|| error.to_string())).caused_by(refusal);
        }
        if let Some(hint) = self.hint {
            error = error.hint(hint);
        }
        sentences.fold(error, |error, sentence| Error::new(sentence).caused_by(error))
    }
}

/// Says something.
pub(super) fn put(to: &mut impl Write, what: &impl Serialize) -> Result<()> {
    let text = serde_json::to_vec(what).context(|| "cannot write down a message")?;
    let length = u32::try_from(text.len()).ok().filter(|length| *length <= MOST);
    let length = length.ok_or_else(|| Error::new(format!("a message of more than {MOST} bytes")))?;
    to.write_all(&length.to_be_bytes())
        .and_then(|()| to.write_all(&text))
        .context(|| "the other side is gone")
}

/// Hears something; `None` where the other side has nothing more to say.
pub(super) fn get<T: DeserializeOwned>(from: &mut impl Read) -> Result<Option<T>> {
    let cannot = || "cannot read a message";
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        read => read.context(cannot)?,
    }
    let length = u32::from_be_bytes(length);
    if length > MOST {
        return Err(Error::new(format!("a message of more than {MOST} bytes")));
    }
    let mut text = Vec::new();
    from.take(u64::from(length)).read_to_end(&mut text).context(cannot)?;
    serde_json::from_slice(&text).map(Some).map_err(|_| Error::new("not a message that is known"))
}

/// Hands on exactly so many bytes.
pub(super) fn pass(from: &mut impl Read, to: &mut impl Write, length: u64) -> Result<()> {
    let passed =
        std::io::copy(&mut from.take(length), to).context(|| "cannot hand on the content of a file")?;
    if passed == length { Ok(()) } else { Err(Error::new("a file that has no end")) }
}
