//! One error type: a sentence, its causes, and what to type next.
//!
//! Each layer adds exactly one sentence, lowercase and without a full stop. A cause is never said
//! twice. Typed cases exist only where something decides on them: the exit code, and whether to try again.

use std::fmt;

/// What the program's exit code says about an error (design.md, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 1: it failed, and what is live is unchanged; or something was found.
    Failed,
    /// 2: wrong usage.
    Usage,
    /// 3: live, but something after the switch needs attention.
    Attention,
}

impl Exit {
    /// The number that the process ends with.
    pub fn code(self) -> u8 {
        match self {
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Attention => 3,
        }
    }
}

/// An error that a person can act on.
#[derive(Debug)]
pub struct Error {
    exit: Exit,
    message: String,
    hint: Option<String>,
    away: bool,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The result of nearly everything here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failure: exit code 1.
    pub fn new(message: impl Into<String>) -> Self {
        Error { exit: Exit::Failed, message: message.into(), hint: None, away: false, cause: None }
    }

    /// Wrong usage: exit code 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Error { exit: Exit::Usage, ..Error::new(message) }
    }

    /// What to type, or to do, now.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same, where nobody knows better yet.
    #[must_use]
    pub fn or_hint(self, hint: impl Into<String>) -> Self {
        if self.innermost_hint().is_some() { self } else { self.hint(hint) }
    }

    /// The same error with another exit code.
    #[must_use]
    pub fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// The same, of a server that is not there: it may be on its way still, after a boot for instance.
    #[must_use]
    pub fn away(mut self) -> Self {
        self.away = true;
        self
    }

    /// Whether it, or what brought it about, is a server that is not there.
    pub fn is_away(&self) -> bool {
        let inner = self.cause.as_ref().and_then(|cause| cause.downcast_ref::<Error>());
        self.away || inner.is_some_and(Error::is_away)
    }

    /// The same error with what brought it about.
    #[must_use]
    pub fn caused_by(mut self, cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.cause = Some(Box::new(cause));
        self
    }

    /// The exit code that this error asks for.
    pub fn exit_code(&self) -> u8 {
        self.exit.code()
    }

    /// The innermost hint: the layer nearest to the trouble knows best what to do.
    pub fn innermost_hint(&self) -> Option<&str> {
        let inner = self.cause.as_ref().and_then(|cause| cause.downcast_ref::<Error>());
        inner.and_then(Error::innermost_hint).or(self.hint.as_deref())
    }

    /// The sentence and its causes on one line, for a journal or a record.
    pub fn one_line(&self) -> String {
        let mut line = self.message.clone();
        for cause in self.causes() {
            line.push_str(": ");
            line.push_str(&cause);
        }
        line.replace('\n', " ")
    }

    /// The causes, outermost first.
    pub fn causes(&self) -> Vec<String> {
        let mut causes = Vec::new();
        let mut next: Option<&(dyn std::error::Error + 'static)> =
            self.cause.as_ref().map(|cause| &**cause as &(dyn std::error::Error + 'static));
        while let Some(cause) = next {
            let sentence = cause.to_string();
            if causes.last() != Some(&sentence) {
                causes.push(sentence);
            }
            next = cause.source();
        }
        causes
    }

    /// All of it, for a person: the sentence, its causes and the hint, each on its line.
    pub fn render(&self) -> String {
        let mut text = format!("error: {}", self.message);
        for cause in self.causes() {
            text.push_str("\n  caused by: ");
            text.push_str(&cause);
        }
        if let Some(hint) = self.innermost_hint() {
            text.push_str("\n  hint: ");
            text.push_str(hint);
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_ref().map(|cause| &**cause as &(dyn std::error::Error + 'static))
    }
}

/// Adds a sentence to a foreign error.
pub trait Context<T> {
    /// What was being done, as a sentence that names the thing.
    fn context<S: Into<String>>(self, sentence: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: std::error::Error + Send + Sync + 'static> Context<T> for Result<T, E> {
    fn context<S: Into<String>>(self, sentence: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|cause| Error::new(sentence()).caused_by(cause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_hint_is_the_one_that_is_shown() {
        let inner = Error::new("the door is locked").hint("take the key");
        let outer = Error::new("cannot go in").hint("stay out").caused_by(inner);
        assert_eq!(
            outer.render(),
            "error: cannot go in\n  caused by: the door is locked\n  hint: take the key"
        );
        assert_eq!(outer.one_line(), "cannot go in: the door is locked");
        assert!(!outer.is_away());
        let away = Error::new("cannot go in").caused_by(Error::new("nobody is there").away());
        assert!(away.is_away());
    }
}
