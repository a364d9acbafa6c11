// SPDX-License-Identifier: GPL-2.0

//! What a start of a device with metadata needs of its device. What it does is decided in
//! `crate::logic::mirror::decide`.
//!
//! Locks: all of it runs under `control`. It waits there, for two minutes at most, until it is known
//! whether another client has the mirror. A signal for the writer of the command ends each wait.

use super::{Device, Failure};
use crate::kapi::{epoch_s, host_name};
use crate::logic::{
    ids::GroupId,
    meta::{Name as HostName, Owner},
    mirror::{NotStarted, Starter, World},
};
use crate::mirror::Mirror;
use crate::wait::Woken;
use kernel::{current, sync::atomic::ordering::Relaxed};

impl From<NotStarted> for Failure {
    fn from(why: NotStarted) -> Self {
        Self::of(why.errno(), why.as_str())
    }
}

impl Starter for Device {
    type Mirror = Mirror;

    fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    fn patience_ms(&self) -> u64 {
        let seconds = self.mirror.settings.connect_timeout.load(Relaxed);
        u64::from(seconds).saturating_mul(1000)
    }

    fn is_ending(&self) -> bool {
        current!().signal_pending()
    }

    fn pause(&self, ms: u32) -> bool {
        match self.mirror.wait(ms, || false) {
            Woken::Signal => false,
            Woken::TimedOut | Woken::Holds => true,
        }
    }

    fn is_unread(&self, group: GroupId) -> bool {
        self.mirror.group(group).is_unread()
    }

    fn prepare_marks(&self, bytes: u64) -> bool {
        self.mirror.prepare_marks(bytes).is_ok()
    }

    fn keep_marks(&self, bytes: u64) -> bool {
        self.mirror.keep_marks(bytes).is_ok()
    }

    #[inline(never)] // The host's name passes through this stack frame.
    fn owner(&self) -> Owner {
        let mut name = [0; 64];
        host_name(&mut name);
        Owner {
            nonce: [self.mirror.random().max(1), self.mirror.random()],
            name: HostName::from_bytes(name),
            since: epoch_s(),
        }
    }

    fn keeps_intent(&self) -> bool {
        self.mirror.settings.intent.load(Relaxed)
    }
}
