//! A table's definition, in the order in which a copy of it is made fastest: the table, its rows, its indexes, and what
//! it refers to.
//!
//! An index that is made when the rows are there is sorted once; one that is there before gets each row in its place. A
//! foreign key waits for all tables: adding it locks the table that it leads to, which may still be filled.

use super::lexer::{self, Token};

/// One table's definition in three parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Definition {
    /// `CREATE TABLE …`, without what comes later.
    pub(super) create: String,
    /// `ADD KEY …`, in the order that the table has them.
    pub(super) indexes: Vec<String>,
    /// `ADD CONSTRAINT … FOREIGN KEY …`.
    pub(super) references: Vec<String>,
    /// Whether it was taken apart.
    pub(super) parted: bool,
}

impl Definition {
    /// All of it at once, as `SHOW CREATE TABLE` said it.
    pub(super) fn whole(statement: String) -> Definition {
        Definition { create: statement, indexes: Vec::new(), references: Vec::new(), parted: false }
    }

    /// Takes apart what `SHOW CREATE TABLE` said. Where it matters in which order things are made, it stays whole.
    pub(super) fn parted(statement: String) -> Definition {
        let tokens = lexer::tokens(&statement);
        match elements(&tokens) {
            Some(elements) if can_wait(&tokens, &elements) => take_apart(&statement, &elements),
            _ => Definition::whole(statement),
        }
    }
}

/// What stands between the outer parentheses, column by column and key by key.
fn elements<'a>(tokens: &'a [Token<'a>]) -> Option<Vec<&'a [Token<'a>]>> {
    let begin = tokens.iter().position(|token| token.is("("))? + 1;
    let (mut found, mut depth, mut start) = (Vec::new(), 0, begin);
    for (at, token) in tokens.iter().enumerate().skip(begin) {
        if token.is("(") {
            depth += 1;
        } else if token.is(")") && depth > 0 {
            depth -= 1;
        } else if depth == 0 && (token.is(",") || token.is(")")) {
            found.push(tokens.get(start..at).filter(|element| !element.is_empty())?);
            start = at + 1;
            if token.is(")") {
                return Some(found);
            }
        }
    }
    None
}

/// Whether this table may be made without its indexes. Not where its rows lie in the order of one of them (it has no
/// primary key), where it counts by one, where a word of the table itself asks for one, and where every change of a
/// table is written down, as its history is.
fn can_wait(tokens: &[Token<'_>], elements: &[&[Token<'_>]]) -> bool {
    let primary = elements.iter().find(|element| element[0].is("PRIMARY"));
    let Some(first_of_key) = primary.and_then(|key| key.iter().find(|token| token.kind == lexer::Kind::Name))
    else {
        return false;
    };
    let counts = |element: &&&[Token<'_>]| element.iter().any(|token| token.is("AUTO_INCREMENT"));
    let counted = elements.iter().find(counts);
    let inno =
        tokens.windows(3).any(|words| words[0].is("ENGINE") && words[1].is("=") && words[2].is("InnoDB"));
    let plain =
        !tokens.iter().any(|token| token.is("VERSIONING") || token.is("FULLTEXT") || token.is("PARTITION"));
    inno && plain && counted.is_none_or(|column| column[0].text == first_of_key.text)
}

fn is_index(element: &[Token<'_>]) -> bool {
    element[0].is("KEY")
        || (element[0].is("UNIQUE") || element[0].is("FULLTEXT") || element[0].is("SPATIAL"))
            && element.get(1).is_some_and(|token| token.is("KEY"))
}

fn is_reference(element: &[Token<'_>]) -> bool {
    element[0].is("CONSTRAINT") && element.get(2).is_some_and(|token| token.is("FOREIGN"))
}

fn take_apart(statement: &str, elements: &[&[Token<'_>]]) -> Definition {
    let text = |element: &[Token<'_>]| {
        let end = element.last().map_or(0, Token::end);
        &statement[element[0].at..end]
    };
    let waits = |element: &[Token<'_>]| is_index(element) || is_reference(element);
    let stay: Vec<&str> =
        elements.iter().filter(|element| !waits(element)).map(|element| text(element)).collect();
    let add = |which: fn(&[Token<'_>]) -> bool| -> Vec<String> {
        elements
            .iter()
            .filter(|element| which(element))
            .map(|element| format!("ADD {}", text(element)))
            .collect()
    };
    let head = elements.first().map_or(0, |element| element[0].at);
    let tail = elements.last().and_then(|element| element.last()).map_or(statement.len(), Token::end);
    Definition {
        create: format!("{}{}{}", &statement[..head], stay.join(",\n  "), &statement[tail..]),
        indexes: add(is_index),
        references: add(is_reference),
        parted: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHILD: &str = "CREATE TABLE `ch,(ild` (\n  `id` bigint(20) NOT NULL AUTO_INCREMENT COMMENT 'KEY, (',\n  \
        `parent` int(11) DEFAULT NULL,\n  `cents` decimal(10,2) NOT NULL,\n  PRIMARY KEY (`id`),\n  \
        UNIQUE KEY `one` (`cents`,`parent`),\n  KEY `by``parent` (`parent`) COMMENT 'a, b',\n  \
        CONSTRAINT `fk` FOREIGN KEY (`parent`) REFERENCES `parents` (`id`) ON DELETE CASCADE,\n  \
        CONSTRAINT `much` CHECK (`cents` > 0)\n) ENGINE=InnoDB AUTO_INCREMENT=7 DEFAULT CHARSET=utf8mb4";

    #[test]
    fn what_is_faster_made_later_is_taken_out() {
        let child = Definition::parted(CHILD.to_owned());
        assert_eq!(
            child.create,
            "CREATE TABLE `ch,(ild` (\n  `id` bigint(20) NOT NULL AUTO_INCREMENT COMMENT 'KEY, (',\n  \
             `parent` int(11) DEFAULT NULL,\n  `cents` decimal(10,2) NOT NULL,\n  PRIMARY KEY (`id`),\n  \
             CONSTRAINT `much` CHECK (`cents` > 0)\n) ENGINE=InnoDB AUTO_INCREMENT=7 DEFAULT CHARSET=utf8mb4"
        );
        assert_eq!(
            child.indexes,
            ["ADD UNIQUE KEY `one` (`cents`,`parent`)", "ADD KEY `by``parent` (`parent`) COMMENT 'a, b'"]
        );
        let leads =
            "ADD CONSTRAINT `fk` FOREIGN KEY (`parent`) REFERENCES `parents` (`id`) ON DELETE CASCADE";
        assert_eq!(child.references, [leads]);
        assert!(child.parted);
    }

    #[test]
    fn where_the_order_matters_a_table_is_made_as_it_is() {
        let without_key = CHILD.replace("  PRIMARY KEY (`id`),\n", "");
        let counts_by_another = CHILD.replace("PRIMARY KEY (`id`)", "PRIMARY KEY (`parent`,`id`)");
        let elsewhere = CHILD.replace("ENGINE=InnoDB", "ENGINE=Aria");
        let history = format!("{CHILD} WITH SYSTEM VERSIONING");
        let parts = format!("{CHILD}\n PARTITION BY HASH (`id`)");
        let words = CHILD.replace("UNIQUE KEY", "FULLTEXT KEY");
        for whole in
            [without_key, counts_by_another, elsewhere, history, parts, words, "CREATE TABLE".to_owned()]
        {
            assert_eq!(Definition::parted(whole.clone()), Definition::whole(whole));
        }
    }
}
