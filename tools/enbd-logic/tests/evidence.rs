// SPDX-License-Identifier: GPL-2.0

//! How surely a server is noticed that returns with something else than it had, drawn 200 times for
//! each kind of loss. What is drawn here is argued in Documentation/evidence.rst.

use enbd_logic::{
    logic::{
        barrier::{Span, CHUNK_SECTORS},
        evidence::{Evidence, Sum, WORDS},
        mirror::proof::PLACES,
    },
    sync::Word,
};
use rand::{rngs::StdRng, Rng, SeedableRng};

const DRAWS: u64 = 200;
/// 64 GiB.
const CHUNKS: u64 = 16 << 20;

/// A disk as a version a chunk that was ever written, with what is remembered of it.
struct Disk {
    rng: StdRng,
    evidence: Evidence<Vec<Word>>,
    versions: std::collections::HashMap<u64, u32>,
    next: u32,
}

impl Disk {
    fn new(seed: u64) -> Self {
        let words = (0..WORDS).map(|_| Word::new(0)).collect();
        let evidence = Evidence::new(words).expect("as many as it needs");
        evidence.clear(CHUNKS * CHUNK_SECTORS);
        Self {
            rng: StdRng::seed_from_u64(seed),
            evidence,
            versions: std::collections::HashMap::new(),
            next: 1,
        }
    }

    /// `count` writes of a chunk each, to one of `set` places chosen by `place`; one in `each` is
    /// remembered.
    fn write(&mut self, count: usize, each: usize, place: impl Fn(&mut StdRng) -> u64) {
        for n in 0..count {
            let chunk = place(&mut self.rng);
            self.evidence
                .forget(Span::new(chunk * CHUNK_SECTORS, CHUNK_SECTORS));
            if n % each == 0 {
                let random = self.rng.gen();
                let proposal = self.evidence.propose(1, chunk, random).expect("fits");
                self.evidence
                    .confirm(1, proposal.to_bits(Sum(self.next)), true);
            }
            self.versions.insert(chunk, self.next);
            self.next += 1;
        }
    }

    /// Whether a server with this content is noticed when all its connections were lost.
    fn notices(&mut self, content: impl Fn(u64) -> u32) -> bool {
        let random = self.rng.gen();
        let mut pieces = self.evidence.pieces(random).take(PLACES);
        pieces.any(|piece| Sum(content(piece.chunk)) != piece.sum)
    }
}

fn anywhere(rng: &mut StdRng) -> u64 {
    rng.gen_range(0..CHUNKS)
}

/// In how many of the draws a loss is noticed.
fn noticed(what: &str, draw: impl Fn(u64) -> bool) -> u64 {
    let count = (0..DRAWS).filter(|&seed| draw(seed)).count() as u64;
    println!("{what}: noticed {count} of {DRAWS} times");
    count
}

#[test]
fn an_empty_server_is_noticed_after_one_write() {
    for writes in [1, 100, 2000] {
        let what = format!("empty after {writes} writes");
        let count = noticed(&what, |seed| {
            let mut disk = Disk::new(seed);
            disk.write(writes, 1, anywhere);
            disk.notices(|_| 0)
        });
        assert_eq!(count, DRAWS);
    }
}

#[test]
fn a_server_rolled_back_by_an_hour_is_noticed_if_anything_was_written_since() {
    // Writes in the last hour, and one of how many was remembered: all if they are slower than one
    // a millisecond, else fewer.
    for (writes, each) in [(1, 1), (10, 1), (1000, 1), (5000, 20)] {
        let what = format!("rolled back by {writes} writes");
        let count = noticed(&what, |seed| {
            let mut disk = Disk::new(seed);
            disk.write(1500, 1, anywhere);
            let before = disk.versions.clone();
            disk.write(writes, each, anywhere);
            disk.notices(|chunk| before.get(&chunk).copied().unwrap_or(0))
        });
        assert_eq!(count, DRAWS);
    }
}

#[test]
fn a_rolled_back_server_is_noticed_where_few_blocks_are_written_again_and_again() {
    // 200 blocks of a journal or a database, one write in 20 remembered: what was remembered is
    // written over without being remembered, but not all of the latest places at once.
    let count = noticed("rolled back, 200 hot blocks", |seed| {
        let mut disk = Disk::new(seed);
        let hot = |rng: &mut StdRng| 1000 + rng.gen_range(0..200);
        disk.write(1000, 20, hot);
        let before = disk.versions.clone();
        disk.write(1000, 20, hot);
        disk.notices(|chunk| before.get(&chunk).copied().unwrap_or(0))
    });
    assert_eq!(count, DRAWS);
}

#[test]
fn one_lost_disk_of_several_is_noticed_nearly_always() {
    // The places that are asked for are spread evenly, so up to eight disks none is missed as long
    // as something stands everywhere; of more disks one that was lost may fall between them.
    for (disks, at_least) in [
        (2, DRAWS),
        (4, DRAWS),
        (8, DRAWS - 2),
        (16, DRAWS * 3 / 4),
        (32, DRAWS / 2),
    ] {
        let what = format!("one disk of {disks} emptied");
        let count = noticed(&what, |seed| {
            let mut disk = Disk::new(seed);
            disk.write(1500, 1, anywhere);
            let lost = seed % disks;
            let part = CHUNKS / disks;
            let versions = disk.versions.clone();
            disk.notices(|chunk| {
                if chunk / part == lost {
                    0
                } else {
                    versions.get(&chunk).copied().unwrap_or(0)
                }
            })
        });
        assert!(count >= at_least, "{what}: {count} of {DRAWS}");
    }
}

#[test]
fn the_server_that_was_lost_is_believed() {
    let mut disk = Disk::new(1);
    disk.write(1500, 3, anywhere);
    let versions = disk.versions.clone();
    for _ in 0..DRAWS {
        assert!(!disk.notices(|chunk| versions.get(&chunk).copied().unwrap_or(0)));
    }
}
