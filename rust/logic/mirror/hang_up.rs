// SPDX-License-Identifier: GPL-2.0

//! The end of a connection: what was not answered is given back.
//!
//! What a server that was not seen to close may still carry out is a danger to newer writes of the
//! same blocks. If another group is in sync this one is faulted, and is not brought back before the
//! danger is over; else the writes are not given back before.

use super::Fence;
use crate::logic::wire::request::Command;

/// How long a server that runs may take at most to end what it had begun when its connection ended,
/// and what was on its way may take to arrive, in milliseconds.
pub const QUARANTINE_MS: u32 = 5000;

/// What is left of a connection that has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rest {
    /// The server may still answer.
    Alive,
    /// The server, or its host, has said that it knows the connection no more.
    Gone,
    /// Nothing will come, and nobody knows what the server does.
    Silent,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// Whether the server may still carry out what it has not answered.
    pub fence: Fence,
    /// What is left.
    pub rest: Rest,
}

/// A connection that has ended, with the mirror that it belonged to.
pub trait HangUp {
    /// Whether it was sent writes that were not answered.
    fn has_unanswered_writes(&self) -> bool;
    /// Gives back those transfers that `wanted`, given the command and whether it was sent, wants:
    /// as lost, with `fence` if they were sent.
    fn give_back(&mut self, fence: Fence, wanted: impl Fn(Command, bool) -> bool);
    /// Whether the server owes no reply to a write that was given back.
    fn is_settled(&self) -> bool;
    /// Waits a moment for what the server still answers; false if nothing more will come.
    fn collect(&mut self) -> bool;
    /// Resets the connection: what was not sent yet will not be, and what was lost on its way is
    /// not sent again.
    fn abort(&mut self);
    /// Waits at most `ms` milliseconds; less if the channel is to end and `heeds_stop`.
    fn pause(&mut self, ms: u32, heeds_stop: bool);
    /// Milliseconds of a clock that does not go back.
    fn now_ms(&self) -> u64;
    /// How long a request may go unanswered, in milliseconds.
    fn timeout_ms(&self) -> u32;
    /// Whether somebody waits for the end of the channel.
    fn is_stopping(&self) -> bool;
    /// Whether the device is coming to its end, with nobody who could write anything newer.
    fn is_failing(&self) -> bool;
    /// See [`Losses::suspect`](super::Losses::suspect).
    fn suspect(&self, suspect: bool);
    /// See [`Losses::suspect_for`](super::Losses::suspect_for).
    fn suspect_for(&self, ms: u32);
    /// See [`Losses::give_up_group`](super::Losses::give_up_group).
    fn give_up_group(&self) -> bool;
}

/// Gives back all that was not answered on a connection that ended so and takes no more.
pub fn hang_up(line: &mut impl HangUp, end: End) {
    if end.fence == Fence::Fenced || !line.has_unanswered_writes() {
        return line.give_back(Fence::Fenced, |_, _| true);
    }
    line.suspect(true);
    let given_up = line.give_up_group();
    if given_up {
        line.give_back(Fence::Open, |_, _| true);
    } else {
        line.give_back(Fence::Fenced, |command, sent| !sent || !is_write(command));
    }
    let rest = await_answers(line, end.rest, !given_up);
    let fence = match rest.map_or(0, |rest| await_silence(line, rest, given_up)) {
        0 => Fence::Fenced,
        ms => {
            line.suspect_for(ms);
            Fence::Open
        }
    };
    line.give_back(fence, |_, _| true);
    line.suspect(false);
}

/// Waits for the answers to all writes; gives what is left of the connection if they do not come:
/// because it ends, or the channel is to, or users' writes have waited long enough (`pressing`).
fn await_answers(line: &mut impl HangUp, rest: Rest, pressing: bool) -> Option<Rest> {
    if rest != Rest::Alive {
        return Some(rest);
    }
    let began = line.now_ms();
    let limit = u64::from(line.timeout_ms());
    loop {
        if line.is_settled() && !line.has_unanswered_writes() {
            return None;
        }
        if line.is_stopping() {
            return Some(Rest::Silent);
        }
        let is_over = pressing && line.now_ms().saturating_sub(began) >= limit;
        if is_over || !line.collect() {
            return Some(Rest::Gone);
        }
    }
}

