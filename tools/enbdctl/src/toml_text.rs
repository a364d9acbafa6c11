// SPDX-License-Identifier: GPL-2.0

//! The text of a TOML file, and what is wrong with it: where, why, and the nearest word.

use crate::problem::{Exit, Problem};
use std::ops::Range;
use std::path::Path;

/// A file and its text.
pub struct Source<'a> {
    /// The file, for messages.
    pub path: &'a Path,
    /// What is in it.
    pub text: &'a str,
}

impl Source<'_> {
    /// Line and column, from 1, columns in characters.
    fn place(&self, at: usize) -> (usize, usize) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before.get(start..).unwrap_or("").chars().count() + 1;
        (line, column)
    }

    /// A problem at a place of the file.
    pub fn wrong(&self, span: Range<usize>, why: &str, hint: Option<String>) -> Problem {
        let (line, column) = self.place(span.start);
        let path = self.path.display();
        let mut problem = Problem::new(Exit::Usage, format!("{path}:{line}:{column}: {why}"));
        problem.hint = hint;
        problem
    }

    /// What the parser says, and the nearest one of the keys for one that is not known.
    pub fn syntax(&self, error: &toml::de::Error, keys: &[&str]) -> Problem {
        let span = error.span().unwrap_or(0..0);
        let message = error.message().trim().replace('\n', ", ");
        let Some(rest) = message.strip_prefix("unknown field `") else {
            let hint = message
                .starts_with("missing field `device`")
                .then(|| "device = \"a\" is /dev/nda".to_owned());
            return self.wrong(span, &message, hint);
        };
        let word = rest.split('`').next().unwrap_or("");
        let hint = near(word, keys).map(|near| format!("perhaps {near}"));
        self.wrong(span, &format!("there is no key {word:?} here"), hint)
    }
}

/// The one of some words that is spelt most like this one, if one is near.
pub fn near<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let limit = word.chars().count().div_ceil(3);
    let distances = known.iter().map(|&known| (distance(word, known), known));
    let (least, near) = distances.min_by_key(|(distance, _)| *distance)?;
    (least <= limit).then_some(near)
}

/// How many letters have to be put in, taken out or changed.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, letter) in one.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, known) in other.iter().enumerate() {
            let changed = row[j] + usize::from(letter != *known);
            next.push(changed.min(row[j + 1] + 1).min(next[j] + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}
