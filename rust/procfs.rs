// SPDX-License-Identifier: GPL-2.0

//! /proc/nbdinfo: commands in, status out, and the devices that they name.
//!
//! All lines of one write are read before the first is carried out, so that a malformed one changes
//! nothing. A line that cannot be carried out ends the write with its errno; the lines before it
//! stand.
//!
//! Lock order: `devices` is a leaf but for the names, held only to look a device up and to name one. Commands for one device come one
//! at a time, by a lock of its own; one that finds its device gone when its turn comes looks again.

use crate::device::{Device, Failure};
use crate::kapi::poll::PollQueue;
use crate::kapi::proc_fs::{is_admin, Opener, TextFile};
use crate::logic::{
    command::{device_of, lines, parse_line, Command, DeviceId, Label, Verb},
    status::{runs, write_closed, Reader, Run},
    MAX_DEVICES,
};
use crate::tidings::Tidings;
use core::fmt::Write;
use kernel::{
    prelude::*,
    seq_file::SeqFile,
    seq_print,
    sync::{new_mutex, Arc, Mutex},
};

/// The most bytes that one write may have.
const WRITE_MAX: usize = 4096;

/// All devices.
#[pin_data]
pub(crate) struct Registry {
    #[pin]
    devices: Mutex<[Option<Arc<Device>>; MAX_DEVICES]>,
    /// That something has changed.
    tidings: Arc<Tidings>,
}

struct Out<'a>(&'a SeqFile);

impl Write for Out<'_> {
    fn write_str(&mut self, s: &str) -> core::fmt::Result {
        seq_print!(self.0, "{}", s);
        Ok(())
    }
}

impl TextFile for Registry {
    fn show(&self, out: &SeqFile, opener: Opener<'_>) -> Result {
        let mut out = Out(out);
        let reader = if opener.is_admin() {
            Reader::Admin
        } else {
            Reader::Other
        };
        let mut open = 0u32;
        for (index, device) in self.devices.lock().iter().enumerate() {
            if device.is_some() {
                open |= 1u32.checked_shl(index as u32).unwrap_or(0);
            }
        }
        for run in runs(open) {
            match run {
                Run::Open(id) => match self.find(id) {
                    Some(device) => device.show(&mut out, reader)?,
                    // It was forgotten in between.
                    None => write_closed(&mut out, id, id).map_err(|_| ENOMEM)?,
                },
                Run::Closed { first, last } => {
                    write_closed(&mut out, first, last).map_err(|_| ENOMEM)?;
                }
            }
        }
        Ok(())
    }

    fn changes(&self) -> u64 {
        self.tidings.changes()
    }

    fn pollers(&self) -> &PollQueue {
        self.tidings.pollers()
    }

    fn admit(&self, opener: Opener<'_>, len: usize) -> Result {
        // Of the opener as well: what has the file for its output does not know what it writes to.
        if !opener.is_admin() || !is_admin() {
            return Err(EPERM);
        }
        if len > WRITE_MAX {
            let failure = Failure::new(E2BIG, "more than 4096 bytes at once");
            return Err(self.refuse(None, None, 1, failure));
        }
        Ok(())
    }

    fn write(&self, text: &[u8]) -> Result {
        for line in lines(text) {
            if let Err(reason) = parse_line(line.text) {
                let error = Error::from_errno(reason.errno().saturating_neg());
                let failure = Failure::new(error, reason.as_str());
                let device = device_of(line.text);
                return Err(self.refuse(device, None, line.number, failure));
            }
        }
        for line in lines(text) {
            // Parsed above, so it parses again.
            let Ok(command) = parse_line(line.text) else {
                continue;
            };
            let result = self.carry_out(&command);
            self.tidings.tell();
            if let Err(failure) = result {
                let name = Some(command.verb.name());
                return Err(self.refuse(Some(command.device), name, line.number, failure));
            }
        }
        Ok(())
    }
}

impl Registry {
    /// No devices.
    pub(crate) fn new(tidings: Arc<Tidings>) -> impl PinInit<Self> {
        pin_init!(Self {
            tidings,
            devices <- new_mutex!([const { None }; MAX_DEVICES], "enbd::Registry::devices"),
        })
    }

    fn find(&self, id: DeviceId) -> Option<Arc<Device>> {
        self.devices.lock().get(id.index())?.clone()
    }

