// SPDX-License-Identifier: GPL-2.0

//! The block that holds a record on one member, and which of several counts.
//!
//! A superblock is never overwritten by the one that follows: number `seq` has place
//! `seq % SUPERBLOCKS`, so one that is torn or lost leaves the one before, and nobody relied on the
//! new one. What is read here comes from a server: each number is looked at.

use super::{
    bytes::{checksum, get, get_u16, get_u32, get_u64, get_u8, put, Block},
    layout::{slot_of, BLOCK, RING_BYTES, SUPERBLOCKS},
    record::of_groups,
    Cause, Generation, Layout, Member, MemberState, Name, Owner, Record, Uuid,
};
use crate::logic::ids::GroupId;

/// What begins each superblock.
const MAGIC: [u8; 16] = *b"enbd member\0\r\n\x1a\0";
/// The version that this module writes, and the largest that it reads.
pub const VERSION: u16 = 1;
/// A flag of the record.
const INTENT: u8 = 1;
/// Bytes that have a meaning; a later version may give one to more, which are passed over.
const HEADER_LEN: u16 = 1088;
/// Where the checksum is.
const CHECKSUM: usize = 16;
/// Where the history begins, and the members, and their lengths.
const HISTORY_AT: usize = 256;
const PAST_LEN: usize = 16;
const MEMBERS_AT: usize = 512;
const MEMBER_LEN: usize = 64;
/// A member's state.
const NO_MEMBER: u8 = 0;
const IN_SYNC: u8 = 1;
const STALE: u8 = 2;
/// A flag of a member that is stale.
const FULL: u8 = 1;

/// A record as it is on one member.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Superblock {
    /// Which member.
    pub member: GroupId,
    /// Its number among the superblocks of the member.
    pub seq: u64,
    /// Bytes of the export when it was written.
    pub export_bytes: u64,
    /// What it says.
    pub record: Record,
}

/// Why a block is no superblock that could be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Bad {
    /// It is something else, or nothing.
    Blank,
    /// It was torn, or has changed.
    Checksum,
    /// A later version has written it.
    Version,
    /// It has a number that cannot be.
    Odd,
    /// It is of an export of another size.
    Moved,
}

impl Bad {
    /// A short phrase for a log line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blank => "no metadata",
            Self::Checksum => "the metadata is damaged",
            Self::Version => "a later version of enbd has written the metadata",
            Self::Odd => "the metadata makes no sense",
            Self::Moved => "the export has another size than when the metadata was written",
        }
    }
}

impl Superblock {
    /// As a block.
    pub fn encode(&self) -> Block {
        let mut block = [0; BLOCK as usize];
        encode(
            &self.record,
            self.member,
            self.seq,
            self.export_bytes,
            &mut block,
        );
        block
    }

    /// From a block that was read from place `slot` of an export of `export_bytes` bytes.
    ///
    /// # Errors
    ///
    /// Why it is none that could be used.
    pub fn decode(b: &[u8], slot: u64, export_bytes: u64) -> Result<Self, Bad> {
        Self::check(b, export_bytes)?;
        if !is_sound(b, slot, export_bytes) {
            return Err(Bad::Odd);
        }
        Self::build(b, export_bytes).ok_or(Bad::Odd)
    }

    /// Whether a block is one, of a version that is known, and of an export of this size.
    fn check(b: &[u8], export_bytes: u64) -> Result<(), Bad> {
        if get::<16>(b, 0) != MAGIC {
            return Err(Bad::Blank);
        }
        if b.len() != BLOCK as usize || checksum(b, CHECKSUM) != get_u32(b, CHECKSUM) {
            return Err(Bad::Checksum);
        }
        let is_known = get_u16(b, 20) <= VERSION && get_u32(b, 24) == 0 && get_u32(b, 28) == 0;
        if !is_known {
            return Err(Bad::Version);
        }
        if get_u64(b, 80) != export_bytes {
            return Err(Bad::Moved);
        }
        Ok(())
    }

    /// The superblock of a block that [`is_sound`].
    #[inline(never)] // It is large, and its callers are not.
    fn build(b: &[u8], export_bytes: u64) -> Option<Self> {
        Some(Self {
            member: member_of(b)?,
            seq: seq_of(b),
            export_bytes,
            record: Record {
                mirror: Uuid::from_bytes(get(b, 48))?,
                event: get_u64(b, 112),
                generation: Generation::from_bits(get_u64(b, 120))?,
                born: get_u64(b, 128),
                cause: Cause::from_bits(get_u16(b, 136)),
                history: core::array::from_fn(|index| {
                    let at = HISTORY_AT + index * PAST_LEN;
                    Some((Generation::from_bits(get_u64(b, at))?, get_u64(b, at + 8)))
                }),
                members: of_groups(|group| get_member(b, group).flatten()),
                owner: get_owner(b),
                layout: Layout::of_device(get_u64(b, 88)),
                block: get_u32(b, 96),
                name: Name::from_bytes(get(b, 1024)),
                intent: get_u8(b, 232) & INTENT != 0,
                compat: get_u32(b, 32),
            },
        })
    }
}

