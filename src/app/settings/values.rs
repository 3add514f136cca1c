//! The kinds of single values: what each may look like, and the words for it when it does not.
//!
//! Each is a type that only a sound value can become, so that whoever holds one need not check again.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Deserializer, Error as _, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// Longer than any sensible wait, and short enough to be added to any clock: ten years.
const LONGEST: Duration = Duration::from_secs(3650 * 24 * 3600);

/// Reads a value that is written as text; `Err` of its `FromStr` says what is wrong with the text.
pub(super) fn from_text<'de, D: Deserializer<'de>, T: FromStr<Err = String>>(
    deserializer: D,
    wanted: &'static str,
) -> Result<T, D::Error> {
    struct Text<T>(&'static str, std::marker::PhantomData<T>);
    impl<T: FromStr<Err = String>> Visitor<'_> for Text<T> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(|why| E::custom(format!("'{text}' {why}")))
        }
    }
    deserializer.deserialize_str(Text(wanted, std::marker::PhantomData))
}

/// A type with a `FromStr` can be read from a TOML string.
macro_rules! read_from_text {
    ($name:ty, $wanted:expr) => {
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::app::settings::values::from_text(deserializer, $wanted)
            }
        }
    };
}
pub(super) use read_from_text;

/// A command for `/bin/sh -c`, or other text that must say something and cannot hold a NUL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text(pub String);
read_from_text!(Text, "text");

impl FromStr for Text {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Err("is empty".to_owned());
        }
        if text.contains('\0') {
            return Err("holds a NUL".to_owned());
        }
        Ok(Text(text.to_owned()))
    }
}

/// A length of time, nothing allowed: `"500ms"`, `"30s"`, `"10m"`, `"24h"`, `"30d"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Period(pub Duration);
read_from_text!(Period, "a duration with its unit, such as \"30s\" (ms, s, m, h, d)");

impl FromStr for Period {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) =
            number_and_unit(text).ok_or("is not a duration: write \"30s\" (ms, s, m, h, d)")?;
        let milliseconds = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "" => return Err("has no unit: write \"30s\" (ms, s, m, h, d)".to_owned()),
            _ => return Err("has a unit that is none of ms, s, m, h, d".to_owned()),
        };
        let length = number.checked_mul(milliseconds).map(Duration::from_millis);
        length
            .filter(|length| *length <= LONGEST)
            .map(Period)
            .ok_or_else(|| "is longer than ten years".to_owned())
    }
}

/// A [`Period`] that is longer than nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit(pub Duration);
read_from_text!(Limit, "a duration with its unit, such as \"30s\" (ms, s, m, h, d)");

impl FromStr for Limit {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let Period(length) = text.parse()?;
        if length.is_zero() { Err("leaves no time at all".to_owned()) } else { Ok(Limit(length)) }
    }
}

/// A number of bytes, at least one: `"512B"`, `"64K"`, `"16M"`, `"1G"`, `"1T"`, in powers of 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bytes(pub u64);
read_from_text!(Bytes, "a size with its unit, such as \"64M\" (B, K, M, G, T)");

impl FromStr for Bytes {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = number_and_unit(text).ok_or("is not a size: write \"64M\" (B, K, M, G, T)")?;
        let shift = match unit {
            "B" => 0,
            "K" => 10,
            "M" => 20,
            "G" => 30,
            "T" => 40,
            "" => return Err("has no unit: write \"64M\" (B, K, M, G, T)".to_owned()),
            _ => return Err("has a unit that is none of B, K, M, G, T".to_owned()),
        };
        match number.checked_mul(1 << shift) {
            Some(0) => Err("leaves no room at all".to_owned()),
            Some(bytes) => Ok(Bytes(bytes)),
            None => Err("is too large".to_owned()),
        }
    }
}

/// A share of a processor: `"50%"`, `"200%"` for two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Percent(pub u32);
read_from_text!(Percent, "a share of one processor, such as \"50%\"");

impl FromStr for Percent {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix('%').filter(|number| number.bytes().all(|b| b.is_ascii_digit()));
        let share =
            number.and_then(|number| number.parse().ok()).filter(|share| (1..=100_000).contains(share));
        share.map(Percent).ok_or_else(|| "is not a share of one processor: write \"50%\"".to_owned())
    }
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    Some((text[..digits].parse().ok()?, &text[digits..]))
}

/// How many: at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count(pub u32);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Count;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number from 1 up")
            }
            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Count, E> {
                let count = u32::try_from(number).ok().filter(|count| *count > 0);
                count.map(Count).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Signed(number), &self))
            }
        }
        deserializer.deserialize_i64(Number)
    }
}

/// How the complaint about a format that is too high begins.
pub(super) const NEWER: &str = "written for a newer receiver";

/// The configuration format of a file: 1, the only one that there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format;

impl<'de> Deserialize<'de> for Format {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Count(number) = Count::deserialize(deserializer)?;
        if number == 1 {
            return Ok(Format);
        }
        Err(D::Error::custom(format!("{NEWER}: format {number}, this one reads 1")))
    }
}

/// A path below a release: relative, without `..`, and not receiver's or git's own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelativePath(String);
read_from_text!(RelativePath, "a path relative to the release");

