// SPDX-License-Identifier: GPL-2.0

//! Names of devices, which are names of files in /dev/enbd too.

use super::Reason;

/// The longest name of a device, in bytes.
pub const MAX_LABEL: usize = 64;

/// The name of a device: letters, digits, dots, `-` and `_`, the first a letter or a digit, but not one
/// small letter alone, which names a device already.
// INVARIANT: the first `len` bytes are such a name, and all others 0.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Label {
    text: [u8; MAX_LABEL],
    len: usize,
}

impl Label {
    /// The name that a word is.
    ///
    /// # Errors
    ///
    /// [`Reason::BadLabel`]: it is none.
    pub fn parse(word: &str) -> Result<Self, Reason> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        let bytes = word.as_bytes();
        let begins = bytes.first().is_some_and(u8::is_ascii_alphanumeric);
        let is_letter = matches!(bytes, [b'a'..=b'z']);
        if !begins || is_letter || !bytes.iter().all(|byte| is_plain(*byte)) {
            return Err(Reason::BadLabel);
        }
        let mut label = Self {
            text: [0; MAX_LABEL],
            len: bytes.len(),
        };
        let room = label.text.get_mut(..bytes.len()).ok_or(Reason::BadLabel)?;
        room.copy_from_slice(bytes);
        Ok(label)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        let text = self.text.get(..self.len).unwrap_or_default();
        core::str::from_utf8(text).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::{Label, Reason, MAX_LABEL};

    #[test]
    fn names() {
        let longest = "n".repeat(MAX_LABEL);
        for name in ["data", "A", "0", "ab", "a.b-c_d", "x.", longest.as_str()] {
            let label = Label::parse(name).expect("a name");
            assert_eq!(label.as_str(), name);
        }
        let longer = "n".repeat(MAX_LABEL + 1);
        for word in [
            "",
            "a",
            "z",
            ".",
            "..",
            "-x",
            "_x",
            "a/b",
            "a b",
            "a\\040",
            "\u{e9}",
            "x\0",
            longer.as_str(),
        ] {
            assert_eq!(Label::parse(word), Err(Reason::BadLabel), "{word:?}");
        }
    }
}
