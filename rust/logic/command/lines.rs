// SPDX-License-Identifier: GPL-2.0

//! The lines of one write, and which bytes may stand in a line.
//!
//! Units: lengths are in bytes, without the newline; lines are counted from 1.
//! Errors: [`lines`] has none, since it also passes on what is no command; [`printable`] refuses
//! lines that are too long, blank, or hold anything but printable ASCII, spaces and tabs.

use super::Reason;

/// The longest line.
pub const MAX_LINE: usize = 1024;

/// One line of a write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Line<'a> {
    /// Which line of the write this is, blank ones counted, from 1: the log names it.
    pub number: usize,
    /// The line without its newline.
    pub text: &'a [u8],
}

/// The lines of one write that are not blank. The last one needs no newline.
pub fn lines(buf: &[u8]) -> impl Iterator<Item = Line<'_>> {
    buf.split(|&byte| byte == b'\n')
        .zip(1..)
        .map(|(text, number)| Line { number, text })
        .filter(|line| !line.text.iter().all(|byte| matches!(byte, b' ' | b'\t')))
}

/// A line as text, without the spaces and tabs around it.
///
/// NBD's export names are UTF-8, but a name that the log and the status show must not be able to
/// look like another one, so that only ASCII is let in: bytes above 127 are written as escapes.
pub(super) fn printable(line: &[u8]) -> Result<&str, Reason> {
    if line.len() > MAX_LINE {
        return Err(Reason::LineTooLong);
    }
    for &byte in line {
        match byte {
            b'\t' | b' '..=b'~' => {}
            0 => return Err(Reason::EmbeddedNul),
            0x80.. => return Err(Reason::NotAscii),
            _ => return Err(Reason::ControlCharacter),
        }
    }
    let text = core::str::from_utf8(line).map_err(|_| Reason::NotAscii)?;
    match text.trim_matches([' ', '\t']) {
        "" => Err(Reason::EmptyLine),
        text => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::{lines, printable, Line, MAX_LINE};
    use crate::logic::command::Reason;

    fn cut(buf: &[u8]) -> Vec<(usize, &[u8])> {
        lines(buf)
            .map(|Line { number, text }| (number, text))
            .collect()
    }

    #[test]
    fn a_write_is_cut_at_newlines() {
        assert_eq!(cut(b""), []);
        assert_eq!(cut(b"\n \n\t\n"), []);
        assert_eq!(cut(b"one"), [(1, &b"one"[..])]);
        assert_eq!(cut(b"one\n"), [(1, &b"one"[..])]);
        assert_eq!(
            cut(b"\none\n\n two \nthree"),
            [(2, &b"one"[..]), (4, b" two "), (5, b"three")]
        );
        assert_eq!(cut(b"\r\n"), [(1, &b"\r"[..])]);
    }

    #[test]
    fn only_printable_lines_pass() {
        assert_eq!(printable(b" \tenable[a]=1\t "), Ok("enable[a]=1"));
        assert_eq!(printable(b"~ !"), Ok("~ !"));
        assert_eq!(printable(b""), Err(Reason::EmptyLine));
        assert_eq!(printable(b" \t"), Err(Reason::EmptyLine));
        assert_eq!(printable(b"a\0"), Err(Reason::EmbeddedNul));
        for byte in (1..0x20).chain([0x7f]).filter(|&byte| byte != b'\t') {
            assert_eq!(printable(&[b'a', byte]), Err(Reason::ControlCharacter));
        }
        assert_eq!(printable("\u{e9}".as_bytes()), Err(Reason::NotAscii));
        assert_eq!(printable(&[0xff]), Err(Reason::NotAscii));
    }

    #[test]
    fn the_longest_line() {
        assert!(printable(&[b'x'; MAX_LINE]).is_ok());
        assert_eq!(printable(&[b'x'; MAX_LINE + 1]), Err(Reason::LineTooLong));
    }
}
