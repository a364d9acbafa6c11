// SPDX-License-Identifier: GPL-2.0

//! A resync as the post of 2003 shows it, and cursor, log and progress example by example.

use enbd_logic::logic::bitmap::{Run, LEAF_BLOCKS};
use enbd_logic::logic::resync::*;
use enbd_oracle::pages::{map, none, plenty, Map, Page};

const SECOND: u64 = 1_000_000_000;

fn words(line: Line) -> String {
    let mut text = String::new();
    line.write(&mut text).unwrap();
    text
}

/// Takes the next step, and puts its line or lines into `lines`.
fn step(cursor: &mut Cursor, map: &Map, log: &mut RunLog, lines: &mut Vec<Line>) -> Step {
    let step = cursor.next(256, |from, max_len| map.next_dirty(from, max_len));
    match step {
        Step::Window(window) => {
            if let Some(skipped) = window.skipped {
                lines.extend(log.skipped_clean(skipped.first, skipped.len));
            }
            lines.extend(log.saw_marked(window.run.first, window.run.len));
        }
        Step::Done { skipped } => {
            if let Some(skipped) = skipped {
                lines.extend(log.skipped_clean(skipped.first, skipped.len));
            }
            lines.extend(log.finish());
        }
        Step::Wait | Step::Failed | Step::Unreadable => {}
    }
    step
}

fn run(first: u64, len: u64) -> Run {
    Run { first, len }
}

fn window(step: Step) -> Run {
    match step {
        Step::Window(window) => window.run,
        other => panic!("{other:?}"),
    }
}

/// The walk of the post, with up to `depth` windows in flight.
fn walk_of_2003(depth: usize) {
    let mut map = map(4096);
    for (first, len) in [(1, 3), (6, 1), (146, 1029)] {
        map.mark(first, len, &mut plenty);
    }
    let mut cursor = Cursor::new(4096);
    let mut log = RunLog::new();
    let mut progress = Progress::new(0, 4096, map.dirty());
    let (mut lines, mut flight) = (Vec::new(), Vec::new());
    let (mut now, mut copied, mut shown) = (0, 0, 0);
    loop {
        let step = step(&mut cursor, &map, &mut log, &mut lines);
        match step {
            Step::Window(window) => flight.push(window.run),
            Step::Wait => {}
            Step::Done { .. } => break,
            Step::Failed | Step::Unreadable => unreachable!(),
        }
        if flight.len() == depth || step == Step::Wait {
            let run = flight.pop().unwrap();
            copied += map.clear(run.first, run.len, &mut drop);
            cursor.ended(run, CopyEnd::Copied).unwrap();
        }
        now += SECOND / 3;
        progress.update(now, cursor.pos(), copied, map.dirty());
        assert!(progress.pos() >= shown && progress.pos() <= 4096);
        shown = progress.pos();
    }
    let lines: Vec<_> = lines.into_iter().map(words).collect();
    assert_eq!(
        lines,
        [
            "nbd_resync skipped clean blocks 0-0",
            "nbd_resync saw marked blocks 1-3",
            "nbd_resync skipped clean blocks 4-5",
            "nbd_resync saw marked blocks 6-6",
            "nbd_resync skipped clean blocks 7-145",
            "nbd_resync saw marked blocks 146-1174",
            "nbd_resync skipped clean blocks 1175-4095",
        ]
    );
    assert_eq!(copied, 1033);
    progress.update(now, cursor.pos(), copied, map.dirty());
    assert_eq!((progress.pos(), progress.permille()), (4096, 999));
    assert_eq!(progress.finish_secs(now), Some(0));
    let mut text = String::new();
    log.summary().write(&mut text).unwrap();
    assert_eq!(
        text,
        "nbd_resync saw 1033 marked blocks in 3 runs, skipped 3063 clean in 4, 0 runs not told"
    );
}

#[test]
fn the_walk_of_2003() {
    for depth in [1, 2, 3, 5, MAX_IN_FLIGHT] {
        walk_of_2003(depth);
    }
}

#[test]
fn permille_as_in_2003() {
    for (pos, permille) in [(2, 0), (270, 65), (426, 103), (1095, 267), (4096, 999)] {
        let mut progress = Progress::new(0, 4096, 1033);
        progress.update(1, pos, 0, 1033);
        assert_eq!(progress.permille(), permille);
    }
}

