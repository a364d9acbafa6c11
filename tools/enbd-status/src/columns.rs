// SPDX-License-Identifier: GPL-2.0

//! Lines of a total and one column a channel or group: `4<tab>(1)<tab>(3)`, and what may follow.

use crate::figure::{plain, Figure};
use crate::model::Traffic;

/// `7.4058K (2.58K) (4.8K) 2.530KR/4.875KW max 34`, taken apart.
pub(crate) struct Counts<'a> {
    pub(crate) total: Figure,
    pub(crate) columns: Vec<Figure>,
    /// What follows the last column, without the space before it.
    pub(crate) rest: &'a str,
}

/// A total with its columns.
pub(crate) fn counts(text: &str) -> Option<Counts<'_>> {
    // Of the words between tabs only the last may have something behind it.
    let (head, rest) = match text.split_once(' ') {
        Some((head, rest)) => (head, rest),
        None => (text, ""),
    };
    let mut words = head.split('\t');
    let total = Figure::parse(words.next()?)?;
    let columns = words.map(|word| Figure::parse(column(word)?));
    Some(Counts {
        total,
        columns: columns.collect::<Option<_>>()?,
        rest,
    })
}

/// A total with its columns and nothing else.
pub(crate) fn only_counts(text: &str) -> Option<(Figure, Vec<Figure>)> {
    let counts = counts(text)?;
    counts
        .rest
        .is_empty()
        .then_some((counts.total, counts.columns))
}

/// A total, its columns, and ` 2.530KR/4.875KW WORD NUMBER`.
pub(crate) fn traffic(text: &str, word: &str) -> Option<(Traffic, Vec<Figure>, Figure)> {
    let counts = counts(text)?;
    let (sides, last) = counts.rest.split_once(' ')?;
    let (read, written) = sides.split_once("R/")?;
    let (read, written) = (
        Figure::parse(read)?,
        Figure::parse(written.strip_suffix('W')?)?,
    );
    let traffic = Traffic {
        total: counts.total.narrowed(read.plus(written)),
        read: read.narrowed(counts.total.less(written)),
        written: written.narrowed(counts.total.less(read)),
    };
    let last = Figure::parse(last.strip_prefix(word)?.strip_prefix(' ')?)?;
    Some((traffic, counts.columns, last))
}

/// A plain number, and the insides of the columns behind it.
pub(crate) fn marks(text: &str) -> Option<(u64, Vec<&str>)> {
    let mut words = text.split('\t');
    let count = plain(words.next()?)?;
    Some((count, words.map(column).collect::<Option<_>>()?))
}

fn column(word: &str) -> Option<&str> {
    word.strip_prefix('(')?.strip_suffix(')')
}

/// The columns of a sum, made narrower by what the sum leaves for each.
pub(crate) fn narrowed(total: Figure, columns: &[Figure]) -> Vec<Figure> {
    let sum = columns
        .iter()
        .fold(Figure::exact(0), |sum, column| sum.plus(*column));
    columns
        .iter()
        .map(|column| {
            let others = Figure {
                least: sum.least.saturating_sub(column.least),
                most: sum.most.saturating_sub(column.most),
            };
            // A sum that has reached the largest number says nothing of its parts.
            if sum.most == u64::MAX {
                *column
            } else {
                column.narrowed(total.less(others))
            }
        })
        .collect()
}
