// SPDX-License-Identifier: GPL-2.0

//! Numbers of blocks as the status shows them: `967`, `2.58K`, `2.530K`, `7.4058K`.
//!
//! Units: blocks. K is 1024, M 1024K, and so on to E. Below 1024 a figure is a plain integer; from
//! there it has as many decimals as its [`Figure`] says, zeros included.
//!
//! The decimals are those of 2003. They are neither cut nor rounded ones: no number of blocks,
//! divided by 1024 either way, gives "6.1420K", nor 13 more of the 16 totals of that post. What
//! gives all of them is taking one digit after the other in integers and dropping what is below one
//! at each step:
//!
//! ```text
//! digit = rest * 10 / 1024;   rest = (rest - digit * 1024 / 10) * 10
//! ```
//!
//! `digit * 1024 / 10` is up to 0.8 too small, so that the rest, and with it the figure, comes out
//! too large, though never by a whole block. Read back so, each total of the post is one number of
//! blocks only, and is the sum of its R and W. A figure still grows with its number, and four
//! decimals tell any two numbers below 1024K apart.
//!
//! Errors: those of the writer.

use core::fmt::{self, Write};

/// Which of the three kinds of figure, by the place where it stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Figure {
    /// The first of a line: four decimals.
    Total,
    /// One of the two sides R and W of a total: three decimals.
    Side,
    /// One column of a line, for a channel or a group: two decimals.
    Column,
}

impl Figure {
    fn decimals(self) -> usize {
        match self {
            Self::Total => 4,
            Self::Side => 3,
            Self::Column => 2,
        }
    }

    /// Writes `blocks` as this kind of figure.
    ///
    /// # Errors
    ///
    /// Those of `w`.
    pub fn write(self, w: &mut impl Write, blocks: u64) -> fmt::Result {
        let mut whole = blocks;
        let mut rest = 0;
        let mut suffix = None;
        for next in ['K', 'M', 'G', 'T', 'P', 'E'] {
            if whole < 1024 {
                break;
            }
            rest = whole % 1024;
            whole /= 1024;
            suffix = Some(next);
        }
        write!(w, "{whole}")?;
        match suffix {
            None => Ok(()),
            Some(suffix) => {
                w.write_char('.')?;
                write_decimals(w, rest, self.decimals())?;
                w.write_char(suffix)
            }
        }
    }
}

/// Writes `rest` 1024ths as this many decimals, in the way of 2003.
fn write_decimals(w: &mut impl Write, rest: u64, decimals: usize) -> fmt::Result {
    let mut rest = rest;
    for _ in 0..decimals {
        // What was dropped may add up to a digit of 10, after 307 and 819 1024ths.
        let digit = (rest * 10 / 1024).min(9);
        write!(w, "{digit}")?;
        rest = (rest - digit * 1024 / 10) * 10;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Figure;

    fn text(kind: Figure, blocks: u64) -> String {
        let mut text = String::new();
        kind.write(&mut text, blocks).expect("a String takes all");
        text
    }

    /// The R and W of the 2003 post as numbers of blocks, and the line that they were shown in.
    const POST: [(u64, u64, &str); 16] = [
        (2461, 3828, "6.1420K 2.403KR/3.739KW"),
        (2461, 3827, "6.1410K 2.403KR/3.738KW"),
        (2462, 3828, "6.1430K 2.404KR/3.739KW"),
        (2461, 3828, "6.1420K 2.403KR/3.739KW"),
        (2462, 4862, "7.1527K 2.404KR/4.748KW"),
        (2462, 4172, "6.4791K 2.404KR/4.074KW"),
        (2464, 4864, "7.1566K 2.406KR/4.750KW"),
        (2463, 4864, "7.1556K 2.405KR/4.750KW"),
        (2591, 4992, "7.4058K 2.530KR/4.875KW"),
        (2591, 4991, "7.4048K 2.530KR/4.874KW"),
        (2747, 5148, "7.7107K 2.683KR/5.027KW"),
        (2747, 5147, "7.7097K 2.683KR/5.026KW"),
        (3416, 5816, "9.0156K 3.336KR/5.680KW"),
        (3415, 5816, "9.0146K 3.335KR/5.680KW"),
        (3495, 5896, "9.1713K 3.413KR/5.758KW"),
        (3495, 5896, "9.1713K 3.413KR/5.758KW"),
    ];

    #[test]
    fn the_figures_of_2003() {
        for (read, written, expected) in POST {
            let total = text(Figure::Total, read + written);
            let (read, written) = (text(Figure::Side, read), text(Figure::Side, written));
            assert_eq!(format!("{total} {read}R/{written}W"), expected);
        }
    }

    #[test]
    fn each_figure_of_2003_is_one_number_only() {
        for (read, written, expected) in POST {
            let total = expected.split(' ').next();
            let same: Vec<u64> = (0..1 << 14)
                .filter(|&blocks| Some(text(Figure::Total, blocks).as_str()) == total)
                .collect();
            assert_eq!(same, [read + written]);
        }
    }

    #[test]
    fn units() {
        for (blocks, column, total) in [
            (0, "0", "0"),
            (1023, "1023", "1023"),
            (1024, "1.00K", "1.0000K"),
            (1025, "1.00K", "1.0009K"),
            (1024 + 307, "1.29K", "1.2999K"),
            (1024 + 819, "1.79K", "1.7999K"),
            (2047, "1.99K", "1.9996K"),
            ((1 << 20) - 1, "1023.99K", "1023.9996K"),
            (1 << 20, "1.00M", "1.0000M"),
            (3 << 29, "1.50G", "1.5000G"),
            (1 << 40, "1.00T", "1.0000T"),
            (1 << 50, "1.00P", "1.0000P"),
            (1 << 60, "1.00E", "1.0000E"),
            (u64::MAX, "15.99E", "15.9996E"),
        ] {
            assert_eq!(text(Figure::Column, blocks), column);
            assert_eq!(text(Figure::Total, blocks), total);
        }
    }
}
