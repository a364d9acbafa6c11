// SPDX-License-Identifier: GPL-2.0

//! What a group may have lost, whether its server is the right one, and whether it may still do
//! something: one word a group, so that who looks sees all of it as it was at one moment.
//!
//! What is noted as unflushed:
//!
//! ```text
//!              ServerLost
//!     Sound ----------------> Lost          LossAccepted: back to Sound; Both: to Doubted
//!       |                       |           RecordTaken, Joined: any to Sound
//!       | FlushVoid             | FlushVoid
//!       v                       v
//!    Doubted --------------> Both
//!              ServerLost
//! ```
//!
//! What follows for its way back: a group that is out of service stays so as long as one of these
//! holds, and each of them is looked at after the view was changed ([`States::hot_add`]).
//!
//! | | because |
//! |---|---|
//! | it is not [`Record::Sound`] | what it has lost is not marked yet |
//! | somebody marks | nor is all of this |
//! | somebody suspects | its server may still carry out an old write, over a newer one |
//!
//! Who marks says so before he takes the record, so there is no moment at which none of the two holds.
//!
//! Which server it is:
//!
//! | | from | until |
//! |---|---|---|
//! | unproved | all connections were lost, and the next shows nothing | it is proved, or copied in full |
//! | checking | it is brought back | the resync has found out, or made it equal |
//! | told | a connection leads to other data, which was told | one is taken |
//! | deceptive | a flush was refused, or may have been while nobody looked: it may show from its cache what it has failed to make durable | all that was marked then was written again |
//!
//! [`States::hot_add`]: super::States::hot_add

/// What is to be thought of what is noted as unflushed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Record {
    /// The next flush makes it durable.
    Sound,
    /// The server was lost, perhaps with it.
    Lost,
    /// There is something among it that no flush makes durable: one was refused, or the connection
    /// has ended on which a flush would have covered it.
    Doubted,
    /// Both.
    Both,
}

/// What can happen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HealthEvent {
    /// The server may have lost what was not flushed.
    ServerLost,
    /// No flush makes durable all that is noted as unflushed.
    FlushVoid,
    /// It may show what it has failed to make durable, and say that a flush has succeeded.
    Deceives,
    /// Somebody begins to mark what the group may have lost, or never got.
    MarkingBegan,
    /// He has taken all that is noted as unflushed, to mark it.
    RecordTaken,
    /// He has ended.
    MarkingEnded,
    /// The group is the source, whatever it has lost.
    LossAccepted,
    /// A channel has ended whose server may still carry out writes that were given back.
    SuspectBegan,
    /// It will not, any more.
    SuspectEnded,
    /// Nothing shows that the server is the one that was lost.
    Unproved,
    /// It is.
    Proved,
    /// Somebody is about to bring the group back.
    CheckBegan,
    /// The resync has found the server to be the right one, or marked all.
    CheckEnded,
    /// A connection leads to other data.
    OtherData,
    /// A connection carries requests.
    ConnectionTaken,
    /// The group is in sync again.
    Synced,
    /// The group is new, and nothing of an earlier life counts.
    Joined,
}

const LOST: u64 = 1 << 0;
const DOUBTED: u64 = 1 << 1;
const UNPROVED: u64 = 1 << 2;
const CHECKING: u64 = 1 << 3;
const TOLD: u64 = 1 << 4;
const DECEPTIVE: u64 = 1 << 5;
/// Two counts, of threads and of channels: neither gets near the other.
const ONE_MARKS: u64 = 1 << 16;
const ONE_SUSPECTS: u64 = 1 << 32;
const MARKING: u64 = ONE_SUSPECTS - ONE_MARKS;

/// The health of a group.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Health(u64);

