// SPDX-License-Identifier: GPL-2.0

//! A device: what commands do to it, and what it shows.
//!
//! | file | what |
//! |---|---|
//! | [`clock`] | the thread that looks which groups have been down for too long |
//! | [`companion`] | the threads of an enabled device: the clock, the keeper, the scout |
//! | [`connect`] | `connect`, `disconnect` |
//! | [`events`] | what programs are told of an enabled device |
//! | [`disk`] | `enable`: the disk that users see |
//! | [`end`] | `enable=0`, `reset`: the end of the disk, and of the device |
//! | [`flush`] | the flush of a disk that is to be taken away |
//! | [`groups`] | `setfaulty`, `hotadd`, `hotremove`: states of groups |
//! | [`keeper`] | the thread that brings groups back by itself |
//! | [`memory`] | `create`, `attach`, `forget`, and what the metadata says at `enable` |
//! | [`owner`] | whether another client has the mirror |
//! | [`scout`] | the thread that looks what an enabled device stands on |
//! | [`status`] | the device's lines in /proc/nbdinfo |
//! | [`turn`] | whose command is carried out |
//!
//! Lock order: `control`, under which commands run one at a time > everything of the mirror. The
//! status text takes `control` never, so it can be read while a command waits; nor do `setfaulty`,
//! which may be what the waiting command needs, and the settings.

mod clock;
mod companion;
mod connect;
mod disk;
mod end;
mod events;
mod flush;
mod groups;
mod keeper;
mod memory;
mod scout;
mod start;
mod status;
mod turn;

use crate::channel::{ChannelThreads, Count, Spec};
use crate::kapi::block::mq::{DiskDevice, GenDisk};
use crate::logic::{
    command::{DeviceId, Label, Verb},
    group::Refusal,
    mirror::{Asker, Starter, World},
    session::DownReason,
    MAX_GROUPS,
};
use crate::mirror::{Driver, Mirror};
use crate::resync::Resync;
use crate::sync::Word;
use crate::tidings::Tidings;
use crate::wait::Waiters;
use companion::Companion;
use flush::Flush;
use kernel::{
    prelude::*,
    sync::{
        atomic::{ordering::Relaxed, Atomic},
        new_mutex, new_spinlock, Arc, Mutex, SpinLock,
    },
};

/// Why a command failed.
#[derive(Clone, Copy)]
pub(crate) struct Failure {
    /// For the writer.
    pub(crate) error: Error,
    /// For the log and the status.
    pub(crate) reason: &'static str,
}

impl Failure {
    pub(crate) fn new(error: Error, reason: &'static str) -> Self {
        Self { error, reason }
    }

    /// One with a positive Linux errno, as what `logic` refuses has it.
    fn of(errno: i32, reason: &'static str) -> Self {
        Self::new(Error::from_errno(errno.saturating_neg()), reason)
    }
}

/// The device was reset while the command waited for it.
pub(crate) const GONE: Failure = Failure {
    error: ESTALE,
    reason: "the device was reset",
};

/// A `reset` of the device has begun.
const ENDING: Failure = Failure {
    error: EBUSY,
    reason: "the device is being reset; if that was interrupted, reset it once more",
};

/// A signal came for who waited for a server.
const INTERRUPTED: Failure = Failure {
    error: EINTR,
    reason: "interrupted",
};

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::of(refusal.errno(), refusal.as_str())
    }
}

impl From<DownReason> for Failure {
    fn from(reason: DownReason) -> Self {
        Self::of(reason.errno(), reason.as_str())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let reason = if error == ENOMEM {
            "out of memory"
        } else {
            "the kernel refused"
        };
        Self::new(error, reason)
    }
}

impl From<kernel::alloc::AllocError> for Failure {
    fn from(_: kernel::alloc::AllocError) -> Self {
        ENOMEM.into()
    }
}

/// No command has succeeded for the device.
const STAGE_BLANK: u64 = 0;
/// One has.
const STAGE_KNOWN: u64 = 1;
/// A `reset` was begun, which may have been interrupted.
const STAGE_ENDING: u64 = 3;
/// It was taken apart; whoever still finds it must look for another one.
const STAGE_GONE: u64 = 2;