/// Whether all numbers of a block can be, and go with each other, with its place and with the export.
fn is_sound(b: &[u8], slot: u64, export_bytes: u64) -> bool {
    let header = HEADER_LEN..=BLOCK as u16;
    let has_header = get_u16(b, 20) != 0 && header.contains(&get_u16(b, 22));
    let seq = seq_of(b);
    let is_in_place = slot_of(seq) == slot && u64::from(get_u16(b, 38)) == slot;
    let has_room = seq != u64::MAX && get_u64(b, 112) != u64::MAX;
    let is_known = get_u64(b, 120) != 0 && Uuid::from_bytes(get(b, 48)).is_some();
    has_header
        && is_in_place
        && has_room
        && is_known
        && has_sizes(b, export_bytes)
        && has_members(b)
}

/// Whether the sizes go with each other and with the export.
fn has_sizes(b: &[u8], export_bytes: u64) -> bool {
    let layout = Layout::of_device(get_u64(b, 88));
    let told = (
        u64::from(get_u32(b, 100)),
        u32::from(get_u16(b, 104)),
        u64::from(get_u16(b, 106)),
    );
    let block = get_u32(b, 96);
    let is_whole = layout.device_bytes.checked_rem(u64::from(block)) == Some(0);
    told == (layout.area_bytes, layout.stale_shift, layout.stale_pages)
        && layout.device_bytes != 0
        && layout.fits(export_bytes)
        && block.is_power_of_two()
        && (512..=65536).contains(&block)
        && is_whole
}

/// Whether the members can be: the own one among them, one in sync, and no two of one identity.
fn has_members(b: &[u8]) -> bool {
    let (mut count, mut in_sync) = (0, false);
    for group in GroupId::all() {
        let Some(member) = get_member(b, group) else {
            return false;
        };
        let Some(member) = member else { continue };
        let mut before = GroupId::all().take(group.index());
        if before.any(|other| uuid_of(b, other) == Some(member.uuid)) {
            return false;
        }
        count += 1;
        in_sync |= member.is_in_sync();
    }
    let own = Uuid::from_bytes(get(b, 64));
    let is_own = own.is_some() && member_of(b).and_then(|group| uuid_of(b, group)) == own;
    is_own && in_sync && count == get_u8(b, 37)
}

/// Which member's superblock it is.
fn member_of(b: &[u8]) -> Option<GroupId> {
    GroupId::new(get_u8(b, 36).into())
}

/// The identity of a member.
fn uuid_of(b: &[u8], group: GroupId) -> Option<Uuid> {
    Some(get_member(b, group)??.uuid)
}

/// Writes the superblock number `seq` of `member`, on an export of `export_bytes` bytes, as a block.
pub fn encode(r: &Record, member: GroupId, seq: u64, export_bytes: u64, block: &mut Block) {
    block.fill(0);
    let b = &mut block[..];
    put(b, 0, &MAGIC);
    put(b, 20, &VERSION.to_le_bytes());
    put(b, 22, &HEADER_LEN.to_le_bytes());
    // Nothing yet that an older version would have to refuse.
    put(b, 32, &r.compat.to_le_bytes());
    put(b, 36, &[member.index() as u8, r.all().len() as u8]);
    put(b, 38, &(slot_of(seq) as u16).to_le_bytes());
    put(b, 40, &seq.to_le_bytes());
    put(b, 48, &r.mirror.bytes());
    if let Some(one) = r.member(member) {
        put(b, 64, &one.uuid.bytes());
    }
    put(b, 80, &export_bytes.to_le_bytes());
    put(b, 88, &r.layout.device_bytes.to_le_bytes());
    put(b, 96, &r.block.to_le_bytes());
    put(b, 100, &(r.layout.area_bytes as u32).to_le_bytes());
    put(b, 104, &(r.layout.stale_shift as u16).to_le_bytes());
    put(b, 106, &(r.layout.stale_pages as u16).to_le_bytes());
    put(b, 112, &r.event.to_le_bytes());
    put(b, 120, &r.generation.bits().to_le_bytes());
    put(b, 128, &r.born.to_le_bytes());
    put(b, 136, &r.cause.to_bits().to_le_bytes());
    if let Some(owner) = &r.owner {
        put_owner(b, owner);
    }
    put(b, 232, &[if r.intent { INTENT } else { 0 }]);
    for (index, past) in r.history.iter().enumerate() {
        if let Some((generation, event)) = past {
            let at = HISTORY_AT + index * PAST_LEN;
            put(b, at, &generation.bits().to_le_bytes());
            put(b, at + 8, &event.to_le_bytes());
        }
    }
    for (index, member) in r.members.iter().enumerate() {
        if let Some(member) = member {
            put_member(b, MEMBERS_AT + index * MEMBER_LEN, member);
        }
    }
    put(b, 1024, &r.name.bytes());
    let sum = checksum(b, CHECKSUM);
    put(b, CHECKSUM, &sum.to_le_bytes());
}

