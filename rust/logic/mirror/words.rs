// SPDX-License-Identifier: GPL-2.0

//! The words that hold the state of a mirror and of its groups. Those of its requests: [`super::pdu`].

use super::{
    health::{Health, HealthEvent},
    COPIES_EACH,
};
use crate::logic::{
    barrier::{Crowd, Window},
    export::Lack,
    group::{GroupFault, GroupSet, Refusal, View},
    ids::{ChannelId, ChannelSet, GroupId, SlotId},
    word::{update, OptWord},
    MAX_GROUPS,
};
use crate::sync::Word;

/// The state of a mirror, apart from what its locks protect.
pub struct Core {
    pub(super) view: Word,
    groups: [GroupCore; MAX_GROUPS],
    pub(super) windows: [[Window; COPIES_EACH]; MAX_GROUPS],
    /// Resyncs that wait for claims of any range.
    pub(super) settling: Word,
    /// The writes on their way, by region.
    pub(super) crowd: Crowd,
    /// A write waits for the end of another one of the same blocks.
    pub(super) postponed: Word,
    /// Requests fail instead of waiting for a group: the device is being enabled or taken away.
    pub(super) failing: Word,
    /// Sectors of the enabled device; 0 while it is not.
    pub(super) sectors: Word,
    /// Sectors of the device when it was last enabled.
    pub(super) last_sectors: Word,
    /// Channels that have transfers to send for requests that were not the last of their batch.
    pub(super) unkicked: Word,
    pub(super) last_active: Word,
    /// Moves on with each choice, so that what is equally good is taken in turn.
    pub(super) turn: Word,
    /// The group that was read from last.
    pub(super) last_read: Word,
    /// How often a group became the source though its server may have lost something.
    pub(super) losses: Word,
    /// Not 0: somebody waits for writes that are sent from group to group.
    trying: Word,
    /// The groups that a durable record may call in sync, one bit each; none without metadata.
    named: Word,
    /// The groups that the last record calls in sync, one bit each, once it is durable on all of them.
    recorded: Word,
    /// The groups that have the last intent page, one bit each.
    paged: Word,
    /// The groups that are to be recorded as getting all, one bit each.
    to_adopt: Word,
    /// Not 0: another client has the mirror, so nothing is written any more.
    fenced: Word,
    /// How many transfers of metadata have ended.
    answers: Word,
    same: Word,
    /// How often a server has refused to write zeroes since the device was enabled.
    pub(super) zeroes_refused: Word,
}

impl Default for Core {
    fn default() -> Self {
        Self {
            view: Word::new(0),
            groups: core::array::from_fn(|_| GroupCore::default()),
            windows: core::array::from_fn(|_| core::array::from_fn(|_| Window::default())),
            settling: Word::new(0),
            crowd: Crowd::default(),
            postponed: Word::new(0),
            failing: Word::new(0),
            sectors: Word::new(0),
            last_sectors: Word::new(0),
            unkicked: Word::new(0),
            last_active: Word::new(0),
            turn: Word::new(0),
            last_read: Word::new(0),
            losses: Word::new(0),
            trying: Word::new(0),
            named: Word::new(0),
            recorded: Word::new(0),
            paged: Word::new(0),
            to_adopt: Word::new(0),
            fenced: Word::new(0),
            answers: Word::new(0),
            same: Word::new(0),
            zeroes_refused: Word::new(0),
        }
    }
}

impl Core {
    /// The states of the groups now.
    pub fn view(&self) -> View {
        View::from_bits(self.view.load())
    }

    /// Changes the view; gives the new one.
    pub(super) fn change_view(
        &self,
        change: impl Fn(View) -> Result<View, Refusal>,
    ) -> Result<View, Refusal> {
        let mut old = self.view.load();
        loop {
            let new = change(View::from_bits(old))?;
            match self.view.compare_exchange(old, new.bits()) {
                Ok(_) => return Ok(new),
                Err(now) => old = now,
            }
        }
    }

    /// What is known of a group.
    pub fn group(&self, group: GroupId) -> &GroupCore {
        group.pick(&self.groups)
    }

    /// Window number `copy` of the resync of `target`.
    pub fn window(&self, target: GroupId, copy: usize) -> Option<&Window> {
        target.pick(&self.windows).get(copy)
    }

    /// The channel that was the last to be active.
    pub fn last_active(&self) -> Option<ChannelId> {
        ChannelId::new(self.last_active.load() as usize)
    }

    /// Sectors of the enabled device; 0 while it is not enabled.
    pub fn sectors(&self) -> u64 {
        self.sectors.load()
    }

