// SPDX-License-Identifier: GPL-2.0

//! Which devices the status shows one by one, and which it draws together as closed.
//!
//! Shape: [`runs`] cuts `a`..`z` into open devices and runs of closed ones, in order; the caller
//! writes the former with `write_device` and the latter with [`write_closed`].
//! Errors: those of the writer.

use crate::logic::command::DeviceId;
use core::fmt::{self, Write};

/// One section of the status.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Run {
    /// A device that exists.
    Open(DeviceId),
    /// Neighbouring devices that do not exist.
    Closed {
        /// The first of them.
        first: DeviceId,
        /// The last of them, which may be the first.
        last: DeviceId,
    },
}

/// The sections of the status, in order. Every device is in just one of them.
#[derive(Clone, Debug)]
pub struct Runs {
    open: u32,
    next: usize,
}

/// The sections of the status if the devices of the bits of `open` exist: bit 0 is device `a`, and
/// bits from 26 on are ignored.
pub fn runs(open: u32) -> Runs {
    Runs { open, next: 0 }
}

impl Runs {
    fn is_open(&self, device: DeviceId) -> bool {
        // A device's index is below 26, so that the shift stays within the 32 bits.
        (self.open >> device.index()) & 1 == 1
    }
}

impl Iterator for Runs {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        let first = DeviceId::new(self.next)?;
        self.next += 1;
        if self.is_open(first) {
            return Some(Run::Open(first));
        }
        let mut last = first;
        while let Some(device) = DeviceId::new(self.next) {
            if self.is_open(device) {
                break;
            }
            last = device;
            self.next += 1;
        }
        Some(Run::Closed { first, last })
    }
}

/// Writes the line of a run of closed devices: `Device b-z:\tClosed`, or `Device b:\tClosed` for
/// one.
///
/// # Errors
///
/// Those of `w`.
pub fn write_closed(w: &mut impl Write, first: DeviceId, last: DeviceId) -> fmt::Result {
    write!(w, "Device {}", first.letter())?;
    if first != last {
        write!(w, "-{}", last.letter())?;
    }
    w.write_str(":\tClosed\n")
}

#[cfg(test)]
mod tests {
    use super::{runs, write_closed, Run};

    /// The status with nothing but the headings.
    fn headings(open: u32) -> String {
        let mut text = String::new();
        for run in runs(open) {
            match run {
                Run::Open(device) => text.push_str(&format!("{}\n", device.letter())),
                Run::Closed { first, last } => {
                    write_closed(&mut text, first, last).expect("a String takes all");
                }
            }
        }
        text
    }

    #[test]
    fn sections() {
        assert_eq!(headings(0), "Device a-z:\tClosed\n");
        assert_eq!(headings(1), "a\nDevice b-z:\tClosed\n");
        assert_eq!(headings(2), "Device a:\tClosed\nb\nDevice c-z:\tClosed\n");
        assert_eq!(
            headings(1 << 25 | 1 << 24 | 1 << 22),
            "Device a-v:\tClosed\nw\nDevice x:\tClosed\ny\nz\n"
        );
        assert_eq!(headings(u32::MAX).lines().count(), 26);
        assert!(!headings(u32::MAX).contains("Closed"));
        assert_eq!(headings(1 << 26), headings(0));
    }
}