/// What commands change.
struct Control {
    disk: Option<Arc<GenDisk<Driver>>>,
    /// One that nobody waits for any more.
    flush: Option<Flush>,
    channels: KVec<ChannelThreads<Mirror>>,
    /// While the device is enabled.
    clock: Option<Companion>,
    /// The same.
    keeper: Option<Companion>,
    /// The same, with metadata.
    recorder: Option<Companion>,
    /// The same; its thread ends before.
    scout: Option<Companion>,
}

/// One device.
#[pin_data]
pub(crate) struct Device {
    id: DeviceId,
    mirror: Arc<Mirror>,
    #[pin]
    control: Mutex<Control>,
    /// Commands that wait for it.
    #[pin]
    turns: Waiters,
    /// The resyncs, running or over, of each group. Apart from `control` for the status text.
    #[pin]
    resyncs: Mutex<[Option<Resync>; MAX_GROUPS]>,
    #[pin]
    last_error: SpinLock<Option<(i32, &'static str)>>,
    /// Whose events programs hear, while the device is enabled.
    #[pin]
    voice: Mutex<Option<DiskDevice>>,
    /// The number of the last one.
    events: Count,
    read_only: Atomic<bool>,
    /// A group that enbd itself faulted is re-added when it is back.
    autoadd: Atomic<bool>,
    /// How far it has come, for those who do not wait for `control`.
    stage: Word,
}

impl Device {
    /// A device without groups.
    pub(crate) fn new(id: DeviceId, tidings: Arc<Tidings>) -> Result<Arc<Self>> {
        let mirror = Arc::pin_init(Mirror::new(id.letter(), tidings), GFP_KERNEL)?;
        Arc::pin_init(
            pin_init!(Self {
                id,
                mirror,
                control <- new_mutex!(Control {
                    disk: None,
                    flush: None,
                    channels: KVec::new(),
                    clock: None,
                    keeper: None,
                    recorder: None,
                    scout: None,
                }, "enbd::Device::control"),
                turns <- Waiters::new(),
                resyncs <- new_mutex!([const { None }; MAX_GROUPS], "enbd::Device::resyncs"),
                last_error <- new_spinlock!(None, "enbd::Device::last_error"),
                voice <- new_mutex!(None, "enbd::Device::voice"),
                events: Count::default(),
                read_only: Atomic::new(false),
                autoadd: Atomic::new(true),
                stage: Word::new(STAGE_BLANK),
            }),
            GFP_KERNEL,
        )
    }

    /// Whether it was taken apart.
    pub(crate) fn is_gone(&self) -> bool {
        self.stage.load() == STAGE_GONE
    }

    /// Gives the device up if no command has succeeded for it; whether it is gone.
    pub(crate) fn give_up_if_blank(&self) -> bool {
        // Not while another command may be about to succeed. Who does not wait for that leaves the
        // device as it is.
        let give_up = |_: &mut Control| {
            let _ = self.stage.compare_exchange(STAGE_BLANK, STAGE_GONE);
            self.is_gone()
        };
        self.in_turn(give_up).unwrap_or_else(|_| self.is_gone())
    }

    /// Notes that a command succeeds, so that the device stays, unless it is gone.
    fn stay(&self) -> Result<(), Failure> {
        match self.stage.compare_exchange(STAGE_BLANK, STAGE_KNOWN) {
            Err(STAGE_GONE) => Err(GONE),
            Err(STAGE_ENDING) => Err(ENDING),
            _ => Ok(()),
        }
    }

    /// Carries out a command, in the context of its writer.
    pub(crate) fn apply(self: &Arc<Self>, verb: &Verb<'_>) -> Result<(), Failure> {
        match verb {
            Verb::SetFaulty(group) if !self.is_gone() => self.set_faulty(*group),
            Verb::Timeout(_)
            | Verb::ConnectTimeout(_)
            | Verb::ShowErrs(_)
            | Verb::AutoAdd(_)
            | Verb::ResyncMin(_)
            | Verb::ResyncMax(_)
            | Verb::OwnerCheck(_)
            | Verb::Intent(_)
            | Verb::Compare(_)
            | Verb::IntentMax(_)
            | Verb::IntentIdle(_) => self.set(verb),
            _ => self
                .in_turn(|control| self.carry_out(control, verb))?
                .map_err(|failure| self.or_interrupted(failure)),
        }
    }