impl Health {
    /// As it stands in an atomic word.
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The word for an atomic.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// The health after `event`: the one door through which it changes.
    #[must_use]
    pub fn after(self, event: HealthEvent) -> Self {
        use HealthEvent as E;
        // Who ends something has begun it.
        debug_assert!(event != E::MarkingEnded || self.0 & MARKING != 0);
        debug_assert!(event != E::SuspectEnded || self.is_suspect());
        Self(match event {
            E::ServerLost => self.0 | LOST,
            E::FlushVoid => self.0 | DOUBTED,
            E::Deceives => self.0 | DECEPTIVE,
            E::MarkingBegan => self.0.wrapping_add(ONE_MARKS),
            E::RecordTaken => self.0 & !(LOST | DOUBTED),
            E::MarkingEnded => self.0.wrapping_sub(ONE_MARKS),
            E::LossAccepted => self.0 & !LOST,
            E::SuspectBegan => self.0.wrapping_add(ONE_SUSPECTS),
            E::SuspectEnded => self.0.wrapping_sub(ONE_SUSPECTS),
            E::Unproved => self.0 | UNPROVED,
            E::Proved => self.0 & !UNPROVED,
            E::CheckBegan => self.0 | CHECKING,
            E::CheckEnded => self.0 & !CHECKING,
            E::OtherData => self.0 | TOLD,
            E::ConnectionTaken => self.0 & !TOLD,
            E::Synced => self.0 & !(UNPROVED | CHECKING | DECEPTIVE),
            E::Joined => self.0 & !(LOST | DOUBTED | UNPROVED),
        })
    }

    /// What is to be thought of what is noted as unflushed.
    pub fn record(self) -> Record {
        match (self.0 & LOST != 0, self.0 & DOUBTED != 0) {
            (false, false) => Record::Sound,
            (true, false) => Record::Lost,
            (false, true) => Record::Doubted,
            (true, true) => Record::Both,
        }
    }

    /// Whether the server was lost, and what it may have lost was not marked since.
    pub fn is_lost(self) -> bool {
        matches!(self.record(), Record::Lost | Record::Both)
    }

    /// Whether no flush makes durable all that is noted as unflushed.
    pub fn is_doubted(self) -> bool {
        matches!(self.record(), Record::Doubted | Record::Both)
    }

    /// Whether a flush that has ended makes durable all that was noted as unflushed before it began.
    ///
    /// While somebody marks, none does. He has taken the record already, so that what happens from
    /// then on counts anew, and takes out what is noted afterwards. A flush that began in between
    /// could clear what it does not cover before he comes to it:
    ///
    /// ```text
    /// marks   disown()            takes the record                  takes out what is noted: nothing
    /// flush              begins                      ends, clears
    /// ```
    pub fn is_flushed_by_one(self) -> bool {
        !self.is_doubted() && self.0 & MARKING == 0
    }

    /// Whether the map may lack blocks that the group has lost.
    pub fn is_unmarked(self) -> bool {
        self.record() != Record::Sound || self.0 & MARKING != 0
    }

    /// Whether a channel has ended whose server may still carry out writes that were given back.
    pub fn is_suspect(self) -> bool {
        self.0 >= ONE_SUSPECTS
    }

    /// Whether nothing shows that the server is the one that was lost.
    pub fn is_unproved(self) -> bool {
        self.0 & UNPROVED != 0
    }

    /// Whether what is written to the group now may go to the wrong server.
    pub fn is_checking(self) -> bool {
        self.0 & CHECKING != 0
    }

    /// Whether what it shows is not to be taken for what a flush makes durable.
    pub fn is_deceptive(self) -> bool {
        self.0 & DECEPTIVE != 0
    }