    /// Sectors of the device when it was last enabled; 0 if it never was.
    pub fn last_sectors(&self) -> u64 {
        self.last_sectors.load()
    }

    /// The device was not enabled after all: its size is what it was before.
    pub fn set_last_sectors(&self, sectors: u64) {
        self.last_sectors.store(sectors);
    }

    /// Whether requests fail instead of waiting.
    pub fn is_failing(&self) -> bool {
        self.failing.load() != 0
    }

    /// Whether somebody waits for writes that are sent from group to group.
    pub(super) fn is_trying(&self) -> bool {
        self.trying.load() != 0
    }

    pub(super) fn set_trying(&self, trying: bool) {
        self.trying.store(u64::from(trying));
    }

    /// The groups that a durable record may call in sync.
    pub fn named(&self) -> GroupSet {
        GroupSet::from_bits(self.named.load() as u8)
    }

    /// Changes them. Full barrier: who lets a request wait for a record looks at them afterwards.
    pub(super) fn change_named(&self, change: impl Fn(GroupSet) -> GroupSet) {
        update(&self.named, |old| {
            change(GroupSet::from_bits(old as u8)).bits().into()
        });
    }

    /// The groups that the last record calls in sync.
    pub(super) fn recorded(&self) -> GroupSet {
        GroupSet::from_bits(self.recorded.load() as u8)
    }

    /// It calls these in sync.
    pub(super) fn set_recorded(&self, in_sync: GroupSet) {
        self.recorded.store(in_sync.bits().into());
    }

    /// The groups that have the last intent page.
    pub(super) fn paged(&self) -> GroupSet {
        GroupSet::from_bits(self.paged.load() as u8)
    }

    /// These have. Only under the lock of what is known of the metadata.
    pub(super) fn set_paged(&self, groups: GroupSet) {
        self.paged.store(groups.bits().into());
    }

    /// How many transfers of metadata have ended: who waits for many of them waits while this goes up.
    pub fn metadata_answers(&self) -> u64 {
        self.answers.load()
    }

    /// Another one has.
    pub(super) fn note_metadata_answer(&self) {
        self.answers.fetch_add(1);
    }

    /// How many blocks resyncs have compared and found equal, and so not written.
    pub fn same_blocks(&self) -> u64 {
        self.same.load()
    }

    /// So many more.
    pub fn note_same(&self, blocks: u64) {
        self.same.fetch_add(blocks);
    }

    /// Whether another client has the mirror.
    pub fn is_fenced(&self) -> bool {
        self.fenced.load() != 0
    }

    /// It has: nothing is written any more. Full barrier: who lets a request wait looks at this
    /// afterwards.
    pub(super) fn fence(&self) {
        self.fenced.swap(1);
    }

    /// The device has ended.
    pub(super) fn lift_fence(&self) {
        self.fenced.swap(0);
    }

    /// The groups that are out of service, by this view, and that a durable record may call in sync:
    /// while there are any, nothing is acknowledged that they may lack (R1).
    pub fn unrecorded_in(&self, view: View) -> GroupSet {
        self.named().without(view.writable())
    }

    /// Whether no write may be sent by this view: something is to be recorded first, or another client
    /// has the mirror.
    pub(super) fn must_wait(&self, view: View) -> bool {
        // Without metadata, and most of the time, both words are 0.
        self.is_fenced() || !self.unrecorded_in(view).is_empty()
    }

    /// Whether what must wait may, or fails: the device is being taken away, or is not ours any more.
    pub(super) fn may_wait(&self) -> bool {
        !self.is_failing() && !self.is_fenced()
    }

    /// The groups that are unrecorded now.
    pub fn unrecorded(&self) -> GroupSet {
        self.unrecorded_in(self.view())
    }

    /// The groups that are to be recorded as getting all.
    pub(super) fn to_adopt(&self) -> GroupSet {
        GroupSet::from_bits(self.to_adopt.load() as u8)
    }

    /// Changes them. Full barrier.
    pub(super) fn change_to_adopt(&self, change: impl Fn(GroupSet) -> GroupSet) {
        update(&self.to_adopt, |old| {
            change(GroupSet::from_bits(old as u8)).bits().into()
        });
    }

    /// A number that is another one each time, with no pattern that choices of two or four could
    /// fall into.
    pub(super) fn next_turn(&self) -> u32 {
        let turn = self.turn.load() as u32;
        let next = turn.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // Two that come at once may take the same turn: no harm.
        self.turn.store(u64::from(next));
        next >> 16
    }
}

