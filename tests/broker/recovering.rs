//! Leases, beats, and what becomes of a dead owner's claims.

use crate::stage::{Stage, ack, front, messages, raws};
use fairstalk::broker::lease::{BEAT, LEASE};
use std::time::Duration;

#[tokio::test]
async fn a_beat_renews_the_lease_and_what_is_held() {
    let mut stage = Stage::new(&["q"]).await;
    let all = messages("m", 5);
    stage.push("q", &all).await;
    let mut owner = stage.owner("a").await;
    owner.claim(2).await;
    let mut other = stage.owner("b").await;
    other.claim(1).await;
    for claim in ["a:1", "a:2", "b:1"] {
        let _: i64 = stage.ask(&["ZADD", "unacked_index", "1000", claim]).await;
    }
    // A stock worker has restored this one meanwhile: it must not come up again.
    let _: i64 = stage.ask(&["ZREM", "unacked_index", "a:2"]).await;
    let pulse = owner.beat(false).await.unwrap();
    assert_eq!((pulse.waiting, pulse.due_in, pulse.expired), (2, None, vec![]));
    let now = stage.now().await as f64;
    let census = stage.census().await;
    assert!((now / 1000.0 - census.index()["a:1"]).abs() < 5.0);
    assert_eq!(census.index()["b:1"], 1000.0);
    assert!(!census.index().contains_key("a:2"));
    let left = census.owners()["a"] - now;
    assert!((left - LEASE.as_millis() as f64).abs() < 2000.0, "{left} ms of its lease left");
}

#[test]
fn what_a_lost_host_held_is_put_back_within_ten_seconds() {
    // Its last beat was just before; the others' beats find the end of its lease.
    assert!(LEASE + BEAT < Duration::from_secs(10));
}

#[tokio::test]
async fn waiting_counts_every_priority() {
    let mut stage = Stage::with_prefix("p:", &["a", "b"]).await;
    stage.push("a", &messages("a", 3)).await;
    stage.push_to("p:b\x06\x169", &messages("b", 2)).await;
    assert_eq!(stage.owner("o").await.beat(false).await.unwrap().waiting, 5);
}

#[tokio::test]
async fn the_dead_are_found_and_what_they_held_goes_to_the_front_in_order() {
    let mut stage = Stage::new(&["a", "b"]).await;
    let all = messages("m", 12);
    stage.push("a", &all[..6]).await;
    stage.push("b", &all[6..]).await;
    let mut dead = stage.owner("dead").await;
    assert_eq!(dead.claim(8).await.len(), 8);
    let mut owner = stage.owner("o").await;
    assert!(owner.beat(false).await.unwrap().expired.is_empty());
    stage.expire("dead").await;
    assert_eq!(owner.beat(false).await.unwrap().expired, ["dead"]);
    let seized = owner.seize("dead").await;
    stage.census().await.assert_one_place(&all);
    assert!(owner.give_back("dead", seized).await.is_empty());
    assert!(owner.seize("dead").await.is_empty());
    let census = stage.census().await;
    assert_eq!(census.waiting("a", "t:m"), all[..6]);
    assert_eq!(census.waiting("b", "t:m"), all[6..]);
    assert_eq!(census.owners().into_keys().collect::<Vec<_>>(), ["o"]);
    assert!(owner.beat(false).await.unwrap().expired.is_empty());
}

/// The largest worker holds more than is taken back in one go.
#[tokio::test]
async fn many_claims_go_back_in_order_too() {
    let mut stage = Stage::new(&["q"]).await;
    let all = messages("m", 256);
    stage.push("q", &all).await;
    let mut dead = stage.owner("dead").await;
    dead.claim(250).await;
    let mut owner = stage.owner("o").await;
    loop {
        let seized = owner.seize("dead").await;
        stage.census().await.assert_one_place(&all);
        if seized.is_empty() {
            break;
        }
        owner.give_back("dead", seized).await;
        stage.census().await.assert_one_place(&all);
    }
    assert_eq!(stage.census().await.waiting("q", "t:m"), all);
}

/// Owners that claim by turns, and give back one after the other, each all of its own at once.
#[tokio::test]
async fn what_several_owners_give_back_is_in_order_again() {
    for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
        for seized in [false, true] {
            let mut stage = Stage::new(&["q"]).await;
            let all = messages("m", 40);
            stage.push("q", &all).await;
            let mut owners = [stage.owner("0").await, stage.owner("1").await, stage.owner("2").await];
            let mut claims = [const { Vec::new() }; 3];
            for turn in 0..12 {
                let want = 1 + turn % 2; // the first of all is claimed unseen
                claims[turn % 3].extend(owners[turn % 3].claim(want).await);
            }
            for at in order {
                let given = std::mem::take(&mut claims[at]);
                if seized {
                    let mut last = stage.owner("last").await;
                    let found = last.seize(&at.to_string()).await;
                    assert_eq!(found, given);
                    last.give_back(&at.to_string(), found).await;
                } else {
                    owners[at].settle(&given.into_iter().rev().map(front).collect::<Vec<_>>()).await;
                }
                stage.census().await.assert_one_place(&all);
            }
            assert_eq!(stage.census().await.waiting("q", "t:m"), all, "given back in the order {order:?}");
        }
    }
}

