// SPDX-License-Identifier: GPL-2.0

//! The end of a disk, `enable=0`, and of a device, `reset`.
//!
//! Both wait for servers, and a signal ends that. So all that takes long comes before the first thing
//! that could not be taken back:
//!
//! | wait | ended by | at the latest after | a signal |
//! |---|---|---|---|
//! | another command | its end | the bound of that | nothing was done |
//! | `enable=0`: a record is made | a group in sync that has it | `timeout` | the device stays enabled |
//! | `enable=0`: the flush | the servers' answers, or the loss of their channels | `timeout` | the device stays enabled, the flush goes on as any other |
//! | `enable=0`: the end of the resyncs | the answers to their copies, or as above | `timeout` | the device stays enabled, the resyncs end by themselves |
//! | `enable=0`: the end is recorded | answers | `connect_timeout` after the last one | only one that kills: the device is disabled without that |
//! | `reset`: the end of the channels | the servers' answers | 5 seconds | the channels end by themselves, and nothing but `reset` is carried out |
//!
//! What is waited for otherwise does not depend on servers: the device's own threads, each of which
//! looks whether it is over whenever it waits, and the disk, which has no request any more then.
//!
//! Locks: all of it runs under `control`.

use super::{
    connect::stop_all, flush::Flush, Control, Device, Failure, GONE, STAGE_ENDING, STAGE_GONE,
};
use crate::kapi::block::mq::GenDisk;
use crate::logic::{
    ids::GroupId,
    mirror::{Memories, Route, Starter, States},
};
use crate::mirror::Driver;
use crate::wait::Woken;
use kernel::{prelude::*, sync::Arc};

/// A signal came for who disables a device.
const STAYS_ENABLED: Failure = Failure {
    error: EINTR,
    reason: "interrupted; the device stays enabled",
};

/// One came for who resets it.
const STILL_ENDING: Failure = Failure {
    error: EINTR,
    reason: "interrupted; the device ends all the same, with another reset",
};

impl Device {
    pub(super) fn disable(&self, control: &mut Control) -> Result<(), Failure> {
        let no_disk = Failure::new(ENODEV, "the device is not enabled");
        let disk = control.disk.clone().ok_or(no_disk)?;
        self.seal_unless_open(&disk)?;
        let flushed = match self.come_to_rest(control, disk) {
            Ok(flushed) => flushed,
            Err(failure) => {
                // Nothing was taken away yet.
                self.mirror.set_failing(false);
                self.mirror.seal(false);
                return Err(failure);
            }
        };
        drop(control.keeper.take());
        drop(control.scout.take());
        self.end_resyncs();
        self.take_disk(control);
        drop(control.clock.take());
        drop(control.recorder.take());
        if flushed.is_ok() {
            self.end();
        } else {
            self.mirror.stop_records();
        }
        self.mirror.bounces.drain();
        self.mirror.set_size(0, None);
        self.mirror.set_failing(false);
        flushed.map_err(|e| Failure::new(e, "disabled, but a server did not flush its cache"))
    }

    /// Sees to it that all is recorded, that what the servers have in their caches is made durable, and
    /// that no resync is on its way; whether they have flushed. One that does not answer loses its group
    /// for that.
    ///
    /// # Errors
    ///
    /// Nobody waits for it any more, or there is no memory.
    fn come_to_rest(
        &self,
        control: &mut Control,
        disk: Arc<GenDisk<Driver>>,
    ) -> Result<Result, Failure> {
        self.mirror.await_record(&|| self.is_ending());
        if self.is_ending() {
            return Err(STAYS_ENABLED);
        }
        self.mirror.set_failing(true);
        // One that was given up covers nothing that was written since. But if it has failed, another one may
        // succeed without what it was to make durable.
        let before = self.await_flush(control)?;
        control.flush = Some(Flush::start(self.mirror.clone(), disk, before)?);
        let flushed = self.await_flush(control)?;
        if self.stop_resyncs() == Woken::Signal {
            return Err(STAYS_ENABLED);
        }
        Ok(flushed)
    }

    /// Waits for the flush that is on its way; what became of it.
    fn await_flush(&self, control: &mut Control) -> Result<Result, Failure> {
        let Some(flush) = control.flush.take() else {
            return Ok(Ok(()));
        };
        // Ended by an answer, by the loss of a channel, or by a signal.
        let _ = self.mirror.wait(u32::MAX, || flush.has_ended());
        if flush.has_ended() {
            return Ok(flush.join());
        }
        control.flush = Some(flush);
        Err(STAYS_ENABLED)
    }

    /// Takes the disk away, of which nobody tells any more.
    fn take_disk(&self, control: &mut Control) {
        // One that was given up has come to its end, as all requests have.
        drop(control.flush.take());
        drop(self.voice.lock().take());
        drop(control.disk.take());
    }

    fn seal_unless_open(&self, disk: &GenDisk<Driver>) -> Result<(), Failure> {
        disk.unless_open(|| self.mirror.seal(true))
            .map_err(|e| Failure::new(e, "the device is open"))
    }

    /// Takes the device apart: errors what is held, disconnects everything. Refused while the disk
    /// is open.
    pub(crate) fn take_apart(&self) -> Result<(), Failure> {
        self.in_turn(|control| {
            if self.is_gone() {
                return Err(GONE);
            }
            if let Some(disk) = &control.disk {
                self.seal_unless_open(disk)?;
            }
            self.stage.swap(STAGE_ENDING);
            if self.end_channels(control) == Woken::Signal {
                return Err(STILL_ENDING);
            }
            self.dismantle(control);
            Ok(())
        })?
    }

    /// The same when the module goes, and nobody can open the disk any more. Somebody may still try
    /// to, and have its lock for a moment, which must not keep this from ending the threads.
    pub(crate) fn take_apart_for_good(&self) {
        let mut control = self.control.lock();
        if !self.is_gone() {
            self.mirror.seal(true);
            // A signal makes this no shorter: the threads are joined.
            let _ = self.end_channels(&mut control);
            self.dismantle(&mut control);
        }
    }

    /// Fails what is held, and tells all threads of the device to end; waits for the channels.
    fn end_channels(&self, control: &mut Control) -> Woken {
        // The keeper may wait for who waits for memory, and that for what is held.
        self.mirror.set_failing(true);
        drop(control.clock.take());
        drop(control.keeper.take());
        drop(control.scout.take());
        drop(control.recorder.take());
        stop_all(&control.channels);
        // As long as that lasts it is no task that hangs, unless a signal is there already.
        let ended = || control.channels.iter().all(|threads| threads.has_ended());
        self.mirror.wait(u32::MAX, ended)
    }

    fn dismantle(&self, control: &mut Control) {
        self.stage.swap(STAGE_GONE);
        control.channels.clear();
        self.mirror.set_failing(true);
        self.end_resyncs();
        self.mirror.unpark();
        self.take_disk(control);
        self.mirror.bounces.drain();
        self.mirror.set_size(0, None);
        self.forget_memory();
        for group in GroupId::all() {
            self.mirror.clear(group);
            self.mirror.forget(group);
        }
    }
}