/// What is known of a group, apart from its state and its export.
pub struct GroupCore {
    /// The channels that carry requests, one bit each.
    pub(super) up: Word,
    /// The channels whose connection brings answers that count, one bit each: those that are up, and
    /// those that take no more requests and are about to end.
    serving: Word,
    /// The channels that had no CAN_MULTI_CONN when they were last connected, one bit each.
    apart: Word,
    /// Not 0: there was such a channel, so a flush may cover its own connection alone.
    single: Word,
    /// The channel that was taken last.
    taken: OptWord,
    /// Not 0: transfers may wait for a channel that has room.
    held: Word,
    /// The number of the one that is looked for first.
    turn: Word,
    /// Requests that were refused since the group joined.
    refused: Word,
    /// Reads that it served while it was out of service.
    rescued: Word,
    /// What it may have lost, and whether its server is the right one.
    health: Word,
    /// Until when, in milliseconds, the server may still carry out writes that were given back, for a
    /// channel that was removed.
    suspect_until: Word,
    /// A channel is coming up.
    greeting: Word,
    /// The last question that was put to the channels of the group.
    asked: Word,
    /// The latest question that was answered.
    answered: Word,
    /// The last question whose answer brought what was asked for.
    read: Word,
    /// How many questions have come back, answered or not.
    returned: Word,
    /// Since when no channel is up, in milliseconds; nothing while one is.
    down_since: OptWord,
    /// Why the group is, or was last, faulty: [`GroupFault::to_bits`].
    fault: Word,
    /// What became of the last transfer of its metadata.
    pub(super) metadata: Word,
    /// What became of the last flush behind which marks were to be taken back.
    pub(super) idle_flush: Word,
}

impl Default for GroupCore {
    fn default() -> Self {
        Self {
            up: Word::new(0),
            serving: Word::new(0),
            apart: Word::new(0),
            single: Word::new(0),
            taken: OptWord::default(),
            held: Word::new(0),
            turn: Word::new(0),
            refused: Word::new(0),
            rescued: Word::new(0),
            health: Word::new(0),
            suspect_until: Word::new(0),
            greeting: Word::new(0),
            asked: Word::new(0),
            answered: Word::new(0),
            read: Word::new(0),
            returned: Word::new(0),
            down_since: OptWord::default(),
            fault: Word::new(0),
            metadata: Word::new(0),
            idle_flush: Word::new(0),
        }
    }
}

impl GroupCore {
    /// The channels that carry requests.
    pub fn up(&self) -> ChannelSet {
        load(&self.up)
    }

    /// A channel carries requests.
    ///
    /// Full barrier: who lets a transfer wait looks at `up` afterwards, who changes `up` looks for
    /// waiting ones afterwards.
    pub(super) fn add_up(&self, channel: ChannelId) {
        set(&self.up, channel, true);
    }

    /// A channel carries requests no more.
    pub(super) fn remove_up(&self, channel: ChannelId) {
        set(&self.up, channel, false);
    }

    /// The channel's connection brings answers from now on, or brings none any more.
    pub(super) fn set_serving(&self, channel: ChannelId, serving: bool) {
        set(&self.serving, channel, serving);
    }

    /// Whether the server has promised, on the connection that the channel has made or is about to
    /// have, that a flush on any connection covers the writes on all (CAN_MULTI_CONN).
    pub fn set_apart(&self, channel: ChannelId, apart: bool) {
        set(&self.apart, channel, apart);
    }

    /// Whether a channel may carry requests beside those that do. Without CAN_MULTI_CONN, on its own
    /// connection or on theirs, a flush on one would leave out what was written on the other.
    ///
    /// # Errors
    ///
    /// What keeps it out.
    pub fn may_serve(&self, channel: ChannelId) -> Result<(), Lack> {
        let others = load(&self.serving).without(ChannelSet::of(channel));
        let apart = load(&self.apart);
        if others.meets(apart) {
            Err(Lack::OneConnection)
        } else if !others.is_empty() && apart.has(channel) {
            Err(Lack::MultiConn)
        } else {
            Ok(())
        }
    }

    /// Whether a flush may cover nothing but what was written on its own connection.
    pub fn is_single(&self) -> bool {
        self.single.load() != 0
    }

    /// Says so, or that it covers what was written on all connections that there were.
    pub fn set_single(&self, single: bool) {
        self.single.store(u64::from(single));
    }

    /// The channel that was taken last.
    pub(super) fn last_taken(&self) -> Option<ChannelId> {
        ChannelId::new(self.taken.get()? as usize)
    }

