//! A server that forgets scripts, or has no memory left.

use crate::stage::{Stage, ack, front, messages, raws, result, settled, stored};
use fairstalk::broker::{Action, Claim, Connection, Kind};

#[tokio::test]
async fn scripts_that_the_server_forgot_are_sent_again() {
    let mut stage = Stage::new(&["q"]).await;
    let all = messages("m", 3);
    stage.push("q", &all).await;
    let mut owner = stage.owner("a").await;
    let flush = ["SCRIPT", "FLUSH"];
    stage.ask::<()>(&flush).await;
    let claims = owner.claim(2).await;
    stage.ask::<()>(&flush).await;
    assert!(owner.settle(&[ack(&claims[0])]).await.is_empty());
    stage.ask::<()>(&flush).await;
    assert!(owner.beat(false).await.is_some());
    stage.ask::<()>(&flush).await;
    let mut other = stage.owner("b").await;
    stage.ask::<()>(&flush).await;
    let seized = other.seize("a").await;
    assert_eq!(raws(&seized), all[1..2]);
    stage.ask::<()>(&flush).await;
    other.leave().await;
    stage.census().await.assert_one_place(&all[1..]);
}

/// No write that needs memory is allowed from here on.
async fn exhaust(stage: &mut Stage) {
    stage.ask::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await;
}

async fn relieve(stage: &mut Stage) {
    stage.ask::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await;
}

#[tokio::test]
async fn without_memory_a_step_with_a_result_fails_as_a_whole() {
    let mut stage = Stage::new(&["q"]).await;
    let all = messages("m", 5);
    stage.push("q", &all).await;
    let mut owner = stage.owner("a").await;
    let claims = owner.claim(4).await;
    let later = stage.now().await + 60_000;
    let settlements = [
        ack(&claims[0]),
        stored(&claims[1], Action::Ack, &[result("t", "SUCCESS")]),
        settled(&claims[2], Action::Front(claims[2].raw.clone())),
        settled(&claims[3], Action::Delay { message: claims[3].raw.clone(), due: later }),
    ];
    let before = stage.census().await.places();
    exhaust(&mut stage).await;
    for settlements in [&settlements[..], &settlements[1..2]] {
        let error = owner.try_step(1, settlements).await.unwrap_err();
        assert_eq!(error.kind, Kind::Unavailable, "{error}");
        assert_eq!(stage.census().await.places(), before);
    }
    relieve(&mut stage).await;
    let reply = owner.step(2, &settlements).await;
    assert!(reply.lost.is_empty());
    assert_eq!(raws(&reply.claims), [all[2].clone(), all[4].clone()]);
    stage.census().await.assert_one_place(&all[2..]);
    let mut results = Connection::open(&stage.results).await.unwrap();
    assert_eq!(results.query::<i64>(&redis::cmd("DBSIZE")).await.unwrap(), 1);
}

/// What needs no more memory goes on, or none would ever come free.
#[tokio::test]
async fn without_memory_leases_claims_and_acks_go_on() {
    let mut stage = Stage::new(&["q"]).await;
    let all = messages("m", 5);
    stage.push("q", &all).await;
    let mut owner = stage.owner("a").await;
    let mut dead = stage.owner("dead").await;
    let claim = owner.claim(1).await.remove(0);
    dead.claim(1).await;
    let soon = stage.now().await + 50;
    owner.settle(&[settled(&claim, Action::Delay { message: claim.raw.clone(), due: soon })]).await;
    exhaust(&mut stage).await;
    assert!(owner.beat(false).await.is_some());
    while stage.now().await <= soon {
        tokio::task::yield_now().await;
    }
    // What is due comes back, and is the first to be claimed.
    let claims = owner.claim(2).await;
    assert_eq!(raws(&claims), [all[0].clone(), all[2].clone()]);
    stage.census().await.assert_one_place(&all);
    assert!(owner.settle(&[ack(&claims[0]), ack(&claims[1])]).await.is_empty());
    let seized = owner.seize("dead").await;
    assert_eq!(raws(&seized), all[1..2]);
    let left = [1, 3, 4].map(|at: usize| all[at].clone());
    stage.census().await.assert_one_place(&left);
    relieve(&mut stage).await;
    owner.give_back("dead", seized).await;
    stage.census().await.assert_one_place(&left);
}

/// A move needs no more memory than the message has already: each takes out before it puts in, as the server lets a
/// script go on that has begun.
#[tokio::test]
async fn without_memory_every_move_goes_on() {
    let mut stage = Stage::new(&["q", "r"]).await;
    let all = messages("m", 12);
    stage.push("q", &all[..6]).await;
    let mut owner = stage.owner("a").await;
    exhaust(&mut stage).await;
    // Claimed unseen, looked at, filed, claimed out of a lane.
    let unseen = owner.one_step(2, &[], &[]).await.unwrap().unwrap();
    assert_eq!((raws(&unseen.claims).as_slice(), unseen.looked[0].messages.len()), (&all[..2], 4));
    let looked = owner.one_step(0, &[], &[]).await.unwrap().unwrap().looked;
    assert_eq!(looked[0].messages, all[2..6]);
    let filing = owner.filing(looked.into_iter().next().unwrap()).unwrap();
    let claims = owner.one_step(4, &[], &[filing]).await.unwrap().unwrap().claims;
    assert_eq!(raws(&claims), all[2..6]);
    stage.census().await.assert_one_place(&all[..6]);
    let later = stage.now().await + 60_000;
    let message = |claim: &Claim| claim.raw.clone();
    for settlement in [
        settled(&claims[0], Action::Front(message(&claims[0]))),
        settled(&claims[1], Action::Back(message(&claims[1]))),
        settled(&claims[2], Action::Delay { message: message(&claims[2]), due: later }),
        settled(&claims[3], Action::Dead { message: message(&claims[3]), entry: "{}".into() }),
    ] {
        assert!(owner.settle(&[settlement]).await.is_empty());
        stage.census().await.assert_one_place(&all[..6]);
    }
    // A look by itself can't note whose turn it is; that costs time only.
    relieve(&mut stage).await;
    stage.push("r", &all[6..]).await;
    let mut other = stage.owner("b").await;
    exhaust(&mut stage).await;
    for owner in [&mut owner, &mut other] {
        let reply = owner.one_step(0, &[], &[]).await.unwrap().unwrap();
        assert_eq!((reply.looked[0].messages.as_slice(), reply.turn), (&all[6..], None));
    }
    let back: Vec<_> = unseen.claims.into_iter().rev().map(front).collect();
    owner.one_step(0, &back, &[]).await.unwrap();
    owner.leave().await;
    assert!(other.leave().await.is_empty());
    let census = stage.census().await;
    census.assert_one_place(&all);
    assert_eq!(census.lists["q"].len() + census.lists["r"].len(), 11, "the way back is open: {census:?}");
}
