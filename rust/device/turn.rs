// SPDX-License-Identifier: GPL-2.0

//! Whose command is carried out: one at a time of each device.
//!
//! Some wait for servers, for as long as their bounds say. Who waits behind them may give up: a mutex
//! alone would let it wait where no signal reaches it, and after two minutes the kernel would take it
//! for hung. So nobody who can be interrupted waits for `control` itself: it is tried, and tried again
//! when whoever had it wakes the others up.

use super::{Control, Device, Failure};
use kernel::prelude::*;

/// A signal came for whoever waited for another command.
const GIVEN_UP: Failure = Failure {
    error: EINTR,
    reason: "interrupted while another command was carried out",
};

impl Device {
    /// Runs `f` when no other command is being carried out.
    ///
    /// # Errors
    ///
    /// A signal came before that.
    pub(super) fn in_turn<R>(&self, f: impl FnOnce(&mut Control) -> R) -> Result<R, Failure> {
        let mut taken = None;
        // Ended by a signal, or by having it.
        let _ = self.turns.wait(None, || {
            taken = self.control.try_lock();
            taken.is_some()
        });
        let mut control = taken.ok_or(GIVEN_UP)?;
        let result = f(&mut control);
        drop(control);
        self.turns.wake_all();
        Ok(result)
    }

    /// Runs `f` if no command is being carried out now.
    pub(super) fn if_idle<R>(&self, f: impl FnOnce(&mut Control) -> R) -> Option<R> {
        let mut control = self.control.try_lock()?;
        let result = f(&mut control);
        drop(control);
        self.turns.wake_all();
        Some(result)
    }
}
