//! Who has lost a claim, or all of them, can do no harm.

use crate::stage::{Stage, ack, front, messages, result, settled, stored};
use fairstalk::broker::{Action, Connection};

#[tokio::test]
async fn what_is_not_held_stores_nothing() {
    let mut stage = Stage::new(&["q"]).await;
    let all = messages("m", 3);
    stage.push("q", &all).await;
    let mut owner = stage.owner("a").await;
    let mut other = stage.owner("b").await;
    let claims = owner.claim(1).await;
    let theirs = other.claim(2).await;
    let before = stage.census().await.places();
    // The second of theirs has a number that the owner does not hold; the first of theirs one that it does.
    let not_ours = &theirs[1];
    let settlements = [
        stored(not_ours, Action::Ack, &[result("t", "SUCCESS")]),
        stored(not_ours, Action::Store, &[result("u", "SUCCESS")]),
    ];
    assert_eq!(owner.settle(&settlements).await, [2, 2]);
    for action in [
        Action::Front(all[2].clone()),
        Action::Back(all[2].clone()),
        Action::Delay { message: all[2].clone(), due: 0 },
        Action::Dead { message: all[2].clone(), entry: "{}".into() },
    ] {
        assert_eq!(owner.settle(&[settled(not_ours, action)]).await, [2]);
    }
    assert_eq!(stage.census().await.places(), before);
    let mut results = Connection::open(&stage.results).await.unwrap();
    assert_eq!(results.query::<i64>(&redis::cmd("DBSIZE")).await.unwrap(), 0);
    // Those that are held are settled all the same.
    let lost = owner.settle(&[ack(not_ours), stored(&claims[0], Action::Ack, &[result("v", "SUCCESS")])]).await;
    assert_eq!(lost, [2]);
    assert_eq!(results.query::<i64>(&redis::cmd("DBSIZE")).await.unwrap(), 1);
    stage.census().await.assert_one_place(&all[1..]);
}

#[tokio::test]
async fn an_owner_whose_lease_was_taken_can_do_nothing() {
    let mut stage = Stage::new(&["q"]).await;
    let all = messages("m", 4);
    stage.push("q", &all).await;
    let mut owner = stage.owner("a").await;
    let mut other = stage.owner("b").await;
    let claims = owner.claim(2).await;
    let seized = other.seize("a").await;
    assert_eq!(seized, claims);
    // Between the seizure and the return as well as after it.
    for returned in [false, true] {
        if returned {
            assert!(other.give_back("a", seized.clone()).await.is_empty());
            assert!(other.seize("a").await.is_empty());
        }
        let before = stage.census().await.places();
        let settlements = [stored(&claims[0], Action::Ack, &[result("t", "SUCCESS")]), front(claims[1].clone())];
        assert_eq!(owner.try_step(2, &settlements).await.unwrap(), None);
        assert_eq!(owner.beat(false).await, None);
        let census = stage.census().await;
        assert_eq!(census.places(), before);
        census.assert_one_place(&all);
        let mut results = Connection::open(&stage.results).await.unwrap();
        assert_eq!(results.query::<i64>(&redis::cmd("DBSIZE")).await.unwrap(), 0);
    }
    assert!(!stage.census().await.owners().contains_key("a"));
    assert_eq!(stage.census().await.waiting("q", "t:m"), all);
}

#[tokio::test]
async fn nobody_steps_without_a_lease() {
    let mut stage = Stage::new(&["q"]).await;
    let all = messages("m", 1);
    stage.push("q", &all).await;
    let mut stranger = stage.stranger("s").await;
    assert_eq!(stranger.try_step(1, &[]).await.unwrap(), None);
    assert_eq!(stage.census().await.list("q"), all);
}

#[tokio::test]
async fn a_lease_that_only_ran_out_may_be_renewed() {
    let mut stage = Stage::new(&["q"]).await;
    let all = messages("m", 1);
    stage.push("q", &all).await;
    let mut owner = stage.owner("a").await;
    let claim = owner.claim(1).await.remove(0);
    stage.expire("a").await;
    assert!(owner.beat(false).await.is_some());
    assert!(owner.settle(&[ack(&claim)]).await.is_empty());
    assert!(stage.census().await.owners()["a"] > 1_000_000.0);
}

#[tokio::test]
async fn what_comes_late_from_an_earlier_connection_does_nothing() {
    let mut stage = Stage::new(&["q"]).await;
    let all = messages("m", 3);
    stage.push("q", &all).await;
    let mut owner = stage.owner("a").await;
    let claim = owner.claim(1).await.remove(0);
    owner.number = 2;
    assert!(owner.beat(false).await.is_some(), "it has connected again");
    let before = stage.census().await.places();
    owner.number = 1;
    assert_eq!(owner.try_step(2, &[ack(&claim)]).await.unwrap(), None);
    assert!(owner.beat(false).await.is_some());
    assert_eq!(owner.try_step(2, &[]).await.unwrap(), None, "a late beat does not give the lease back");
    assert_eq!(stage.census().await.places(), before);
    owner.number = 2;
    assert!(owner.settle(&[ack(&claim)]).await.is_empty());
}