#[test]
fn progress_of_huge_and_odd_devices() {
    for max in [0, 1, 999, u64::MAX / 1000, u64::MAX / 1000 + 1, u64::MAX] {
        let mut progress = Progress::new(5, max, max);
        progress.update(3, u64::MAX, u64::MAX, u64::MAX);
        assert!(progress.pos() == max && progress.permille() <= 999);
        assert!(max < 1000 || progress.permille() >= 998);
        progress.finish_secs(0);
        progress.finish_secs(u64::MAX);
        progress.update(0, 0, 0, u64::MAX);
        assert_eq!(progress.pos(), max);
    }
}

#[test]
fn time_left_follows_the_speed() {
    let mut progress = Progress::new(0, 1_000_000, 100_000);
    assert_eq!(progress.finish_secs(SECOND), None);
    // 100 blocks a second for 20 s.
    let (mut now, mut copied) = (0, 0);
    for _ in 0..200 {
        now += SECOND / 10;
        copied += 10;
        progress.update(now, copied, copied, 100_000 - copied);
    }
    let left = progress.finish_secs(now).unwrap();
    assert!((960..=1000).contains(&left), "{left}");
    // Then 1000 a second: 5 s later the old speed is forgotten.
    for _ in 0..50 {
        now += SECOND / 10;
        copied += 100;
        progress.update(now, copied, copied, 100_000 - copied);
    }
    let left = progress.finish_secs(now).unwrap();
    assert!((93..=98).contains(&left), "{left}");
    // Then nothing: the estimate grows with the clock.
    let later = progress.finish_secs(now + 60 * SECOND).unwrap();
    assert!(later > 10 * left, "{later}");
}

#[test]
fn many_runs_give_few_lines() {
    let mut log = RunLog::new();
    let (mut marked, mut clean) = (0, 0);
    let mut count = |line: Option<Line>| match line {
        Some(Line::Marked { .. }) => marked += 1,
        Some(Line::Clean { .. }) => clean += 1,
        Some(Line::Unreadable { .. }) | None => {}
    };
    for at in 0..1000 {
        count(log.skipped_clean(at * 10, 7));
        count(log.saw_marked(at * 10 + 7, 2));
        count(log.saw_marked(at * 10 + 9, 1));
        count(log.saw_marked(at * 10 + 10, 0));
    }
    count(log.finish());
    count(log.finish());
    assert_eq!((marked, clean), (MAX_LINES, MAX_LINES));
    let suppressed = 1000 - u64::from(MAX_LINES);
    let tally = |blocks| Tally {
        runs: 1000,
        blocks,
        suppressed,
    };
    assert_eq!(
        log.summary(),
        Summary {
            marked: tally(3000),
            clean: tally(7000)
        }
    );
}

#[test]
fn nothing_seen_ends_no_run() {
    let mut log = RunLog::new();
    assert_eq!(log.skipped_clean(0, 5), None);
    assert_eq!(log.saw_marked(5, 0), None);
    assert_eq!(log.skipped_clean(5, 5), None);
    assert_eq!(log.finish(), Some(Line::Clean { first: 0, last: 9 }));
    assert_eq!(log.finish(), None);
}

#[test]
fn large_windows_in_flight_are_stepped_over() {
    let mut map = map(4096);
    map.mark(0, 1024, &mut plenty);
    let mut cursor = Cursor::new(4096);
    let next = |cursor: &mut Cursor, map: &Map| {
        window(cursor.next(256, |from, max| map.next_dirty(from, max)))
    };
    for first in [0, 256, 512, 768] {
        assert_eq!(next(&mut cursor, &map), run(first, 256));
    }
    map.mark(4000, 1, &mut plenty);
    assert_eq!(next(&mut cursor, &map), run(4000, 1));
    // Behind the cursor, and behind all of the windows in flight.
    map.mark(2000, 1, &mut plenty);
    assert_eq!(next(&mut cursor, &map), run(2000, 1));
    assert_eq!(cursor.pass(), 2);
}