    /// What a command failed with: one that has not waited any longer, since a signal came, has not found
    /// that its time was up.
    fn or_interrupted(&self, failure: Failure) -> Failure {
        if failure.error == ETIMEDOUT && self.is_ending() {
            INTERRUPTED
        } else {
            failure
        }
    }

    /// How programs and people call it.
    pub(crate) fn name(&self) -> Option<Label> {
        *self.mirror.name.lock()
    }

    /// Names it, and takes the name before from it. Nobody else may have it.
    pub(crate) fn set_name(&self, label: Label) -> Result<(), Failure> {
        self.stay()?;
        *self.mirror.name.lock() = Some(label);
        Ok(())
    }

    /// Has the keeper tell the name that it has now.
    pub(crate) fn tell_name(&self) {
        self.mirror.changed();
    }

    /// A setting that is a word of its own, which waits for no other command.
    fn set(&self, verb: &Verb<'_>) -> Result<(), Failure> {
        // Before: who gives the device up must not take the setting with it.
        self.stay()?;
        let settings = &self.mirror.settings;
        match verb {
            Verb::Timeout(s) => settings.timeout.store(*s, Relaxed),
            Verb::ConnectTimeout(s) => settings.connect_timeout.store(*s, Relaxed),
            Verb::ShowErrs(on) => settings.show_errs.store(*on, Relaxed),
            Verb::AutoAdd(on) => self.autoadd.store(*on, Relaxed),
            Verb::ResyncMin(kib) => settings.resync_min.store(*kib, Relaxed),
            Verb::ResyncMax(kib) => settings.resync_max.store(*kib, Relaxed),
            Verb::Compare(compare) => settings.compare.store(compare.to_bits(), Relaxed),
            Verb::OwnerCheck(s) => settings.owner_check.store(*s, Relaxed),
            Verb::Intent(on) => settings.intent.store(*on, Relaxed),
            Verb::IntentMax(mib) => settings.intent_max.store(*mib, Relaxed),
            Verb::IntentIdle(s) => settings.intent_idle.store(*s, Relaxed),
            _ => return Err(Failure::new(EINVAL, "not a setting")),
        }
        Ok(())
    }

    /// A command whose turn it is.
    fn carry_out(self: &Arc<Self>, control: &mut Control, verb: &Verb<'_>) -> Result<(), Failure> {
        match self.stage.load() {
            STAGE_GONE => return Err(GONE),
            STAGE_ENDING => return Err(ENDING),
            _ => {}
        }
        match verb {
            Verb::Connect {
                group,
                addr,
                name,
                channels,
                force,
                metadata,
            } => {
                let spec = Spec::here(*group, *addr, *name)?;
                self.connect(control, spec, *channels, *force, *metadata)?;
            }
            Verb::Attach {
                addr,
                name,
                channels,
            } => self.attach(control, *addr, *name, *channels)?,
            Verb::Create {
                group,
                equal,
                force,
            } => self.create(control, *group, *equal, *force)?,
            Verb::Forget(group) => self.forget_member(control, *group)?,
            Verb::Disconnect { group, addr } => self.disconnect(control, *group, addr)?,
            Verb::Enable(ask) => self.enable(control, *ask)?,
            Verb::Disable => self.disable(control)?,
            Verb::HotAdd { group, mode } => {
                self.hot_add(control, *group, *mode, Asker::Administrator, true)?;
            }
            Verb::HotRemove(group) => self.hot_remove(control, *group)?,
            Verb::BlockSize(bytes) => self.set_blocksize(control, *bytes)?,
            // `reset` ends the device, so it is the registry's to do. The others need no turn.
            _ => return Err(Failure::new(EINVAL, "not a command for a device")),
        }
        self.stay()
    }

    /// Notes what the last command that failed said.
    pub(crate) fn note(&self, failure: &Failure) {
        let errno = failure.error.to_errno().saturating_neg();
        *self.last_error.lock() = Some((errno, failure.reason));
    }
}