    /// The device, made if there is none.
    fn find_or_make(&self, id: DeviceId) -> Result<Arc<Device>> {
        if let Some(device) = self.find(id) {
            return Ok(device);
        }
        let made = Device::new(id, self.tidings.clone())?;
        let mut devices = self.devices.lock();
        let slot = devices.get_mut(id.index()).ok_or(ENODEV)?;
        // Somebody else may have been faster.
        Ok(slot.get_or_insert(made).clone())
    }

    fn carry_out(&self, command: &Command<'_>) -> Result<(), Failure> {
        loop {
            let device = match command.verb {
                Verb::Connect { .. }
                | Verb::Attach { .. }
                | Verb::BlockSize(_)
                | Verb::Timeout(_)
                | Verb::ConnectTimeout(_)
                | Verb::ShowErrs(_)
                | Verb::AutoAdd(_)
                | Verb::ResyncMin(_)
                | Verb::ResyncMax(_)
                | Verb::Compare(_)
                | Verb::OwnerCheck(_)
                | Verb::Intent(_)
                | Verb::IntentMax(_)
                | Verb::IntentIdle(_)
                | Verb::Name(_) => self.find_or_make(command.device)?,
                Verb::Create { .. }
                | Verb::Forget(_)
                | Verb::Enable(_)
                | Verb::Disable
                | Verb::SetFaulty(_)
                | Verb::HotAdd { .. }
                | Verb::HotRemove(_)
                | Verb::Disconnect { .. }
                | Verb::Reset => self.find(command.device).ok_or(NO_DEVICE)?,
            };
            match self.carry_out_on(&device, command) {
                // Somebody else has reset it meanwhile: there may be another one, or none.
                // The errno alone does not tell: a path may lead to it, too.
                Err(failure) if failure.error == ESTALE && device.is_gone() => {
                    self.forget(command.device, &device);
                }
                result => return result,
            }
        }
    }

    fn carry_out_on(&self, device: &Arc<Device>, command: &Command<'_>) -> Result<(), Failure> {
        match command.verb {
            Verb::Reset => {
                device.take_apart()?;
                self.forget(command.device, device);
                Ok(())
            }
            Verb::Connect { .. } | Verb::Attach { .. } | Verb::Name(_) => {
                let result = match command.verb {
                    Verb::Name(label) => self.name(command.device, device, label),
                    _ => device.apply(&command.verb),
                };
                if result.is_err() && device.give_up_if_blank() {
                    self.forget(command.device, device);
                }
                result
            }
            _ => device.apply(&command.verb),
        }
    }

    /// Names a device. Two at once see each other, since `devices` is held.
    fn name(&self, id: DeviceId, device: &Device, label: Label) -> Result<(), Failure> {
        let devices = self.devices.lock();
        let mut others = devices
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != id.index())
            .filter_map(|(_, other)| other.as_ref());
        if others.any(|other| other.name() == Some(label)) {
            return Err(Failure::new(EEXIST, "another device has this name"));
        }
        device.set_name(label)?;
        drop(devices);
        device.tell_name();
        Ok(())
    }

    fn forget(&self, id: DeviceId, device: &Arc<Device>) {
        let mut devices = self.devices.lock();
        let slot = devices.get_mut(id.index());
        let gone = slot.and_then(|slot| slot.take_if(|known| Arc::ptr_eq(known, device)));
        drop(devices);
        drop(gone);
    }

    /// Takes all devices apart. Only when no command can come any more, and none can be open, since
    /// the module is on its way out.
    pub(crate) fn clear(&self) {
        for index in 0..MAX_DEVICES {
            let device = self.devices.lock().get_mut(index).and_then(Option::take);
            if let Some(device) = device {
                device.take_apart_for_good();
            }
        }
    }

    /// Tells the log, the status and the writer why a line was refused, as far as it can be told
    /// what it was about.
    fn refuse(
        &self,
        device: Option<DeviceId>,
        verb: Option<&str>,
        line: usize,
        failure: Failure,
    ) -> Error {
        if let Some(device) = device.and_then(|id| self.find(id)) {
            device.note(&failure);
            self.tidings.tell();
        }
        let (errno, reason) = (failure.error.to_errno(), failure.reason);
        let verb = verb.unwrap_or("command");
        match device.map(DeviceId::letter) {
            Some(letter) => {
                pr_info!("[{letter}] {verb} refused (line {line}): {reason} ({errno})\n");
            }
            None => pr_info!("{verb} refused (line {line}): {reason} ({errno})\n"),
        }
        failure.error
    }
}

const NO_DEVICE: Failure = Failure {
    error: ENODEV,
    reason: "no such device",
};