    /// Whether it was told that a connection leads to other data, and none was taken since.
    pub fn is_told(self) -> bool {
        self.0 & TOLD != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an event does to one thing.
    #[derive(Clone, Copy)]
    enum Does {
        Nothing,
        Sets,
        Clears,
        Counts,
        CountsBack,
    }
    use Does::{Clears as C, Counts as U, CountsBack as D, Nothing as N, Sets as S};

    /// Each event, and what it does to lost, doubted, unproved, checking, told and deceptive, and to the
    /// numbers of those who mark and who suspect.
    const TABLE: [(HealthEvent, [Does; 8]); 17] = [
        (HealthEvent::ServerLost, [S, N, N, N, N, N, N, N]),
        (HealthEvent::FlushVoid, [N, S, N, N, N, N, N, N]),
        (HealthEvent::Deceives, [N, N, N, N, N, S, N, N]),
        (HealthEvent::MarkingBegan, [N, N, N, N, N, N, U, N]),
        (HealthEvent::RecordTaken, [C, C, N, N, N, N, N, N]),
        (HealthEvent::MarkingEnded, [N, N, N, N, N, N, D, N]),
        (HealthEvent::LossAccepted, [C, N, N, N, N, N, N, N]),
        (HealthEvent::SuspectBegan, [N, N, N, N, N, N, N, U]),
        (HealthEvent::SuspectEnded, [N, N, N, N, N, N, N, D]),
        (HealthEvent::Unproved, [N, N, S, N, N, N, N, N]),
        (HealthEvent::Proved, [N, N, C, N, N, N, N, N]),
        (HealthEvent::CheckBegan, [N, N, N, S, N, N, N, N]),
        (HealthEvent::CheckEnded, [N, N, N, C, N, N, N, N]),
        (HealthEvent::OtherData, [N, N, N, N, S, N, N, N]),
        (HealthEvent::ConnectionTaken, [N, N, N, N, C, N, N, N]),
        (HealthEvent::Synced, [N, N, C, C, N, C, N, N]),
        (HealthEvent::Joined, [C, C, C, N, N, N, N, N]),
    ];

    /// All of it as numbers, in the order of the table, as the questions tell it.
    fn asked(health: Health) -> [u64; 8] {
        let marks = health.bits() / ONE_MARKS % (ONE_SUSPECTS / ONE_MARKS);
        let suspects = health.bits() / ONE_SUSPECTS;
        assert_eq!(
            health.is_unmarked(),
            health.is_lost() || health.is_doubted() || marks > 0
        );
        assert_eq!(health.is_suspect(), suspects > 0);
        [
            health.is_lost().into(),
            health.is_doubted().into(),
            health.is_unproved().into(),
            health.is_checking().into(),
            health.is_told().into(),
            health.is_deceptive().into(),
            marks,
            suspects,
        ]
    }

    /// Every state with up to two who mark and two who suspect, made by events alone.
    fn states() -> Vec<Health> {
        use HealthEvent as E;
        let mut states = vec![Health::default()];
        for event in [
            E::ServerLost,
            E::FlushVoid,
            E::Unproved,
            E::CheckBegan,
            E::OtherData,
            E::Deceives,
            E::MarkingBegan,
            E::MarkingBegan,
            E::SuspectBegan,
            E::SuspectBegan,
        ] {
            let more: Vec<_> = states.iter().map(|state| state.after(event)).collect();
            states.extend(more);
        }
        states
    }

    #[test]
    fn table() {
        for state in states() {
            for (event, does) in TABLE {
                let before = asked(state);
                // Who ends something has begun it.
                if (0..8).any(|i| matches!(does[i], D) && before[i] == 0) {
                    continue;
                }
                let want: Vec<_> = (0..8)
                    .map(|i| match does[i] {
                        N => before[i],
                        S => 1,
                        C => 0,
                        U => before[i] + 1,
                        D => before[i] - 1,
                    })
                    .collect();
                let after = state.after(event);
                assert_eq!(asked(after)[..], want, "{before:?} {event:?}");
                assert_eq!(Health::from_bits(after.bits()), after);
            }
        }
        assert_eq!(states().len(), 1024);
    }

    /// The drawing.
    #[test]
    fn record() {
        use HealthEvent as E;
        let lost = Health::default().after(E::ServerLost);
        let doubted = Health::default().after(E::FlushVoid);
        let both = lost.after(E::FlushVoid);
        let records = [Health::default(), lost, doubted, both].map(Health::record);
        assert_eq!(
            records,
            [Record::Sound, Record::Lost, Record::Doubted, Record::Both]
        );
        assert_eq!(doubted.after(E::ServerLost), both);
        assert_eq!(both.after(E::LossAccepted), doubted);
        assert_eq!(lost.after(E::LossAccepted), Health::default());
        assert_eq!(both.after(E::RecordTaken), Health::default());
    }

    #[test]
    fn who_marks_hides_nothing() {
        use HealthEvent as E;
        let mut health = Health::default().after(E::ServerLost);
        for event in [E::MarkingBegan, E::RecordTaken] {
            health = health.after(event);
            assert!(health.is_unmarked());
        }
        assert!(!health.after(E::MarkingEnded).is_unmarked());
    }
}