/// Waits until the server will carry out nothing more of what it was sent. That cannot be seen any
/// more, so some time has to do; gives what is left of that, in milliseconds, if the channel has to
/// end before.
///
/// That may be only if the group was given up, or nobody writes any more. Where the group goes on
/// over other channels, whoever waits for the end of this one waits longer: a write that was given
/// back too early would be repeated over one of those, and then be undone by the old one.
///
/// The time begins with the reset. While TCP holds what the server has not acknowledged it sends it
/// again and again, so that an old write would arrive whenever the network heals, be it a moment
/// after the newer one.
fn await_silence(line: &mut impl HangUp, rest: Rest, given_up: bool) -> u32 {
    line.abort();
    let limit = match rest {
        Rest::Gone => line.timeout_ms().min(QUARANTINE_MS),
        Rest::Alive | Rest::Silent => line.timeout_ms(),
    };
    let until = line.now_ms().saturating_add(u64::from(limit));
    loop {
        let left = until.saturating_sub(line.now_ms());
        let left = u32::try_from(left).unwrap_or(limit);
        let heeds_stop = given_up || line.is_failing();
        if left == 0 || heeds_stop && line.is_stopping() {
            return left;
        }
        line.pause(left, heeds_stop);
    }
}

/// Whether a command that is carried out late could undo a newer one.
pub fn is_write(command: Command) -> bool {
    matches!(
        command,
        Command::Write | Command::WriteZeroes | Command::Trim
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::core::cell::RefCell;

    const TIMEOUT_MS: u32 = 6000;

    /// What happened, and when.
    #[derive(Debug, Eq, PartialEq)]
    enum Event {
        GaveBack(Fence),
        Aborted,
        Suspect(bool),
        SuspectFor(u32),
    }

    /// A connection with one write that was not answered.
    struct Line {
        /// Another group is in sync.
        spare: bool,
        /// When the server answers, closes, and when the channel is to stop.
        answers_ms: Option<u64>,
        closes_ms: Option<u64>,
        stops_ms: Option<u64>,
        failing: bool,
        now_ms: u64,
        unanswered: bool,
        owed: bool,
        events: RefCell<Vec<(u64, Event)>>,
    }

    impl Line {
        fn new(spare: bool) -> Self {
            Self {
                spare,
                answers_ms: None,
                closes_ms: None,
                stops_ms: None,
                failing: false,
                now_ms: 0,
                unanswered: true,
                owed: false,
                events: RefCell::default(),
            }
        }

        fn note(&self, event: Event) {
            self.events.borrow_mut().push((self.now_ms, event));
        }

        fn has_come(&self, when_ms: Option<u64>) -> bool {
            when_ms.is_some_and(|when| when <= self.now_ms)
        }

        fn hang_up(mut self, rest: Rest) -> Vec<(u64, Event)> {
            let fence = Fence::Open;
            hang_up(&mut self, End { fence, rest });
            assert!(!self.unanswered);
            self.events.into_inner()
        }
    }

    impl HangUp for Line {
        fn has_unanswered_writes(&self) -> bool {
            self.unanswered
        }
        fn give_back(&mut self, fence: Fence, wanted: impl Fn(Command, bool) -> bool) {
            if self.unanswered && wanted(Command::Write, true) {
                self.unanswered = false;
                self.owed = true;
                self.note(Event::GaveBack(fence));
            }
        }
        fn is_settled(&self) -> bool {
            !self.owed
        }
        fn collect(&mut self) -> bool {
            self.now_ms += 500;
            if self.has_come(self.answers_ms) {
                self.owed = false;
                self.unanswered = false;
            }
            !self.has_come(self.closes_ms)
        }
        fn abort(&mut self) {
            self.note(Event::Aborted);
        }
        fn pause(&mut self, ms: u32, heeds_stop: bool) {
            assert!(!(heeds_stop && self.is_stopping()));
            self.now_ms += u64::from(ms.min(500));
        }
        fn now_ms(&self) -> u64 {
            self.now_ms
        }
        fn timeout_ms(&self) -> u32 {
            TIMEOUT_MS
        }
        fn is_stopping(&self) -> bool {
            self.has_come(self.stops_ms)
        }
        fn is_failing(&self) -> bool {
            self.failing
        }
        fn suspect(&self, suspect: bool) {
            self.note(Event::Suspect(suspect));
        }
        fn suspect_for(&self, ms: u32) {
            self.note(Event::SuspectFor(ms));
        }
        fn give_up_group(&self) -> bool {
            self.spare
        }
    }

    #[test]
    fn with_another_group_the_answer_is_waited_for_without_limit() {
        let mut line = Line::new(true);
        line.answers_ms = Some(100_000);
        let expected = [
            (0, Event::Suspect(true)),
            (0, Event::GaveBack(Fence::Open)),
            (100_000, Event::Suspect(false)),
        ];
        assert_eq!(line.hang_up(Rest::Alive), expected);
    }

    #[test]
    fn in_the_last_group_the_reset_comes_long_before_the_writes_are_given_back() {
        let expected = [
            (0, Event::Suspect(true)),
            (6000, Event::Aborted),
            (11_000, Event::GaveBack(Fence::Fenced)),
            (11_000, Event::Suspect(false)),
        ];
        assert_eq!(Line::new(false).hang_up(Rest::Alive), expected);
    }

    #[test]
    fn after_the_servers_end_some_time_has_to_do() {
        let mut line = Line::new(true);
        line.closes_ms = Some(50_000);
        let expected = [
            (0, Event::Suspect(true)),
            (0, Event::GaveBack(Fence::Open)),
            (50_000, Event::Aborted),
            (55_000, Event::Suspect(false)),
        ];
        assert_eq!(line.hang_up(Rest::Alive), expected);
        let silent = Line::new(false).hang_up(Rest::Silent);
        assert!(silent.contains(&(0, Event::Aborted)));
        assert!(silent.contains(&(6000, Event::GaveBack(Fence::Fenced))));
    }

    #[test]
    fn a_channel_that_is_to_stop_leaves_the_rest_of_the_time_to_a_group_that_was_given_up() {
        let mut line = Line::new(true);
        line.stops_ms = Some(2000);
        let expected = [
            (0, Event::Suspect(true)),
            (0, Event::GaveBack(Fence::Open)),
            (2000, Event::Aborted),
            (2000, Event::SuspectFor(TIMEOUT_MS)),
            (2000, Event::Suspect(false)),
        ];
        assert_eq!(line.hang_up(Rest::Alive), expected);
    }

    #[test]
    fn a_channel_that_is_to_stop_waits_where_the_group_goes_on() {
        let mut line = Line::new(false);
        line.stops_ms = Some(2000);
        let expected = [
            (0, Event::Suspect(true)),
            (2000, Event::Aborted),
            (8000, Event::GaveBack(Fence::Fenced)),
            (8000, Event::Suspect(false)),
        ];
        assert_eq!(line.hang_up(Rest::Alive), expected);
    }

    #[test]
    fn a_channel_that_is_to_stop_with_its_device_does_not_wait() {
        let mut line = Line::new(false);
        line.stops_ms = Some(2000);
        line.failing = true;
        let expected = [
            (0, Event::Suspect(true)),
            (2000, Event::Aborted),
            (2000, Event::SuspectFor(TIMEOUT_MS)),
            (2000, Event::GaveBack(Fence::Open)),
            (2000, Event::Suspect(false)),
        ];
        assert_eq!(line.hang_up(Rest::Alive), expected);
    }
}
