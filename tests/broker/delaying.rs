//! Messages that wait for their time.

use crate::stage::{Stage, messages, raws, settled};
use fairstalk::broker::{Action, Claim, Settlement};
use std::time::Duration;

fn delayed(claim: &Claim, due: i64) -> Settlement {
    settled(claim, Action::Delay { message: claim.raw.clone(), due })
}

#[tokio::test]
async fn a_message_comes_back_when_due_and_not_before() {
    let mut stage = Stage::new(&["q"]).await;
    let all = messages("m", 3);
    stage.push("q", &all[..1]).await;
    let mut owner = stage.owner("a").await;
    let claim = owner.claim(1).await.remove(0);
    stage.push("q", &all[1..]).await;
    let due = stage.now().await + 800;
    let reply = owner.step(0, &[delayed(&claim, due)]).await;
    assert_eq!(reply.next_due, Some(due));
    let due_in = owner.beat(false).await.unwrap().due_in.unwrap();
    assert!((1..=800).contains(&due_in), "{due_in}");
    stage.census().await.assert_one_place(&all);
    // Others are claimed meanwhile, it is not.
    let mut reply = owner.step(1, &[]).await;
    assert_eq!(raws(&reply.claims), all[1..2]);
    while reply.now < due {
        assert_eq!(reply.next_due, Some(due));
        assert_eq!(stage.census().await.waiting("q", "t:m"), all[2..]);
        tokio::time::sleep(Duration::from_millis(20)).await;
        reply = owner.step(0, &[]).await;
    }
    // Then it is in front of those that came later.
    assert_eq!(reply.next_due, None);
    assert_eq!(stage.census().await.waiting("q", "t:m"), [all[0].clone(), all[2].clone()]);
    assert_eq!(raws(&owner.claim(9).await), [all[0].clone(), all[2].clone()]);
    stage.census().await.assert_one_place(&all);
}

#[tokio::test]
async fn the_earliest_due_comes_first() {
    let mut stage = Stage::new(&["a", "b"]).await;
    let all = messages("m", 6);
    stage.push("a", &all).await;
    let mut owner = stage.owner("o").await;
    let claims = owner.claim(6).await;
    let now = stage.now().await;
    // Due in the past, in an order of their own; one is not due for a while.
    let dues = [now - 10, now - 60, now - 20, now + 60_000, now - 50, now - 30];
    let settlements: Vec<_> = claims.iter().zip(dues).map(|(claim, due)| delayed(claim, due)).collect();
    let reply = owner.step(6, &settlements).await;
    let expected = [1, 4, 5, 2, 0].map(|at: usize| all[at].clone());
    assert_eq!(raws(&reply.claims), expected);
    assert_eq!(reply.next_due, Some(dues[3]));
}

#[tokio::test]
async fn each_goes_back_to_the_list_it_came_from() {
    let mut stage = Stage::with_prefix("p:", &["a", "b"]).await;
    let all = messages("m", 3);
    let lists = ["p:a\x06\x169", "p:b", "p:a"];
    for (list, message) in lists.iter().zip(&all) {
        stage.push_to(list, &[message]).await;
    }
    let mut owner = stage.owner("o").await;
    let claims = owner.claim(3).await;
    let now = stage.now().await;
    owner.settle(&claims.iter().map(|claim| delayed(claim, now - 1)).collect::<Vec<_>>()).await;
    let census = stage.census().await;
    census.assert_one_place(&all);
    for (list, message) in lists.iter().zip(&all) {
        assert_eq!(census.waiting(list, "t:m"), std::slice::from_ref(message));
    }
}

#[tokio::test]
async fn two_owners_do_not_bring_one_back_twice() {
    let mut stage = Stage::new(&["a", "b"]).await;
    let all = messages("m", 250);
    stage.push("a", &all).await;
    let (mut one, mut two) = (stage.owner("one").await, stage.owner("two").await);
    let claims = one.claim(250).await;
    let due = stage.now().await + 100;
    one.settle(&claims.iter().map(|claim| delayed(claim, due)).collect::<Vec<_>>()).await;
    stage.census().await.assert_one_place(&all);
    let mut seen = Vec::new();
    while seen.len() < all.len() {
        let (first, second) = tokio::join!(one.step(3, &[]), two.step(3, &[]));
        for reply in [first, second] {
            assert!(reply.claims.is_empty() || reply.now >= due);
            seen.extend(raws(&reply.claims));
        }
        stage.census().await.assert_one_place(&all);
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), all.len());
    assert!(stage.census().await.delayed().is_empty());
}

/// No script call gets longer because much is due at once; and whoever races, each comes back once.
#[tokio::test]
async fn many_owners_bring_each_back_once_fifty_in_a_step() {
    const OWNERS: usize = 8;
    let mut stage = Stage::new(&["a", "b"]).await;
    let all = messages("m", 2000);
    let mut first = stage.owner("first").await;
    let due = stage.now().await;
    for some in all.chunks(250) {
        stage.push("a", some).await;
        let claims = first.claim(250).await;
        let aside = claims.iter().map(|claim| delayed(claim, due + 60_000)).collect::<Vec<_>>();
        first.settle(&aside).await;
    }
    let key = stage.keys.delayed();
    let names: Vec<String> = stage.ask(&["ZRANGE", &key, "0", "-1"]).await;
    assert_eq!(names.len(), all.len());
    let mut now_due = redis::cmd("ZADD");
    now_due.arg(&key).arg("XX");
    for name in &names {
        now_due.arg(due).arg(name);
    }
    stage.admin.query::<()>(&now_due).await.unwrap();

    let reply = first.one_step(0, &[], &[]).await.unwrap().unwrap();
    assert_eq!(reply.next_due, Some(due), "the next step has to be at once");
    assert_eq!(stage.census().await.delayed().len(), all.len() - 50);

    let (racers, mut race) = (tokio::task::LocalSet::new(), Vec::new());
    for number in 0..OWNERS {
        let mut owner = stage.owner(&format!("racer{number}")).await;
        race.push(racers.spawn_local(async move {
            let mut seen = Vec::new();
            loop {
                let reply = owner.try_step(3, &[]).await.unwrap().unwrap();
                if reply.claims.is_empty() && reply.next_due.is_none() {
                    return seen;
                }
                seen.extend(raws(&reply.claims));
            }
        }));
    }
    racers.await;
    let mut seen = Vec::new();
    for racer in race {
        seen.extend(racer.await.unwrap());
    }
    let mut expected = all.clone();
    seen.sort();
    expected.sort();
    assert!(seen == expected, "{} of {}", seen.len(), all.len());
    stage.census().await.assert_one_place(&all);
}