/// The number of a block that is one.
fn seq_of(b: &[u8]) -> u64 {
    get_u64(b, 40)
}

fn put_owner(b: &mut [u8], owner: &Owner) {
    let [high, low] = owner.nonce;
    put(b, 144, &high.to_le_bytes());
    put(b, 152, &low.to_le_bytes());
    put(b, 160, &owner.name.bytes());
    put(b, 224, &owner.since.to_le_bytes());
}

fn get_owner(b: &[u8]) -> Option<Owner> {
    let nonce = [get_u64(b, 144), get_u64(b, 152)];
    (nonce != [0; 2]).then(|| Owner {
        nonce,
        name: Name::from_bytes(get(b, 160)),
        since: get_u64(b, 224),
    })
}

fn put_member(b: &mut [u8], at: usize, member: &Member) {
    put(b, at, &member.uuid.bytes());
    put(b, at + 40, &member.seen.to_le_bytes());
    put(b, at + 48, &member.page.to_le_bytes());
    match member.state {
        MemberState::InSync => put(b, at + 16, &[IN_SYNC]),
        MemberState::Stale { since, left, full } => {
            put(b, at + 16, &[STALE]);
            put(b, at + 18, &[if full { FULL } else { 0 }]);
            put(b, at + 24, &since.to_le_bytes());
            let left = left.map_or(0, Generation::bits);
            put(b, at + 32, &left.to_le_bytes());
        }
    }
}

/// A member, or that there is none in this place; nothing if it cannot be.
fn get_member(b: &[u8], group: GroupId) -> Option<Option<Member>> {
    let at = MEMBERS_AT + group.index() * MEMBER_LEN;
    let state = match get_u8(b, at + 16) {
        NO_MEMBER => return Some(None),
        IN_SYNC => MemberState::InSync,
        STALE => MemberState::Stale {
            since: get_u64(b, at + 24),
            left: Generation::from_bits(get_u64(b, at + 32)),
            full: get_u8(b, at + 18) & FULL != 0,
        },
        _ => return None,
    };
    Some(Some(Member {
        uuid: Uuid::from_bytes(get(b, at))?,
        state,
        seen: get_u64(b, at + 40),
        page: get_u64(b, at + 48),
    }))
}

/// Looks for the superblock that counts among those of an export.
pub struct Scan {
    export_bytes: u64,
    is_newer: bool,
    worst: Bad,
}

impl Scan {
    /// Nothing was seen yet of an export of `export_bytes` bytes.
    pub fn new(export_bytes: u64) -> Self {
        Self {
            export_bytes,
            is_newer: false,
            worst: Bad::Blank,
        }
    }

    /// What was read from place `slot`; `best` is the newest one that was seen, nothing at first.
    pub fn see(&mut self, block: &[u8], slot: u64, best: &mut Option<Superblock>) {
        match Superblock::check(block, self.export_bytes) {
            Ok(()) if best.as_ref().is_some_and(|best| seq_of(block) <= best.seq) => {}
            Ok(()) if is_sound(block, slot, self.export_bytes) => {
                *best = Superblock::build(block, self.export_bytes);
            }
            Ok(()) => self.worst = Bad::Odd,
            Err(Bad::Blank) => {}
            Err(Bad::Version) => self.is_newer = true,
            Err(bad) => self.worst = bad,
        }
    }

    /// All places were seen: whether `best` counts.
    ///
    /// # Errors
    ///
    /// [`Bad::Blank`] if there is none; [`Bad::Version`] if any is of a later version, which may have
    /// meant something by it. Else what is wrong with one of them, if none is sound.
    pub fn end(&self, best: &Option<Superblock>) -> Result<(), Bad> {
        if self.is_newer {
            return Err(Bad::Version);
        }
        best.as_ref().map(|_| ()).ok_or(self.worst)
    }
}

/// The superblock that counts, of the whole ring of an export of `export_bytes` bytes, as [`Scan`].
///
/// # Errors
///
/// As [`Scan::end`].
pub fn newest(ring: &[u8; RING_BYTES], export_bytes: u64) -> Result<Superblock, Bad> {
    let (mut scan, mut best) = (Scan::new(export_bytes), None);
    for (index, block) in ring.chunks(BLOCK as usize).enumerate() {
        let slot = (SUPERBLOCKS - 1).saturating_sub(index as u64);
        scan.see(block, slot, &mut best);
    }
    scan.end(&best)?;
    best.ok_or(Bad::Blank)
}
