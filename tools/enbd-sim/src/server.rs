// SPDX-License-Identifier: GPL-2.0

//! A server: a store, and connections that fail in the ways that real ones do.

mod work;

use crate::blocks::Blocks;
use crate::clock::Clock;
use crate::conn::{Ask, Conn, Line, Reply, SharedConn};
use crate::store::{Store, Value, PAGES, RING, TAIL};
use shuttle::rand::{thread_rng, Rng};
use std::sync::{Arc, Mutex, Weak};

/// How long after a cut TCP may wait until it tries again.
const LONGEST_BACKOFF_MS: u64 = 3000;
/// How long a slow server takes for each request, one after the other on each connection: so long
/// that a few of them take longer than the time limit, and no single one does.
const SLOW_MS: u64 = crate::channel::TIMEOUT_MS * 3 / 5;

/// What the server's process and its host are doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Power {
    /// It serves.
    On,
    /// The process is stopped: the host still receives.
    Stopped,
    /// The process or the host is gone.
    Off,
}

struct State {
    power: Power,
    /// Nothing arrives, in either direction.
    cut: bool,
    /// So many writes are refused.
    refusals: u32,
    /// One flush is refused.
    refuses_flush: bool,
    /// Its host loses its power with the next write of metadata.
    stops_in_metadata: bool,
    /// It does not write zeroes unless it is sent them.
    refuses_zeroes: bool,
    /// One reply gets a cookie that nobody knows.
    lies: bool,
    /// It closes a connection over which it gets a write of this block, and carries nothing of that
    /// write out.
    poison: Option<usize>,
    /// How often that has been so.
    poisoned: u64,
    /// It takes [`SLOW_MS`] for each request, in the order of a connection.
    slow: bool,
    /// It closes at once when its client does, whatever it has still to do, as qemu-nbd.
    hasty: bool,
    /// A flush covers what was written on all connections; else on its own one only, and what was
    /// written on one that has ended may never become durable.
    shares_cache: bool,
    store: Store,
    /// The store that the server had, while it has another one in its place.
    aside: Option<Store>,
    /// What the store held some time ago.
    past: Vec<Value>,
    conns: Vec<SharedConn>,
    /// Connections that there were.
    made: u64,
    /// All connections that there ever were.
    held: Vec<Weak<Mutex<Conn>>>,
}

/// One server.
pub struct Server {
    state: Mutex<State>,
    clock: Arc<Clock>,
}

impl Server {
    pub fn new(blocks: usize, shares_cache: bool, clock: Arc<Clock>) -> Self {
        Self {
            state: Mutex::new(State {
                power: Power::On,
                cut: false,
                refusals: 0,
                refuses_flush: false,
                stops_in_metadata: false,
                refuses_zeroes: false,
                lies: false,
                poison: None,
                poisoned: 0,
                slow: false,
                hasty: thread_rng().gen(),
                shares_cache,
                store: Store::new(vec![0; blocks + TAIL]),
                aside: None,
                past: vec![0; blocks + TAIL],
                conns: Vec::new(),
                made: 0,
                held: Vec::new(),
            }),
            clock,
        }
    }

    fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        let r = f(&mut self.state.lock().unwrap());
        self.clock.happened();
        r
    }

    /// A new connection, if the server can be reached and answers.
    pub fn connect(&self) -> Option<SharedConn> {
        self.with(|s| {
            if s.power != Power::On || s.cut {
                return None;
            }
            s.made += 1;
            let conn = Arc::new(Mutex::new(Conn::new(s.made)));
            s.conns.push(conn.clone());
            s.held.push(Arc::downgrade(&conn));
            Some(conn)
        })
    }

    /// What the client of a connection gets next: a reply, or how the line stands.
    pub fn receive(&self, conn: &SharedConn) -> Result<Reply, Line> {
        let s = self.state.lock().unwrap();
        let mut c = conn.lock().unwrap();
        if c.line == Line::Open && s.cut {
            return Err(Line::Open);
        }
        // What was answered before the server closed arrives before its closing.
        match c.replies.pop_front() {
            Some(reply) if c.line != Line::Reset => Ok(reply),
            _ => Err(c.line),
        }
    }

    /// Whether [`Server::receive`] has something to tell.
    pub fn has_news(&self, conn: &SharedConn) -> bool {
        let s = self.state.lock().unwrap();
        let c = conn.lock().unwrap();
        c.line != Line::Open || (!s.cut && !c.replies.is_empty())
    }

    /// The server does one thing, if there is something to do: receives a message, carries one out,
    /// or closes a connection.
    pub fn work(&self) -> bool {
        let mut s = self.state.lock().unwrap();
        if s.power != Power::On || s.conns.is_empty() {
            return false;
        }
        let start = thread_rng().gen_range(0..s.conns.len());
        let conns: Vec<_> = s.conns[start..]
            .iter()
            .chain(&s.conns[..start])
            .cloned()
            .collect();
        let now_ms = self.clock.now_ms();
        let worked = conns
            .iter()
            .any(|conn| s.work_on(&mut conn.lock().unwrap(), now_ms));
        s.conns.retain(|conn| conn.lock().unwrap().known);
        drop(s);
        if worked {
            self.clock.happened();
        }
        worked
    }

    /// Whether [`Server::work`] would do something.
    pub fn has_work(&self) -> bool {
        let s = self.state.lock().unwrap();
        s.power == Power::On
            && s.conns.iter().any(|conn| {
                let c = conn.lock().unwrap();
                let now_ms = self.clock.now_ms();
                (!c.got.is_empty() && !s.is_busy(&c, now_ms))
                    || (s.arrives(&c, now_ms) && (!c.wire.is_empty() || c.half_closed))
            })
    }

    /// The network resets a connection; what is on the wire is lost.
    pub fn reset_one(&self) {
        self.with(|s| {
            if let Some(conn) = pick(&s.conns) {
                let mut c = conn.lock().unwrap();
                if c.line == Line::Open {
                    c.reset();
                }
            }
        });
    }

    /// The same for this one.
    pub fn reset(&self, conn: &SharedConn) {
        self.with(|_| {
            let mut c = conn.lock().unwrap();
            if c.line == Line::Open {
                c.reset();
            }
        });
    }

    /// The server closes a connection by itself, after what it got.
    pub fn close_one(&self) {
        self.with(|s| {
            if let Some(conn) = pick(&s.conns) {
                let mut c = conn.lock().unwrap();
                if c.line == Line::Open && s.power == Power::On {
                    s.close(&mut c);
                }
            }
        });
    }

    /// The process ends; the host, with what is in its cache, goes on.
    pub fn kill(&self) {
        self.with(|s| {
            s.power = Power::Off;
            for conn in std::mem::take(&mut s.conns) {
                let mut c = conn.lock().unwrap();
                c.wire.clear();
                // What it was about to do it has done or not.
                for message in std::mem::take(&mut c.got) {
                    if thread_rng().gen() {
                        s.carry_out(c.number, &message);
                    }
                }
                s.forget(&mut c);
                if c.line == Line::Open {
                    c.line = if thread_rng().gen() {
                        Line::Closed
                    } else {
                        Line::Reset
                    };
                    c.replies.clear();
                }
            }
        });
    }

    /// The host is about to lose its power, with the next write of metadata in its hands: it stops there, until
    /// it crashes.
    pub fn stop_in_metadata(&self) {
        self.with(|s| s.stops_in_metadata = true);
    }

    /// The host crashes: what was not durable is lost, in part or as a whole, and what was just being
    /// written, `blocks` of metadata, is torn. Whether something was lost.
    pub fn crash(&self, blocks: &Blocks) -> bool {
        self.with(|s| {
            s.power = Power::Off;
            s.stops_in_metadata = false;
            let lost = s.store.crash(blocks);
            for conn in std::mem::take(&mut s.conns) {
                let mut c = conn.lock().unwrap();
                c.wire.clear();
                for message in std::mem::take(&mut c.got) {
                    if let Ask::Write { first, values, .. } = &message.ask {
                        s.store.tear(*first, values, blocks);
                    }
                }
                c.replies.clear();
                c.known = false;
            }
            lost
        })
    }

    /// Sets the power. A host that comes back resets the connections that it does not know.
    pub fn set_power(&self, power: Power) {
        self.with(|s| s.power = power);
    }

    pub fn power(&self) -> Power {
        self.state.lock().unwrap().power
    }

    /// Whether the network is cut off.
    pub fn is_cut(&self) -> bool {
        self.state.lock().unwrap().cut
    }

    /// Cuts the network off, or heals it.
    pub fn set_cut(&self, cut: bool) {
        let now_ms = self.clock.now_ms();
        self.with(|s| {
            if s.cut && !cut {
                for conn in &s.conns {
                    let mut c = conn.lock().unwrap();
                    if !c.wire.is_empty() {
                        c.resumes_ms = now_ms + thread_rng().gen_range(0..LONGEST_BACKOFF_MS);
                    }
                }
            }
            s.cut = cut;
        });
    }

    /// Refuses the next write.
    pub fn refuse_one(&self) {
        self.with(|s| s.refusals = 1);
    }

    /// Refuses the next flush.
    pub fn refuse_flush(&self) {
        self.with(|s| s.refuses_flush = true);
    }

    /// Refuses to write zeroes, as often as it is asked.
    pub fn refuse_zeroes(&self) {
        self.with(|s| s.refuses_zeroes = true);
    }

    /// Some blocks, a quarter at most, cannot be read until they are written.
    pub fn spoil_some(&self) {
        self.with(|s| {
            for _ in 0..thread_rng().gen_range(1..=s.past.len() / 4) {
                let block = thread_rng().gen_range(0..s.past.len());
                s.store.spoil(block);
            }
        });
    }

    /// Whether these blocks can be read.
    pub fn can_read(&self, first: usize, len: usize) -> bool {
        let s = self.state.lock().unwrap();
        (first..first + len).all(|block| s.store.ask(block).is_some())
    }

    /// The client has heard that a flush was refused: some of what was not durable never will be.
    /// Whether that is so of anything. (If it never heard of it nobody could know.)
    pub fn give_up(&self) -> bool {
        self.state.lock().unwrap().store.give_up()
    }

    /// The next reply is nonsense.
    pub fn lie_once(&self) {
        self.with(|s| s.lies = true);
    }

    /// Neither refuses nor lies any more.
    pub fn behave(&self) {
        self.with(|s| {
            s.refusals = 0;
            s.refuses_flush = false;
            s.refuses_zeroes = false;
            s.store.mend();
            s.lies = false;
            s.poison = None;
            s.slow = false;
        });
    }

    /// Does not survive a write of this block until it behaves.
    pub fn poison(&self, block: usize) {
        self.with(|s| (s.poison, s.poisoned) = (Some(block), 0));
    }

    /// How often it got what it does not survive, since it was last told to do so.
    pub fn poisoned(&self) -> u64 {
        self.state.lock().unwrap().poisoned
    }

    /// Is slow until it behaves.
    pub fn slow_down(&self) {
        self.with(|s| s.slow = true);
    }

    /// Whether nothing is wrong with it, but that it may be slow.
    pub fn is_sound(&self) -> bool {
        let s = self.state.lock().unwrap();
        s.power == Power::On
            && !s.cut
            && s.refusals == 0
            && !s.refuses_flush
            && !s.lies
            && s.poison.is_none()
            && s.aside.is_none()
    }

    /// Whether a connection that the client still holds is not known to the host that is on.
    pub fn is_forgotten(&self, conn: &SharedConn) -> bool {
        let s = self.state.lock().unwrap();
        s.power == Power::On && !s.cut && !conn.lock().unwrap().known
    }

    /// Whether so many connections are known, and nobody holds another one that is open.
    pub fn knows_all(&self) -> bool {
        let s = self.state.lock().unwrap();
        s.held.iter().all(|conn| {
            let conn = conn.upgrade();
            conn.is_none_or(|c| {
                let c = c.lock().unwrap();
                c.known || c.line != Line::Open
            })
        })
    }

    /// Whether every connection that a client holds is known, and no write is on its way or begun.
    pub fn is_quiet(&self) -> bool {
        let s = self.state.lock().unwrap();
        let held = s.held.iter().filter_map(Weak::upgrade);
        held.into_iter().all(|conn| {
            let c = conn.lock().unwrap();
            c.known && !c.has_writes()
        })
    }

    /// The client resets a connection. Of what it has sent a part is on its way already, and
    /// arrives; where the network is cut nothing does, and not the reset either.
    pub fn abort(&self, conn: &SharedConn) {
        self.with(|s| {
            let mut c = conn.lock().unwrap();
            if c.line == Line::Open {
                s.lose_sender(&mut c);
            }
        });
    }

    /// The client's host is gone. Of what it has sent a part is on its way, as with [`Server::abort`], but
    /// nothing says so to the server. No other thread goes on meanwhile.
    pub fn lose_client(&self) {
        let s = self.state.lock().unwrap();
        for conn in s.held.iter().filter_map(Weak::upgrade) {
            let mut c = conn.lock().unwrap();
            if c.line == Line::Open {
                s.lose_sender(&mut c);
            }
            // One that had ended has nothing on the wire.
            c.aborted = true;
            c.half_closed = true;
            c.replies.clear();
            c.line = Line::Reset;
        }
    }

    /// So much time has passed since the last client was gone that nothing of its is carried out any more.
    pub fn end_of_client(&self) {
        let held: Vec<_> = {
            let s = self.state.lock().unwrap();
            s.held.iter().filter_map(Weak::upgrade).collect()
        };
        let is_gone = |conn: &&SharedConn| {
            let c = conn.lock().unwrap();
            c.aborted && c.line == Line::Reset
        };
        held.iter()
            .filter(is_gone)
            .for_each(|conn| self.end_of_quarantine(conn));
    }

    /// Time has passed since the client reset a connection: from now on the server carries out
    /// nothing more of it. This is what enbd assumes after its time limit.
    pub fn end_of_quarantine(&self, conn: &SharedConn) {
        self.with(|s| {
            let mut c = conn.lock().unwrap();
            let mut left: Vec<_> = std::mem::take(&mut c.got);
            left.extend(std::mem::take(&mut c.wire));
            for message in left {
                if c.known && thread_rng().gen() {
                    s.carry_out(c.number, &message);
                }
            }
            s.forget(&mut c);
        });
    }

    /// What it has given up is gone. Whether there was any.
    pub fn forget_refused(&self) -> bool {
        self.with(|s| s.store.forget_given_up())
    }

    /// Keeps a copy of what the store holds, as a backup does.
    pub fn back_up(&self) {
        self.with(|s| s.past = s.store.content());
    }

    /// What was kept last.
    pub fn past(&self) -> Vec<Value> {
        self.state.lock().unwrap().past.clone()
    }

    /// Puts another store in the place of the one that there is, which is kept aside. The server
    /// has been killed, and whoever connects next finds the new one.
    pub fn replace(&self, content: Vec<Value>) {
        self.with(|s| s.aside = Some(std::mem::replace(&mut s.store, Store::new(content))));
    }

    /// Whether the server has another store than it had.
    pub fn is_replaced(&self) -> bool {
        self.state.lock().unwrap().aside.is_some()
    }

    /// Puts the store back that was kept aside. The server has been killed.
    pub fn put_back(&self) {
        self.with(|s| {
            if let Some(store) = s.aside.take() {
                s.store = store;
            }
        });
    }

    /// The store that there is is the right one from now on.
    pub fn adopt(&self) {
        self.with(|s| s.aside = None);
    }

    /// What is read from each block of the device.
    pub fn content(&self) -> Vec<Value> {
        let mut all = self.state.lock().unwrap().store.content();
        all.truncate(all.len() - TAIL);
        all
    }

    /// What would be there after a crash.
    pub fn durable(&self) -> Vec<Value> {
        let mut all = self.state.lock().unwrap().store.durable().to_vec();
        all.truncate(all.len() - TAIL);
        all
    }

    /// What is read from each block of the superblocks.
    pub fn ring(&self) -> Vec<Value> {
        let mut all = self.state.lock().unwrap().store.content();
        all.split_off(all.len() - RING)
    }

    /// What is read from each block of the intent pages.
    pub fn pages(&self) -> Vec<Value> {
        let all = self.state.lock().unwrap().store.content();
        all[all.len() - TAIL..][PAGES].to_vec()
    }

    /// Writes a block of the export durably, before anybody is connected.
    pub fn put(&self, block: usize, value: Value) {
        self.with(|s| s.store.write(0, block, &[value], true));
    }
}

fn pick(conns: &[SharedConn]) -> Option<SharedConn> {
    if conns.is_empty() {
        return None;
    }
    conns.get(thread_rng().gen_range(0..conns.len())).cloned()
}
