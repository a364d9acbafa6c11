// SPDX-License-Identifier: GPL-2.0

//! What a server does with what it has got.

use super::{Power, State, SLOW_MS};
use crate::conn::{Answer, Ask, Conn, Line, Message, Reply};
use shuttle::rand::{thread_rng, Rng};

impl State {
    /// The server knows a connection no more.
    pub(super) fn forget(&mut self, c: &mut Conn) {
        if c.known && !self.shares_cache && thread_rng().gen() {
            self.flush(c.number);
        }
        c.known = false;
    }

    /// The client of a connection sends and hears nothing more. Of what it has sent a part is on its way
    /// already, and arrives, unless the network is cut.
    pub(super) fn lose_sender(&self, c: &mut Conn) {
        if c.aborted {
            return;
        }
        c.aborted = true;
        c.half_closed = true;
        c.replies.clear();
        let arrive = if self.cut {
            0
        } else {
            thread_rng().gen_range(0..=c.wire.len())
        };
        c.wire.truncate(arrive);
    }

    /// Closes a connection, after what it got.
    pub(super) fn close(&mut self, c: &mut Conn) {
        c.wire.clear();
        let got = std::mem::take(&mut c.got);
        for message in got {
            self.carry_out(c.number, &message);
        }
        c.line = Line::Closed;
        self.forget(c);
    }

    /// Whether it takes its time now, with what it has got of this connection.
    pub(super) fn is_busy(&self, c: &Conn, now_ms: u64) -> bool {
        self.slow && now_ms < c.worked_ms + SLOW_MS
    }

    /// Makes durable what a flush on connection `by` covers.
    pub(super) fn flush(&mut self, by: u64) {
        let shares_cache = self.shares_cache;
        self.store.flush(|on| shares_cache || on == by);
    }

    /// Whether what the client sends arrives.
    pub(super) fn arrives(&self, c: &Conn, now_ms: u64) -> bool {
        !self.cut && c.resumes_ms <= now_ms
    }

    pub(super) fn work_on(&mut self, c: &mut Conn, now_ms: u64) -> bool {
        let mut rng = thread_rng();
        let arrives = self.arrives(c, now_ms);
        let may_receive = arrives && !c.wire.is_empty();
        if may_receive && (c.got.is_empty() || rng.gen()) {
            let poison = self.poison.filter(|_| c.line == Line::Open);
            if poison.is_some_and(|block| c.is_to_write(block)) {
                self.poisoned += 1;
                self.close(c);
                return true;
            }
            if c.got.is_empty() {
                c.worked_ms = now_ms;
            }
            if let Some(message) = c.wire.pop_front() {
                c.got.push(message);
            }
            return true;
        }
        let is_over = c.half_closed && arrives;
        if is_over && self.hasty && c.wire.is_empty() && c.line == Line::Open {
            // What it has got it carries out all the same.
            c.line = Line::Closed;
            return true;
        }
        if self.is_busy(c, now_ms) && !c.got.is_empty() {
            return false;
        }
        if !c.got.is_empty() {
            c.worked_ms = now_ms;
            let at = if self.slow {
                0
            } else {
                rng.gen_range(0..c.got.len())
            };
            let message = c.got.remove(at);
            if self.stops_in_metadata && self.is_in_metadata(&message) {
                self.power = Power::Off;
                c.got.push(message);
                return true;
            }
            let answer = self.carry_out(c.number, &message);
            if c.line == Line::Open && !c.aborted && !(c.half_closed && rng.gen()) {
                let lies = std::mem::take(&mut self.lies);
                let cookie = if lies { u64::MAX } else { message.cookie };
                c.replies.push_back(Reply { cookie, answer });
            }
            return true;
        }
        if c.is_drained() && (c.line == Line::Reset || is_over) {
            // It has seen the end of the connection.
            self.forget(c);
            if c.line == Line::Open {
                c.line = Line::Closed;
            }
            return true;
        }
        false
    }

    fn is_in_metadata(&self, message: &Message) -> bool {
        matches!(message.ask, Ask::Write { first, .. } if self.store.is_metadata(first))
    }

    /// Does what was asked on connection `by`.
    pub(super) fn carry_out(&mut self, by: u64, message: &Message) -> Answer {
        match &message.ask {
            Ask::Read { first, len } => {
                let values: Option<_> = (*first..first + len).map(|b| self.store.ask(b)).collect();
                values.map_or(Answer::Unreadable, Answer::Done)
            }
            Ask::Zeroes { .. } if self.refuses_zeroes => {
                if thread_rng().gen() {
                    Answer::NotSupported
                } else {
                    Answer::Invalid
                }
            }
            Ask::Write { .. } | Ask::Zeroes { .. } if self.refusals > 0 => {
                self.refusals -= 1;
                Answer::NoSpace
            }
            Ask::Write { first, values, fua } => {
                self.store.write(by, *first, values, *fua);
                Answer::Done(Vec::new())
            }
            Ask::Zeroes { first, len, fua } => {
                self.store.write(by, *first, &vec![0; *len], *fua);
                Answer::Done(Vec::new())
            }
            Ask::Flush if std::mem::take(&mut self.refuses_flush) => Answer::NotFlushed,
            Ask::Flush => {
                self.flush(by);
                Answer::Done(Vec::new())
            }
        }
    }
}