#[test]
fn marks_behind_the_cursor_need_another_pass() {
    let mut map = map(1000);
    map.mark(100, 10, &mut plenty);
    map.mark(500, 10, &mut plenty);
    let mut cursor = Cursor::new(1000);
    let (mut log, mut lines) = (RunLog::new(), Vec::new());
    let mut next = |cursor: &mut Cursor, map: &Map| step(cursor, map, &mut log, &mut lines);
    let a = window(next(&mut cursor, &map));
    let b = window(next(&mut cursor, &map));
    assert_eq!((a, b), (run(100, 10), run(500, 10)));
    // Everything before the first window in flight is done.
    assert_eq!(cursor.pos(), 100);
    assert_eq!(next(&mut cursor, &map), Step::Wait);
    // Around the window in flight, the new marks are copied, but not the window.
    map.mark(90, 30, &mut plenty);
    assert_eq!(window(next(&mut cursor, &map)), run(90, 10));
    assert_eq!(cursor.pass(), 2);
    assert_eq!(window(next(&mut cursor, &map)), run(110, 10));
    assert_eq!(next(&mut cursor, &map), Step::Wait);
    for run in [b, run(110, 10), a, run(90, 10)] {
        assert_eq!(next(&mut cursor, &map), Step::Wait);
        map.clear(run.first, run.len, &mut drop);
        assert_eq!(cursor.ended(run, CopyEnd::Copied), Ok(()));
        assert_eq!(
            cursor.ended(run, CopyEnd::Copied),
            Err(CursorReason::NotInFlight)
        );
    }
    assert_eq!(next(&mut cursor, &map), Step::Done { skipped: None });
    assert_eq!(cursor.pos(), 1000);
    // A mark that came in before the barrier was raised.
    map.mark(999, 1, &mut plenty);
    let c = window(next(&mut cursor, &map));
    assert_eq!((c, cursor.pass()), (run(999, 1), 3));
    map.clear(999, 1, &mut drop);
    cursor.ended(c, CopyEnd::Copied).unwrap();
    assert_eq!(next(&mut cursor, &map), Step::Done { skipped: None });
    let lines: Vec<_> = lines.into_iter().map(words).collect();
    assert_eq!(
        lines,
        [
            "nbd_resync skipped clean blocks 0-99",
            "nbd_resync saw marked blocks 100-109",
            "nbd_resync skipped clean blocks 110-499",
            "nbd_resync saw marked blocks 500-509",
            "nbd_resync skipped clean blocks 510-999",
            "nbd_resync saw marked blocks 90-99",
            "nbd_resync saw marked blocks 110-119",
            "nbd_resync saw marked blocks 999-999",
        ]
    );
}

#[test]
fn a_clean_map_is_done_at_once() {
    let map = map(4096);
    let mut cursor = Cursor::new(4096);
    let done = |cursor: &mut Cursor| cursor.next(1, |from, max| map.next_dirty(from, max));
    let skipped = Some(run(0, 4096));
    assert_eq!(done(&mut cursor), Step::Done { skipped });
    assert_eq!(done(&mut cursor), Step::Done { skipped: None });
}

#[test]
fn a_failed_copy_ends_the_walk_and_keeps_the_bits() {
    let mut map = map(4096);
    map.mark(0, 4096, &mut plenty);
    map.refine(0, Page::dusty()).unwrap();
    let mut cursor = Cursor::new(4096);
    let next =
        |cursor: &mut Cursor, map: &Map| cursor.next(64, |from, max| map.next_dirty(from, max));
    let windows: Vec<_> = (0..3).map(|_| window(next(&mut cursor, &map))).collect();
    cursor.ended(windows[1], CopyEnd::Failed).unwrap();
    assert_eq!(next(&mut cursor, &map), Step::Wait);
    map.clear(windows[0].first, windows[0].len, &mut drop);
    cursor.ended(windows[0], CopyEnd::Copied).unwrap();
    assert_eq!(next(&mut cursor, &map), Step::Wait);
    map.clear(windows[2].first, windows[2].len, &mut drop);
    cursor.ended(windows[2], CopyEnd::Copied).unwrap();
    assert_eq!(next(&mut cursor, &map), Step::Failed);
    assert_eq!(map.next_dirty(0, 1000), Some(run(64, 64)));
}

/// Walks until the walk says something else than a window, or to wait: with four copies at once, of
/// which those end unreadable that touch one of the `bad` blocks. Gives how many windows there were.
fn walk_over(map: &mut Map, cursor: &mut Cursor, bad: &[u64]) -> (Step, usize) {
    let mut flight = std::collections::VecDeque::new();
    for windows in 0..100_000 {
        let step = cursor.next(64, |from, max| map.next_dirty(from, max));
        let is_window = matches!(step, Step::Window(_));
        match step {
            Step::Window(window) => flight.push_back(window.run),
            Step::Wait => {}
            end => {
                assert!(flight.is_empty());
                return (end, windows);
            }
        }
        if flight.len() < 4 && is_window {
            continue;
        }
        let run: Run = flight.pop_front().expect("something to wait for");
        let is_bad = bad.iter().any(|b| run.first <= *b && *b < run.end());
        if is_bad {
            cursor.ended(run, CopyEnd::Unreadable).unwrap();
        } else {
            map.clear(run.first, run.len, &mut drop);
            cursor.ended(run, CopyEnd::Copied).unwrap();
        }
    }
    panic!("the walk does not end");
}

