//! Dead letters: read in pages, put back and dropped in batches, each once.

use crate::stage::{Stage, messages, settled};
use fairstalk::broker::Action;
use fairstalk::broker::dead::{self, DeadLetter, Order, Walk};
use std::collections::BTreeSet;

/// So many letters, the first the oldest; `ties` in a row have the same time.
async fn letters(stage: &mut Stage, count: usize, ties: usize) -> Vec<Vec<u8>> {
    let all = messages("m", count);
    let keys = stage.keys.clone();
    for (number, message) in all.iter().enumerate() {
        let name = format!("o:{number:06}");
        let mut pipeline = redis::pipe();
        pipeline.cmd("HSET").arg(keys.dead_messages()).arg(&name).arg(message);
        pipeline.cmd("HSET").arg(keys.dead_entries()).arg(&name).arg(format!(r#"{{"number": {number}}}"#));
        pipeline.cmd("ZADD").arg(keys.dead()).arg(1_000_000 + number / ties).arg(&name);
        stage.admin.pipeline::<()>(&pipeline).await.unwrap();
    }
    all
}

async fn walked(stage: &mut Stage, mut walk: Walk) -> Vec<u64> {
    let mut numbers = Vec::new();
    let keys = stage.keys.clone();
    loop {
        let page = walk.next(&mut stage.admin, &keys).await.unwrap();
        if page.is_empty() {
            return numbers;
        }
        numbers.extend(page.iter().map(|letter| letter.entry["number"].as_u64().unwrap()));
    }
}

fn to_the_queue(_: &DeadLetter, message: Vec<u8>) -> (String, Vec<u8>) {
    ("p:q".into(), message)
}

#[tokio::test]
async fn a_walk_meets_every_letter_once_in_order_however_many_share_a_time() {
    for ties in [1, 7, 1000] {
        let mut stage = Stage::with_prefix("p:", &["q"]).await;
        letters(&mut stage, 450, ties).await;
        let everything = |order| Walk::new(order, 0, 1_000_000_000);
        let up = walked(&mut stage, everything(Order::OldestFirst)).await;
        assert_eq!(up, (0..450).collect::<Vec<_>>(), "{ties} share a time");
        let mut down = walked(&mut stage, everything(Order::NewestFirst)).await;
        down.reverse();
        assert_eq!(down, up);
    }
    let mut stage = Stage::with_prefix("p:", &["q"]).await;
    letters(&mut stage, 50, 10).await;
    let span = walked(&mut stage, Walk::new(Order::OldestFirst, 1_000_001, 1_000_002)).await;
    assert_eq!(span, (10..30).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_put_back_on_the_way_is_not_missed_nor_met_again() {
    for ties in [1, 300] {
        let mut stage = Stage::with_prefix("p:", &["q"]).await;
        let all = letters(&mut stage, 450, ties).await;
        let keys = stage.keys.clone();
        let mut walk = Walk::new(Order::OldestFirst, 0, 1_000_000_000);
        let mut done = 0;
        loop {
            let page = walk.next(&mut stage.admin, &keys).await.unwrap();
            if page.is_empty() {
                break;
            }
            // Two thirds are chosen; the others stay and are passed.
            let (chosen, _): (Vec<_>, Vec<_>) =
                page.into_iter().partition(|letter| letter.entry["number"].as_u64().unwrap() % 3 != 0);
            done += dead::replay(&mut stage.admin, &keys, &chosen, to_the_queue).await.unwrap();
            walk.removed(&chosen);
            stage.census().await.assert_one_place(&all);
        }
        assert_eq!(done, 300);
        let expected: Vec<_> = (0..450).filter(|number| number % 3 != 0).map(|number| all[number].clone()).collect();
        assert_eq!(stage.census().await.list("q"), expected, "in the order in which they died");
    }
}

/// Two commands at once, and one that is tried again: each message once.
#[tokio::test]
async fn each_is_put_back_once_whoever_tries() {
    let mut stage = Stage::with_prefix("p:", &["q"]).await;
    let all = letters(&mut stage, 45, 1).await;
    let keys = stage.keys.clone();
    let page = Walk::new(Order::OldestFirst, 0, 1_000_000_000).next(&mut stage.admin, &keys).await.unwrap();
    let (mut one, mut two) = (stage.connect().await, stage.connect().await);
    let (first, second) = tokio::join!(
        dead::replay(&mut one, &keys, &page, to_the_queue),
        dead::replay(&mut two, &keys, &page, to_the_queue)
    );
    assert_eq!(first.unwrap() + second.unwrap(), 45);
    assert_eq!(dead::replay(&mut one, &keys, &page, to_the_queue).await.unwrap(), 0);
    assert_eq!(dead::drop(&mut one, &keys, &page).await.unwrap(), 0);
    let census = stage.census().await;
    census.assert_one_place(&all);
    assert_eq!(census.list("q").len(), 45);
}

/// A list that can't be pushed to: what was not moved stays a dead letter, whole.
#[tokio::test]
async fn a_failure_in_the_middle_loses_nothing() {
    let mut stage = Stage::with_prefix("p:", &["q"]).await;
    letters(&mut stage, 30, 1).await;
    let keys = stage.keys.clone();
    let _: () = stage.ask(&["SET", "p:wrong", "text"]).await;
    let page = Walk::new(Order::OldestFirst, 0, 1_000_000_000).next(&mut stage.admin, &keys).await.unwrap();
    let bad = |letter: &DeadLetter, message| match letter.entry["number"].as_u64() {
        Some(25) => ("p:wrong".to_owned(), message),
        _ => ("p:q".to_owned(), message),
    };
    assert!(dead::replay(&mut stage.admin, &keys, &page, bad).await.is_err());
    let census = stage.census().await;
    let put_back: BTreeSet<_> = census.list("q").into_iter().collect();
    let left: BTreeSet<_> = census.dead().into_values().collect();
    assert_eq!((put_back.len(), left.len()), (25, 5));
    assert!(put_back.is_disjoint(&left));
}

#[tokio::test]
async fn a_drop_takes_all_of_a_letter() {
    let mut stage = Stage::with_prefix("p:", &["q"]).await;
    let all = letters(&mut stage, 10, 3).await;
    let keys = stage.keys.clone();
    let page = Walk::new(Order::NewestFirst, 0, 1_000_000_000).next(&mut stage.admin, &keys).await.unwrap();
    assert_eq!(dead::message(&mut stage.admin, &keys, &page[0].name).await.unwrap(), Some(all[9].clone()));
    assert_eq!(dead::drop(&mut stage.admin, &keys, &page[..4]).await.unwrap(), 4);
    assert_eq!(dead::drop(&mut stage.admin, &keys, &page[2..5]).await.unwrap(), 1);
    assert_eq!(dead::message(&mut stage.admin, &keys, &page[0].name).await.unwrap(), None);
    assert_eq!(dead::drop(&mut stage.admin, &keys, &[]).await.unwrap(), 0);
    stage.census().await.assert_one_place(&all[..5]);
}

/// As a worker writes them, and as long as they may stay.
#[tokio::test]
async fn what_a_worker_sets_aside_can_be_walked() {
    let mut stage = Stage::new(&["q"]).await;
    stage.push("q", &messages("m", 3)).await;
    let mut owner = stage.owner("o").await;
    let claims = owner.claim(3).await;
    let entry = |number: usize| format!(r#"{{"number": {number}}}"#);
    for (number, claim) in claims.iter().enumerate() {
        owner.settle(&[settled(claim, Action::Dead { message: claim.raw.clone(), entry: entry(number) })]).await;
    }
    let now = dead::now(&mut stage.admin).await.unwrap();
    assert_eq!(walked(&mut stage, Walk::new(Order::OldestFirst, now - 60_000, now)).await, [0, 1, 2]);
    assert!(walked(&mut stage, Walk::new(Order::OldestFirst, 0, now - 60_000)).await.is_empty());
}