impl RelativePath {
    /// The path as text, with `/` between its parts.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path, to be joined to a release or to `shared/`.
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }

    /// Whether `other` is the same path or lies below it.
    pub fn holds(&self, other: &RelativePath) -> bool {
        other.as_path().starts_with(self.as_path())
    }
}

impl FromStr for RelativePath {
    type Err = String;

    /// Text to a path. The error completes the sentence "'TEXT' …".
    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = |why: &str| Err(why.to_owned());
        if text.starts_with('/') {
            return refuse("is absolute: paths are relative to the release");
        }
        if text.chars().any(char::is_control) {
            return refuse("holds a control character");
        }
        let path = text.strip_suffix('/').unwrap_or(text);
        for part in path.split('/') {
            match part.to_ascii_lowercase().as_str() {
                "" => return refuse("is empty, or has an empty part"),
                "." => return refuse("has a part '.': leave it out"),
                ".." => return refuse("leads out of the release"),
                ".git" | ".receiver" => return refuse("is not the application's own"),
                _ => {}
            }
        }
        Ok(RelativePath(path.to_owned()))
    }
}

impl fmt::Display for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for RelativePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Why nginx could not be told of a path: inside quotes it reads `$` all the same, and knows no way to
/// write one; a line's end would end up in its log.
fn unquotable(text: &str) -> Option<&'static str> {
    if text.contains('$') {
        return Some("holds a $, which nginx takes for a variable");
    }
    text.chars().any(char::is_control).then_some("holds a control character")
}

/// A directory or file of the release that nginx serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServedPath(pub RelativePath);
read_from_text!(ServedPath, "a path relative to the release");

impl FromStr for ServedPath {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let path: RelativePath = text.parse()?;
        unquotable(path.as_str()).map_or(Ok(ServedPath(path)), |why| Err(why.to_owned()))
    }
}

/// A path on the server that nginx is told of: absolute, without `..`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerPath(pub std::path::PathBuf);
read_from_text!(ServerPath, "an absolute path");

impl FromStr for ServerPath {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let path = Path::new(text);
        if !path.is_absolute() || path.parent().is_none() {
            return Err("is not an absolute path".to_owned());
        }
        if path.components().any(|part| part == std::path::Component::ParentDir) {
            return Err("has a part '..'".to_owned());
        }
        unquotable(text).map_or_else(|| Ok(ServerPath(path.to_owned())), |why| Err(why.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        let period = |text: &str| text.parse::<Period>().map(|period| period.0);
        assert_eq!(period("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(period("30d"), Ok(Duration::from_secs(30 * 86_400)));
        assert_eq!(period("0s"), Ok(Duration::ZERO));
        for bad in
            ["", "s", "10", "10 m", "-1s", "1.5h", "1h30m", "10M", "9999999999999999999s", "4000d", "+1s"]
        {
            assert!(period(bad).is_err(), "{bad:?}");
        }
        assert!("0s".parse::<Limit>().is_err());
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        let bytes = |text: &str| text.parse::<Bytes>().map(|bytes| bytes.0);
        assert_eq!(bytes("64M"), Ok(64 << 20));
        assert_eq!(bytes("1G"), Ok(1 << 30));
        for bad in ["", "64", "64m", "0M", "99999999999T", "1.5G", "64MB"] {
            assert!(bytes(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn paths_that_leave_the_release_are_refused() {
        for bad in [
            "",
            "/",
            "/etc",
            "..",
            "a/../b",
            "a//b",
            "./a",
            ".git",
            "a/.GIT/x",
            ".receiver",
            ".receiver/x",
            "a\nb",
        ] {
            assert!(bad.parse::<RelativePath>().is_err(), "{bad:?}");
        }
        assert_eq!("media/".parse::<RelativePath>().unwrap().as_str(), "media");
        assert_eq!(".env".parse::<RelativePath>().unwrap().as_str(), ".env");
    }

    #[test]
    fn a_path_holds_what_lies_below_it() {
        let path = |text: &str| text.parse::<RelativePath>().unwrap();
        assert!(path("media").holds(&path("media/a")));
        assert!(path("media").holds(&path("media")));
        assert!(!path("media").holds(&path("media2")));
    }

    #[test]
    fn paths_that_nginx_cannot_be_told_of_are_refused() {
        for bad in ["a$b", "a\nb", "a\u{0}b", "/a", "../a", ".git/x"] {
            assert!(bad.parse::<ServedPath>().is_err(), "{bad:?}");
        }
        for good in ["assets", "a b", "a\"b;{}", ".next/static", "größe", "a\\b", "a'b"] {
            assert!(good.parse::<ServedPath>().is_ok(), "{good:?}");
        }
        for bad in ["", "/", "a", "a/b", "/a/../b", "/a$b", "/a\nb"] {
            assert!(bad.parse::<ServerPath>().is_err(), "{bad:?}");
        }
        assert!("/etc/letsencrypt/live/x/fullchain.pem".parse::<ServerPath>().is_ok());
    }

    #[test]
    fn shares_are_whole_percents() {
        assert_eq!("150%".parse::<Percent>(), Ok(Percent(150)));
        for bad in ["150", "%", "0%", "-1%", "+5%"] {
            assert!(bad.parse::<Percent>().is_err(), "{bad:?}");
        }
    }
}
