// SPDX-License-Identifier: GPL-2.0

//! What the words of a group tell.

use super::*;

const C0: ChannelId = ChannelId::new(0).unwrap();
const C1: ChannelId = ChannelId::new(1).unwrap();
const C2: ChannelId = ChannelId::new(2).unwrap();
const C3: ChannelId = ChannelId::new(3).unwrap();

#[test]
fn without_multi_conn_one_channel_serves_until_it_has_ended() {
    let g = GroupCore::default();
    g.set_apart(C2, true);
    g.set_apart(C3, true);
    assert_eq!((g.may_serve(C2), g.may_serve(C3)), (Ok(()), Ok(())));
    g.set_serving(C2, true);
    g.add_up(C2);
    assert_eq!(
        (g.may_serve(C2), g.may_serve(C3)),
        (Ok(()), Err(Lack::OneConnection))
    );
    // It takes no more requests, and brings the answers to those that it has.
    g.remove_up(C2);
    assert_eq!(g.may_serve(C3), Err(Lack::OneConnection));
    g.set_serving(C2, false);
    assert_eq!(g.may_serve(C3), Ok(()));
}

#[test]
fn nobody_joins_who_has_no_multi_conn_or_who_finds_one_that_has_none() {
    let g = GroupCore::default();
    g.set_serving(C0, true);
    g.set_serving(C1, true);
    assert_eq!(g.may_serve(C2), Ok(()));
    g.set_apart(C2, true);
    assert_eq!(g.may_serve(C2), Err(Lack::MultiConn));
    g.set_apart(C2, false);
    g.set_apart(C1, true);
    assert_eq!(g.may_serve(C2), Err(Lack::OneConnection));
    g.set_serving(C0, false);
    assert_eq!(g.may_serve(C1), Ok(()));
}

#[test]
fn an_answer_answers_what_was_asked_before() {
    let g = GroupCore::default();
    let (first, second) = (g.next_question(), g.next_question());
    assert!(!g.has_answer(first));
    g.note_answer(first);
    assert!(g.has_answer(first) && !g.has_answer(second));
    g.note_answer(second);
    g.note_answer(first);
    assert!(g.has_answer(first) && g.has_answer(second));
}

#[test]
fn one_channel_comes_up_at_a_time() {
    let g = GroupCore::default();
    assert!(g.begin_greeting());
    assert!(!g.begin_greeting());
    g.end_greeting();
    assert!(g.begin_greeting());
}