    /// A channel is taken.
    pub(super) fn take(&self, channel: ChannelId) {
        if self.last_taken() != Some(channel) {
            self.taken.set(channel.index() as u64);
        }
    }

    /// Whether transfers may wait for a channel that has room.
    pub(super) fn holds(&self) -> bool {
        self.held.load() != 0
    }

    /// Says so, or that they are about to be looked for. Full barrier.
    pub(super) fn set_holding(&self, holding: bool) {
        self.held.swap(u64::from(holding));
    }

    /// The number of the transfer that is looked for first, of those that wait.
    pub(super) fn turn(&self) -> usize {
        self.turn.load() as usize
    }

    /// Sets it.
    pub(super) fn set_turn(&self, number: SlotId) {
        self.turn.store(number.index() as u64);
    }

    /// Counts a refused request; whether this one is to be told, which get rarer the more there
    /// are.
    pub(super) fn count_refused(&self) -> bool {
        self.refused.fetch_add(1).wrapping_add(1).is_power_of_two()
    }

    /// Counts a read that it served while it was out of service; whether this one is to be told, as
    /// with refusals.
    pub(super) fn count_rescued(&self) -> bool {
        self.rescued.fetch_add(1).wrapping_add(1).is_power_of_two()
    }

    /// What it may have lost, and whether its server is the right one.
    pub fn health(&self) -> Health {
        Health::from_bits(self.health.load())
    }

    /// Something happened to that; gives what it was before. Full barrier.
    pub(in crate::logic) fn happened(&self, event: HealthEvent) -> Health {
        let mut old = self.health.load();
        loop {
            let before = Health::from_bits(old);
            match self
                .health
                .compare_exchange(old, before.after(event).bits())
            {
                Ok(_) => return before,
                Err(now) => old = now,
            }
        }
    }

    /// Whether the server may still carry out writes that were given back.
    pub fn is_suspect(&self, now_ms: u64) -> bool {
        self.health().is_suspect() || now_ms < self.suspect_until.load()
    }

    pub(super) fn suspect_until(&self, ms: u64) {
        update(&self.suspect_until, |old| old.max(ms));
    }

    /// Lets one channel at a time come up: false if another one is about to.
    pub(super) fn begin_greeting(&self) -> bool {
        self.greeting.compare_exchange(0, 1).is_ok()
    }

    /// The channel has come up, or will not.
    pub(super) fn end_greeting(&self) {
        self.greeting.swap(0);
    }

    /// The number of a new question.
    pub(super) fn next_question(&self) -> u64 {
        self.asked.fetch_add(1).wrapping_add(1)
    }

    /// The server has answered a question.
    pub(super) fn note_answer(&self, question: u64) {
        update(&self.answered, |latest| latest.max(question));
    }

    /// Whether the server has answered this question, or a later one.
    pub(super) fn has_answer(&self, question: u64) -> bool {
        self.answered.load() >= question
    }

    /// A question has come back, answered or not.
    pub(super) fn note_returned(&self) {
        self.returned.fetch_add(1);
    }

    /// How many have.
    pub(super) fn returned(&self) -> u64 {
        self.returned.load()
    }

    /// The answer to a question has brought what was asked for.
    pub(super) fn note_read(&self, question: u64) {
        self.read.store(question);
    }

    /// Whether the last answer that brought something was that to this question.
    pub(super) fn has_read(&self, question: u64) -> bool {
        self.read.load() == question
    }

    /// Notes that no channel is up, if it was not noted before; gives since when that is so.
    pub(super) fn note_down(&self, now_ms: u64) -> u64 {
        self.down_since.get_or_set(now_ms)
    }

    /// A channel is up.
    pub(super) fn note_up(&self) {
        self.down_since.take();
    }

    /// Why the group is, or was last, faulty.
    pub fn fault(&self) -> Option<GroupFault> {
        GroupFault::from_bits(self.fault.load())
    }

    /// Full barrier: who sets a group faulty that is so already looks at its state afterwards, who
    /// brings one back changes that and looks at this afterwards.
    pub(super) fn set_fault(&self, fault: Option<GroupFault>) {
        self.fault.swap(fault.map_or(0, GroupFault::to_bits));
    }
}

/// The set of channels in a word.
fn load(channels: &Word) -> ChannelSet {
    ChannelSet::from_bits(channels.load() as u32)
}

/// Puts a channel into the set in a word, or takes it out.
fn set(channels: &Word, channel: ChannelId, is_in: bool) {
    let bit = u64::from(ChannelSet::of(channel).bits());
    update(channels, |old| if is_in { old | bit } else { old & !bit });
}

#[cfg(test)]
mod tests;