#[test]
fn what_cannot_be_read_is_left_and_all_the_rest_is_copied() {
    let mut map = map(4096);
    map.mark(0, 4096, &mut plenty);
    map.refine(0, Page::dusty()).unwrap();
    let mut cursor = Cursor::new(4096);
    let bad = [0, 100, 101, 2000, 4095];
    let (end, windows) = walk_over(&mut map, &mut cursor, &bad);
    assert_eq!(end, Step::Unreadable);
    let left: Vec<_> = (0..4096)
        .filter(|&b| map.next_dirty(b, 1).is_some_and(|r| r.first == b))
        .collect();
    assert_eq!(left, bad);
    assert_eq!(cursor.pass(), 2);
    // 64 windows; four of them block by block; and in the second pass once more what is left.
    assert!(windows < 2 * (64 + 4 * 64 + 4 + 6), "{windows} windows");
    // Some of it was mended: it takes another walk.
    let mut cursor = Cursor::new(4096);
    assert_eq!(
        walk_over(&mut map, &mut cursor, &bad[..1]).0,
        Step::Unreadable
    );
    assert_eq!(map.dirty(), 1);
    let mut cursor = Cursor::new(4096);
    let (end, _) = walk_over(&mut map, &mut cursor, &[]);
    assert!(matches!(end, Step::Done { .. }) && map.is_clean());
}

#[test]
fn a_source_that_can_read_nothing_ends_the_walk() {
    let mut map = map(LEAF_BLOCKS);
    map.mark_all(&mut drop);
    map.refine(0, Page::dusty()).unwrap();
    let mut cursor = Cursor::new(LEAF_BLOCKS);
    let bad: Vec<_> = (0..LEAF_BLOCKS).collect();
    let (end, windows) = walk_over(&mut map, &mut cursor, &bad);
    assert_eq!(end, Step::Failed);
    assert!(windows < 4 * MOST_UNREADABLE as usize, "{windows} windows");
    assert!(map.dirty() > LEAF_BLOCKS / 2);
}

#[test]
fn windows_in_flight_are_bounded_and_keep_within_a_leaf() {
    let mut map = map(3 * LEAF_BLOCKS);
    map.mark_all(&mut drop);
    let mut cursor = Cursor::new(map.blocks());
    let next = |cursor: &mut Cursor, len| cursor.next(len, |from, max| map.next_dirty(from, max));
    assert_eq!(window(next(&mut cursor, 0)), run(0, 1));
    assert_eq!(window(next(&mut cursor, u64::MAX)), run(1, LEAF_BLOCKS - 1));
    for _ in 2..MAX_IN_FLIGHT {
        window(next(&mut cursor, 1));
    }
    assert_eq!(cursor.in_flight(), MAX_IN_FLIGHT);
    assert_eq!(next(&mut cursor, 1), Step::Wait);
}

#[test]
fn a_coarse_window_without_refine_is_copied_again_not_forgotten() {
    let mut map = map(4096);
    map.mark(7, 1, &mut none);
    let mut cursor = Cursor::new(4096);
    let a = window(cursor.next(64, |from, max| map.next_dirty(from, max)));
    assert_eq!(map.clear(a.first, a.len, &mut drop), 0);
    cursor.ended(a, CopyEnd::Copied).unwrap();
    assert_eq!(map.dirty(), 4096);
}

#[test]
fn answers_that_make_no_sense_never_end_the_walk() {
    // A map that breaks its contract costs a needless copy, not a lost block.
    let mut cursor = Cursor::new(100);
    for answer in [run(0, 0), run(0, 5), run(3, 0)] {
        assert!(window(cursor.next(8, |_, _| Some(answer))).len >= 1);
    }
    let mut cursor = Cursor::new(0);
    assert_eq!(
        cursor.next(8, |_, _| Some(run(0, 1))),
        Step::Done { skipped: None }
    );
}
