//! Expressions of `[map]`: they come from the pushed repository, and are run by receiver's administrator.
//!
//! So only what is known to be harmless is let through: columns of the source's table, texts, numbers, and a list of
//! operators and functions that compute something from these and nothing else. No subquery, no variable, no function
//! of the app's, none that reads a file, waits or looks around the server. Each column is qualified with the source's
//! row, so that no other name can be meant.

use crate::data::mysql::lexer::{self, Kind};
use crate::data::mysql::quote;
use crate::data::way::Table;

/// Words that are operators, or parts of what a function takes.
const WORDS: &[&str] = &[
    "and",
    "or",
    "not",
    "xor",
    "is",
    "null",
    "true",
    "false",
    "in",
    "between",
    "like",
    "div",
    "mod",
    "case",
    "when",
    "then",
    "else",
    "end",
    "as",
    "using",
    "collate",
    "interval",
    "from",
    "leading",
    "trailing",
    "both",
    "regexp",
    "rlike",
    "binary",
    "char",
    "signed",
    "unsigned",
    "integer",
    "decimal",
    "double",
    "date",
    "time",
    "datetime",
    "year",
    "quarter",
    "month",
    "week",
    "day",
    "hour",
    "minute",
    "second",
    "microsecond",
    "utf8mb4",
    "utf8mb3",
    "latin1",
    "ascii",
    "separator",
];

/// Functions that compute something from what they are given, and nothing else.
const FUNCTIONS: &[&str] = &[
    "abs",
    "adddate",
    "addtime",
    "ascii",
    "bin",
    "bit_length",
    "cast",
    "ceil",
    "ceiling",
    "char",
    "char_length",
    "character_length",
    "coalesce",
    "concat",
    "concat_ws",
    "conv",
    "convert",
    "crc32",
    "date",
    "date_add",
    "date_format",
    "date_sub",
    "datediff",
    "day",
    "dayname",
    "dayofmonth",
    "dayofweek",
    "dayofyear",
    "elt",
    "exp",
    "extract",
    "field",
    "find_in_set",
    "floor",
    "format",
    "from_base64",
    "from_days",
    "from_unixtime",
    "greatest",
    "hex",
    "hour",
    "if",
    "ifnull",
    "in",
    "inet6_aton",
    "inet6_ntoa",
    "inet_aton",
    "inet_ntoa",
    "insert",
    "instr",
    "interval",
    "isnull",
    "json_array",
    "json_extract",
    "json_object",
    "json_quote",
    "json_unquote",
    "json_value",
    "last_day",
    "lcase",
    "least",
    "left",
    "length",
    "ln",
    "locate",
    "log",
    "log10",
    "log2",
    "lower",
    "lpad",
    "ltrim",
    "makedate",
    "maketime",
    "md5",
    "microsecond",
    "mid",
    "minute",
    "mod",
    "month",
    "monthname",
    "nullif",
    "oct",
    "octet_length",
    "ord",
    "pi",
    "position",
    "pow",
    "power",
    "quarter",
    "quote",
    "regexp_instr",
    "regexp_replace",
    "regexp_substr",
    "replace",
    "reverse",
    "right",
    "round",
    "rpad",
    "rtrim",
    "sec_to_time",
    "second",
    "sha1",
    "sha2",
    "sign",
    "soundex",
    "sqrt",
    "str_to_date",
    "strcmp",
    "subdate",
    "substr",
    "substring",
    "substring_index",
    "subtime",
    "time",
    "time_format",
    "time_to_sec",
    "timediff",
    "timestamp",
    "timestampadd",
    "timestampdiff",
    "to_base64",
    "to_days",
    "trim",
    "truncate",
    "ucase",
    "unhex",
    "unix_timestamp",
    "upper",
    "uuid",
    "week",
    "weekday",
    "year",
];

