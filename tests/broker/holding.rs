//! Messages claimed before a slot is free for them: of whom an owner holds some, nobody else claims any.

use crate::picking::pick;
use crate::stage::{Owner, Stage, ack, front, messages, raws};
use fairstalk::broker::Claim;
use fairstalk::broker::pickup::Picked;
use std::rc::Rc;

fn flows(names: &[&str]) -> Vec<Rc<str>> {
    names.iter().map(|name| (*name).into()).collect()
}

/// An owner that has claimed these without a free slot, and its claims. Nothing is left in lanes.
async fn holder(stage: &mut Stage, held: &[Vec<u8>]) -> (Owner, Vec<Claim>) {
    stage.push("q", held).await;
    let mut owner = stage.owner("a").await;
    owner.file().await;
    owner.slots = Some(0);
    let claims = owner.claim(held.len()).await;
    assert_eq!(raws(&claims), held);
    (owner, claims)
}

#[tokio::test]
async fn what_is_claimed_beyond_the_free_slots_holds_its_flow() {
    let mut stage = Stage::new(&["q"]).await;
    let (m, n) = (messages("m", 8), messages("n", 2));
    stage.push("q", &m).await;
    let (mut one, mut other) = (stage.owner("a").await, stage.owner("b").await);
    one.file().await;
    one.slots = Some(1);
    let first = one.claim(3).await;
    assert_eq!(raws(&first), m[..3]);
    stage.push("q", &n).await;
    other.file().await;
    assert_eq!(raws(&other.claim(8).await), n, "those of others are free");
    // Its owner goes on where it was, also if nothing new is in that flow.
    one.holds = flows(&["t:m"]);
    let second = one.step(2, &[ack(&first[0])]).await.claims;
    assert_eq!(raws(&second), m[3..5]);
    assert!(other.claim(8).await.is_empty());
    // All have started.
    (one.holds, one.releases) = (Vec::new(), flows(&["t:m"]));
    one.settle(&[ack(&first[1])]).await;
    assert_eq!(raws(&other.claim(8).await), m[5..]);
}

#[tokio::test]
async fn what_is_claimed_for_free_slots_holds_nobody() {
    let mut stage = Stage::new(&["q"]).await;
    let all = messages("m", 4);
    stage.push("q", &all).await;
    let (mut one, mut other) = (stage.owner("a").await, stage.owner("b").await);
    one.file().await;
    one.slots = Some(2);
    assert_eq!(raws(&one.claim(2).await), all[..2]);
    assert_eq!(raws(&other.claim(2).await), all[2..]);
}

#[tokio::test]
async fn a_message_is_never_claimed_ahead_unseen() {
    let mut stage = Stage::new(&["q"]).await;
    stage.push("q", &messages("m", 4)).await;
    let mut owner = stage.owner("a").await;
    owner.slots = Some(1);
    let reply = owner.one_step(4, &[], &[]).await.unwrap().unwrap();
    assert_eq!((reply.claims.len(), reply.looked.len()), (1, 1));
}

#[tokio::test]
async fn new_messages_of_a_held_flow_wait_too() {
    let mut stage = Stage::new(&["q"]).await;
    let all = messages("m", 4);
    let (mut one, claims) = holder(&mut stage, &all[..2]).await;
    let mut other = stage.owner("b").await;
    stage.push("q", &all[2..]).await;
    other.file().await;
    assert!(other.claim(2).await.is_empty());
    // Given back, they are in order again, and anybody's.
    one.settle(&[front(claims[1].clone()), front(claims[0].clone())]).await;
    assert_eq!(raws(&other.claim(4).await), all);
}

/// Nothing waits in lanes then, so that free slots would take it unseen, whoever's it is.
#[tokio::test]
async fn what_is_new_is_looked_at_while_somebody_holds() {
    let mut stage = Stage::new(&["q"]).await;
    let (all, others) = (messages("m", 4), messages("n", 2));
    let (mut one, claims) = holder(&mut stage, &all[..2]).await;
    let mut other = stage.owner("b").await;
    stage.push("q", &[&all[2..], &others].concat()).await;
    assert_eq!(pick(&mut stage, &other, 1, 2, "q").await, Picked::Refused);
    assert_eq!(raws(&other.claim(4).await), others, "those of others are free");
    // All have started, and ended.
    one.releases = flows(&["t:m"]);
    one.settle(&claims.iter().map(ack).collect::<Vec<_>>()).await;
    assert_eq!(raws(&other.claim(4).await), all[2..]);
    stage.push("q", &messages("o", 1)).await;
    let reply = other.one_step(1, &[], &[]).await.unwrap().unwrap();
    assert_eq!(reply.claims[0].flow, None, "nobody holds anything any more");
}

#[tokio::test]
async fn the_dead_hold_nobody() {
    let mut stage = Stage::new(&["q"]).await;
    let all = messages("m", 5);
    stage.push("q", &all).await;
    let (mut dead, mut other) = (stage.owner("dead").await, stage.owner("b").await);
    dead.file().await;
    dead.slots = Some(1);
    dead.claim(3).await;
    assert!(other.claim(5).await.is_empty());
    let seized = other.seize("dead").await;
    assert!(other.give_back("dead", seized).await.is_empty());
    assert_eq!(raws(&other.claim(5).await), all);
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_holds_nobody_for_good() {
    let mut stage = Stage::new(&["q"]).await;
    let all = messages("m", 3);
    stage.push("q", &all).await;
    let (mut one, mut other) = (stage.owner("a").await, stage.owner("b").await);
    one.file().await;
    one.slots = Some(0);
    one.claim(2).await; // it never hears of these, and so never says that it holds them
    let held = one.held().await;
    one.settle(&held.into_iter().rev().map(front).collect::<Vec<_>>()).await;
    assert_eq!(raws(&other.claim(3).await), all);
}
