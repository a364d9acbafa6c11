// SPDX-License-Identifier: GPL-2.0

//! Changes of a group's state.
//!
//! The view changes first, by compare-and-swap; what follows from it is done afterwards. Who works
//! under the old view either is found by that (transfers that wait in the table) or is waited for
//! (claims of older epochs).

use super::Driver;
use super::{GroupFault, Mirror};
use crate::channel::{Table, SLOTS};
use crate::logic::{
    barrier::MAX_AGE,
    group::{GroupEvent, Refusal},
};
use kernel::{prelude::*, sync::atomic::ordering::Full};

impl Mirror {
    /// Adds a group: in sync while the device was never enabled, since then it is the
    /// administrator's word that all are equal; and faulty with everything marked afterwards.
    pub(crate) fn join(&self, group: usize) -> Result<(), Refusal> {
        let stale = self.last_sectors() > 0 && !self.view().readable().is_empty();
        let event = if stale {
            GroupEvent::JoinStale
        } else {
            GroupEvent::JoinWhole
        };
        if let Some(g) = self.group(group) {
            if stale {
                g.map.mark_all();
            }
            g.info.lock().fault = stale.then_some(GroupFault::Joined);
        }
        self.change_view(|view| view.after(group, event))?;
        Ok(())
    }

    /// Takes a group out of service. Writes mark its map from now on.
    pub(crate) fn fault(&self, group: usize, reason: GroupFault) -> Result<(), Refusal> {
        self.change_view(|view| view.after(group, GroupEvent::Fault))?;
        if let Some(g) = self.group(group) {
            g.info.lock().fault = Some(reason);
        }
        pr_info!(
            "[{}] group {} is faulty: {}\n",
            self.letter(),
            group,
            reason.as_str()
        );
        self.mark_unflushed(group);
        self.return_waiting(group);
        Ok(())
    }

    /// Whether a write is held for so long that no group may be brought back before it has ended.
    pub(crate) fn holds_old_write(&self) -> bool {
        let epoch = self.view().epoch();
        self.claims.iter().any(|claim| claim.age(epoch) > MAX_AGE)
    }

    /// Starts to bring a faulty group back: from now on it gets new writes. The map may be read
    /// when [`Mirror::is_settled`].
    pub(crate) fn hot_add(&self, group: usize) -> Result<u32, Refusal> {
        let view = self.change_view(|view| view.after(group, GroupEvent::HotAdd))?;
        Ok(view.epoch())
    }

    /// Says that somebody is going to wait, or waits no more, for [`Mirror::is_settled`].
    pub(crate) fn settling(&self, waits: bool) {
        if waits {
            self.settling.fetch_add(1, Full);
        } else {
            self.settling.fetch_sub(1, Full);
        }
    }

    /// Whether no write goes on that was sent under another view than that of `epoch`. A change of
    /// another group's state meanwhile only makes this wait longer.
    pub(crate) fn is_settled(&self, epoch: u32) -> bool {
        self.claims.iter().all(|claim| claim.age(epoch) == 0)
    }

    /// The resync of a group has ended: it is in sync.
    pub(crate) fn synced(&self, group: usize) -> Result<(), Refusal> {
        self.change_view(|view| view.after(group, GroupEvent::Synced))?;
        if let Some(g) = self.group(group) {
            g.info.lock().fault = None;
        }
        Ok(())
    }

    /// Drops a faulty group.
    pub(crate) fn remove(&self, group: usize) -> Result<(), Refusal> {
        self.change_view(|view| view.after(group, GroupEvent::Remove))?;
        self.forget(group);
        Ok(())
    }

    /// Drops a group whatever its state: the device is being taken apart.
    pub(crate) fn clear(&self, group: usize) {
        // Never refused.
        let _ = self.change_view(|view| Ok(view.cleared(group)));
        self.return_waiting(group);
        self.forget(group);
    }

    fn forget(&self, group: usize) {
        if let Some(g) = self.group(group) {
            g.map.remove();
            let mut info = g.info.lock();
            info.export = None;
            info.fault = None;
            info.down_since = None;
        }
    }

    /// Gives back the transfers that wait for a channel of `group`.
    fn return_waiting(&self, group: usize) {
        self.each_waiting(group, |table, number| {
            if let Some(transfer) = self.take_waiting(table, number, |_| true) {
                self.not_served(group, number, transfer);
            }
        });
    }

    /// Fails the transfers that wait for a channel, of all groups.
    pub(super) fn fail_waiting(&self) {
        for group in 0..crate::logic::MAX_GROUPS {
            self.return_waiting(group);
        }
    }

    /// Calls `f` with each number that may have a transfer waiting for a channel of `group`.
    pub(super) fn each_waiting(&self, group: usize, mut f: impl FnMut(&Table<Driver>, u32)) {
        let Some(table) = self.group(group).and_then(|g| g.table()) else {
            return;
        };
        for number in 0..SLOTS as u32 {
            f(table, number);
        }
    }
}