/// The expression as it can be run, its columns qualified as those of `row`; or why it cannot.
pub(super) fn checked(text: &str, table: &Table, row: &str) -> Result<String, String> {
    let tokens = lexer::tokens(text);
    let mut written = String::with_capacity(text.len() * 2);
    let mut at = 0;
    let is_column = |name: &str| table.column(&name.to_lowercase()).is_some();
    while let Some(token) = tokens.get(at) {
        let next = tokens.get(at + 1);
        let calls = next.is_some_and(|next| next.is("("));
        let qualifies = next.is_some_and(|next| next.is("."));
        let word = token.text.to_ascii_lowercase();
        // A number with a point is three tokens.
        let joined = at > 0 && tokens[at - 1].end() == token.at && (token.is(".") || tokens[at - 1].is("."));
        if !joined {
            written.push(' ');
        }
        match token.kind {
            Kind::Text => written.push_str(token.text),
            Kind::Word if is_number(token.text) => written.push_str(token.text),
            Kind::Word | Kind::Name if qualifies => {
                let column = tokens.get(at + 2).filter(|column| is_column(&column.name()));
                let Some(column) = column.filter(|_| token.names(&table.name)) else {
                    return Err(format!("'{}' is no column of this table", token.text.escape_debug()));
                };
                written.push_str(&column_of(row, &column.name()));
                at += 2;
            }
            Kind::Word if calls && FUNCTIONS.contains(&word.as_str()) => {
                // No space before the parenthesis: some are functions only so.
                written.push_str(token.text);
                written.push('(');
                at += 1;
            }
            Kind::Word if !calls && is_column(token.text) => {
                written.push_str(&column_of(row, token.text));
            }
            Kind::Word if WORDS.contains(&word.as_str()) => written.push_str(token.text),
            Kind::Name if !calls && is_column(&token.name()) => {
                written.push_str(&column_of(row, &token.name()));
            }
            Kind::Sign if token.text == "|" => {
                return Err("'||' is OR in MySQL: write concat(…)".to_owned());
            }
            Kind::Sign if "(),+-*/%=<>!.".contains(token.text) && token.text.len() == 1 => {
                // Signs that stand together are one operator.
                if !joined && at > 0 && tokens[at - 1].kind == Kind::Sign && tokens[at - 1].end() == token.at
                {
                    written.pop();
                }
                written.push_str(token.text);
            }
            _ => {
                let what = token.text.escape_debug();
                return Err(format!("'{what}' is neither a column of this table nor known to be harmless"));
            }
        }
        at += 1;
    }
    Ok(written)
}

fn column_of(row: &str, name: &str) -> String {
    format!("{row}.{}", quote::name(name))
}

fn is_number(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit()) && word.chars().all(|c| c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::way::Column;

    #[test]
    fn only_what_computes_from_the_row_is_let_through() {
        let column = |name: &str| Column { name: name.to_owned(), ..Column::default() };
        let table = Table {
            name: "user".to_owned(),
            columns: ["first", "last", "n", "day"].map(column).to_vec(),
            ..Table::default()
        };
        for (text, expected) in [
            ("concat(first, ' ', `Last`)", " concat( s.`first` , ' ' , s.`Last` )"),
            (
                "CASE WHEN user.n >= 1.5 THEN NULL ELSE -n END",
                " CASE WHEN s.`n` >= 1.5 THEN NULL ELSE - s.`n` END",
            ),
            ("day", " s.`day`"),
        ] {
            assert_eq!(checked(text, &table, "s").as_deref(), Ok(expected), "{text}");
        }
        for bad in [
            "load_file('/etc/passwd')",
            "(select 1)",
            "sleep(10)",
            "benchmark(1, md5('a'))",
            "@@datadir",
            "other.n",
            "mysql.user.host",
            "first || last",
            "user()",
            "user.password",
            "`load_file`('x')",
            "count(*)",
            "n INTO OUTFILE 'x'",
            "app_function(n)",
            "x'41'",
            "/*!50003 sleep(1) */",
            "get_lock('a', 1)",
            "n & 1",
        ] {
            assert!(checked(bad, &table, "s").is_err(), "{bad}");
        }
    }
}