#[tokio::test]
async fn a_recovering_owner_that_dies_leaves_nothing_behind() {
    let mut stage = Stage::new(&["q"]).await;
    let all = messages("m", 150);
    stage.push("q", &all).await;
    let mut dead = stage.owner("dead").await;
    dead.claim(140).await;
    // The first takes the lease away and dies, the second dies in the middle.
    let mut owner = stage.owner("last").await;
    stage.owner("first").await.seize("dead").await;
    assert_eq!(owner.beat(false).await.unwrap().expired, ["dead"], "at once: its lease is gone for good");
    let mut second = stage.owner("second").await;
    let mut seized = second.seize("dead").await;
    second.give_back("dead", seized.split_off(seized.len() / 2)).await;
    stage.census().await.assert_one_place(&all);
    assert_eq!(owner.beat(false).await.unwrap().expired, ["dead"]);
    loop {
        let seized = owner.seize("dead").await;
        if seized.is_empty() {
            break;
        }
        assert!(owner.give_back("dead", seized).await.is_empty());
    }
    assert_eq!(stage.census().await.waiting("q", "t:m"), all);
    assert!(owner.beat(false).await.unwrap().expired.is_empty());
}

#[tokio::test]
async fn two_that_recover_put_each_message_back_once() {
    let mut stage = Stage::new(&["q"]).await;
    let all = messages("m", 60);
    stage.push("q", &all).await;
    let mut dead = stage.owner("dead").await;
    dead.claim(50).await;
    let (mut one, mut two) = (stage.owner("one").await, stage.owner("two").await);
    let (first, second) = tokio::join!(one.seize("dead"), two.seize("dead"));
    assert_eq!(first, second);
    // One of them puts back the later half while the other puts back everything.
    let mut half = first;
    let later = half.split_off(25);
    let (lost_one, lost_two) = tokio::join!(one.give_back("dead", later), two.give_back("dead", second));
    assert_eq!(lost_one.len() + lost_two.len(), 25);
    stage.census().await.assert_one_place(&all);
    assert_eq!(one.give_back("dead", half).await.len(), 25);
    assert!(two.seize("dead").await.is_empty());
    assert!(one.seize("dead").await.is_empty());
    assert_eq!(raws(&one.claim(60).await), all);
    stage.census().await.assert_one_place(&all);
}

/// After an outage the leases of all are over, and the first to come back must not take the others for dead.
#[tokio::test]
async fn who_was_away_itself_gives_the_others_time() {
    let mut stage = Stage::new(&["q"]).await;
    let mut one = stage.owner("one").await;
    let mut two = stage.owner("two").await;
    stage.owner("dead").await;
    for owner in ["one", "two", "dead"] {
        stage.expire(owner).await;
    }
    assert!(one.beat(false).await.unwrap().expired.is_empty());
    // Nor does one that has just started know how long the others could not speak.
    let mut fresh = stage.stranger("fresh").await;
    assert!(fresh.beat(true).await.unwrap().expired.is_empty());
    assert!(two.beat(false).await.unwrap().expired.is_empty());
    assert_eq!(one.beat(false).await.unwrap().expired, ["dead"]);
    // Half a lease is the limit; a beat that is a little late is none.
    let now = stage.now().await;
    let spoke = |ago: Duration| (now + (LEASE - ago).as_millis() as i64).to_string();
    let owners = stage.keys.owners();
    let _: i64 = stage.ask(&["ZADD", &owners, &spoke(BEAT + Duration::from_millis(300)), "one"]).await;
    assert_eq!(one.beat(false).await.unwrap().expired, ["dead"]);
    let _: i64 = stage.ask(&["ZADD", &owners, &spoke(LEASE / 2 + Duration::from_millis(1)), "one"]).await;
    assert!(one.beat(false).await.unwrap().expired.is_empty());
}

/// What stock Celery has restored after its visibility timeout is not put back a second time.
#[tokio::test]
async fn what_kombu_has_restored_is_forgotten() {
    let mut stage = Stage::new(&["q"]).await;
    let all = messages("m", 4);
    stage.push("q", &all).await;
    let mut dead = stage.owner("dead").await;
    dead.claim(4).await;
    for claim in ["dead:2", "dead:4"] {
        let _: i64 = stage.ask(&["HDEL", "unacked", claim]).await;
        let _: i64 = stage.ask(&["ZREM", "unacked_index", claim]).await;
    }
    stage.push("q", &[&all[1], &all[3]]).await;
    // The owner itself, after a lost connection …
    let held = dead.held().await;
    assert_eq!(raws(&held), [all[0].clone(), vec![], all[2].clone(), vec![]], "nothing is left but the number");
    assert!(dead.settle(&[ack(&held[1])]).await.is_empty(), "which it settles, to be rid of it");
    // … and another, after its death.
    let mut owner = stage.owner("o").await;
    let seized = owner.seize("dead").await;
    assert_eq!(seized, [held[0].clone(), held[2].clone()]);
    owner.give_back("dead", seized).await;
    assert!(owner.seize("dead").await.is_empty());
    assert_eq!(stage.census().await.waiting("q", "t:m"), [0, 2, 1, 3].map(|at: usize| all[at].clone()));
    stage.census().await.assert_one_place(&all);
    // One of which nothing at all is left.
    let mut gone = stage.owner("gone").await;
    let claims = gone.claim(4).await;
    let _: i64 = stage.ask(&["DEL", "unacked", "unacked_index"]).await;
    assert!(owner.seize("gone").await.is_empty());
    assert_eq!(gone.try_step(0, &[ack(&claims[0])]).await.unwrap(), None);
    let census = stage.census().await;
    assert_eq!(census.owners().into_keys().collect::<Vec<_>>(), ["o"]);
    census.assert_one_place::<&[u8]>(&[]);
}
