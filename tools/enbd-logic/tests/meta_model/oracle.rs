// SPDX-License-Identifier: GPL-2.0

//! What is true, whatever the superblocks say. A *line* is a life that was never parted from another
//! one. Which line a record belongs to is kept in its `compat`, which the code under test copies from
//! record to record and never looks at.

use enbd_logic::logic::meta::Record;

/// Lines that a search may have.
pub const LINES: usize = 8;
/// A line by number.
pub type Line = u8;
/// Generations that a search may have; they are numbered from 1 on.
const GENERATIONS: usize = 9;
/// No line.
const NONE: Line = u8::MAX;

/// One line.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Life {
    /// The line that it comes from.
    parent: Line,
    /// It was left behind by force: who goes on in it parts from those that did that.
    is_left: bool,
    /// Lines that were overridden knowingly, one bit each.
    overridden: u8,
    /// What a read may return, one bit for each datum.
    allowed: u8,
    /// It began without what was acknowledged in its parent, whose members were not there.
    is_poorer: bool,
}

const NO_LIFE: Life = Life {
    parent: NONE,
    is_left: false,
    overridden: 0,
    allowed: 0,
    is_poorer: false,
};

/// All lines.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Oracle {
    lives: [Life; LINES],
    count: u8,
    /// The generation that each one was drawn from, and the event of the record.
    origins: [(u8, u8); GENERATIONS],
}

impl Oracle {
    /// One line, in which datum 0 may be read.
    pub fn new() -> Self {
        let mut lives = [NO_LIFE; LINES];
        lives[0].allowed = 1;
        Self {
            lives,
            count: 1,
            origins: [(0, 0); GENERATIONS],
        }
    }

    /// The line of a record.
    pub fn line(record: &Record) -> Line {
        record.compat as Line
    }

    fn of(&mut self, line: Line) -> &mut Life {
        &mut self.lives[usize::from(line)]
    }

    /// A write of `datum` is on its way.
    pub fn write(&mut self, line: Line, datum: u8) {
        self.of(line).allowed |= 1 << datum;
    }

    /// `datum` was acknowledged, or read.
    pub fn settle(&mut self, line: Line, datum: u8) {
        self.of(line).allowed = 1 << datum;
    }

    /// Whether a read may return `datum`.
    pub fn allows(&self, line: Line, datum: u8) -> bool {
        self.lives[usize::from(line)].allowed & 1 << datum != 0
    }

    /// What a read may return.
    pub fn allowed(&self, line: Line) -> Vec<u8> {
        (0..8).filter(|&datum| self.allows(line, datum)).collect()
    }

    /// The lines that `line` comes from, itself first.
    fn ancestors(&self, line: Line) -> impl Iterator<Item = Line> + '_ {
        let parent = |&line: &Line| Some(self.lives[usize::from(line)].parent);
        std::iter::successors(Some(line), move |line| {
            parent(line).filter(|&line| line != NONE)
        })
    }

    /// Whether `line` has all that `other` has, or has overridden it knowingly.
    pub fn knows(&self, line: Line, other: Line) -> bool {
        self.ancestors(line).any(|one| one == other) || self.has_overridden(line, other)
    }

    fn has_overridden(&self, line: Line, other: Line) -> bool {
        self.ancestors(line)
            .any(|one| self.lives[usize::from(one)].overridden & 1 << other != 0)
    }

    /// The generation of `record` was drawn, and follows `from`.
    pub fn drawn(&mut self, record: &Record, from: &Record) {
        let generation = record.generation.bits() as usize;
        self.origins[generation] = (from.generation.bits() as u8, from.event as u8);
    }

    /// Whether anybody who reads both records could know that `other` has nothing that `record` lacks.
    pub fn follows(&self, record: &Record, other: &Record) -> bool {
        let (line, theirs) = (Self::line(record), Self::line(other));
        // Whoever goes on by force may have parted from what was being recorded.
        let is_known = |event: u8| line == theirs || other.event <= event.into();
        let mut last = (record.generation.bits() as u8, u8::MAX);
        while last.0 != 0 {
            if u64::from(last.0) == other.generation.bits() && is_known(last.1) {
                return true;
            }
            last = self.origins[usize::from(last.0)];
        }
        self.has_overridden(line, theirs)
    }

    /// The line of one who goes on in `line`.
    pub fn go_on(&mut self, line: Line) -> Line {
        if !self.of(line).is_left {
            return line;
        }
        let allowed = self.of(line).allowed;
        self.draw(line, allowed)
    }

    /// The line of one who goes on by force from `line` with `datum`.
    pub fn part(&mut self, line: Line, datum: u8) -> Line {
        self.of(line).is_left = true;
        self.draw(line, 1 << datum)
    }

    /// The same of one that goes on without members that are not there.
    pub fn part_degraded(&mut self, line: Line, datum: u8) -> Line {
        let is_poorer = !self.allows(line, datum);
        let line = self.part(line, datum);
        self.of(line).is_poorer = is_poorer;
        line
    }

    /// Whether `line` began without what `other` has acknowledged, and could not know of it.
    pub fn lacks(&self, line: Line, other: Line) -> bool {
        self.ancestors(line).any(|one| {
            let life = &self.lives[usize::from(one)];
            life.is_poorer && life.parent == other
        }) && !self.has_overridden(line, other)
    }

    /// The same of one that nobody could know to be too old: it has nothing in common with any other.
    pub fn part_unknown(&mut self, datum: u8) -> Line {
        self.draw(NONE, 1 << datum)
    }

    /// `line` overrides `other` knowingly.
    pub fn override_line(&mut self, line: Line, other: Line) {
        if !self.ancestors(line).any(|one| one == other) || self.lacks(line, other) {
            self.of(line).overridden |= 1 << other;
            self.of(other).is_left = true;
        }
    }

    fn draw(&mut self, parent: Line, allowed: u8) -> Line {
        let line = self.count;
        assert!(usize::from(line) < LINES, "more lines than LINES");
        *self.of(line) = Life {
            parent,
            allowed,
            ..NO_LIFE
        };
        self.count += 1;
        line
    }

    /// Forgets the last lines if no record is of them, so that a start that left nothing leaves
    /// nothing here.
    pub fn forget_unused(&mut self, used: impl Fn(Line) -> bool) {
        while self.count > 1 && !used(self.count - 1) {
            let last = self.count - 1;
            let is_named = self
                .lives
                .iter()
                .any(|life| life.overridden & 1 << last != 0);
            if is_named {
                return;
            }
            *self.of(last) = NO_LIFE;
            self.count = last;
        }
    }
}
