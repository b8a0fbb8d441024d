//! Goodbyes, and dead letters that are too many or too old.

use crate::stage::{Stage, ack, delivery, messages, raws, settled};
use fairstalk::broker::Action;
use std::time::Duration;

#[tokio::test]
async fn the_last_to_leave_pours_the_delayed_back() {
    let mut stage = Stage::new(&["q", "mail"]).await;
    // More than go in one call of the script.
    let all = messages("m", 1203);
    stage.push("q", &all[..1200]).await;
    stage.push_to("mail\x06\x163", &all[1200..]).await;
    let (mut one, mut two) = (stage.owner("one").await, stage.owner("two").await);
    let later = stage.now().await + 600_000;
    for _ in 0..6 {
        let claims = one.claim(200).await;
        let delays: Vec<_> = claims
            .iter()
            .map(|claim| {
                let due = later + claim.sequence as i64;
                settled(claim, Action::Delay { message: claim.raw.clone(), due })
            })
            .collect();
        one.settle(&delays).await;
    }
    assert_eq!(stage.census().await.delayed().len(), 1200);
    stage.push("q", &["first"]).await;
    let others = one.leave().await;
    assert!(!others.is_empty() && others.expired().next().is_none() && !others.renewed_since(&others));
    let census = stage.census().await;
    assert_eq!(census.delayed().len(), 1200, "others still work");
    two.beat(false).await;
    assert!(one.leave().await.renewed_since(&others), "somebody lives");
    stage.expire("two").await;
    assert_eq!(one.leave().await.expired().collect::<Vec<_>>(), ["two"]);
    assert_eq!(census.owners().into_keys().collect::<Vec<_>>(), ["two"]);
    assert!(two.leave().await.is_empty());
    let mut census = stage.census().await;
    assert!(census.delayed().is_empty() && census.owners().is_empty() && census.held().is_empty());
    // Behind what waits, the earliest due foremost.
    assert_eq!(census.list("q").remove(0), b"first");
    assert_eq!(census.list("q")[1..], all[..1200]);
    assert_eq!(census.lists.remove("mail\x06\x163").unwrap(), all[1200..]);
    let ours: Vec<String> = stage.ask(&["KEYS", "fairstalk:*"]).await;
    assert!(ours.is_empty(), "{ours:?}");
}

#[tokio::test]
async fn who_still_holds_something_stays_known() {
    let mut stage = Stage::new(&["q"]).await;
    let all = messages("m", 1);
    stage.push("q", &all).await;
    let mut owner = stage.owner("a").await;
    let claims = owner.claim(1).await;
    owner.leave().await;
    stage.census().await.assert_one_place(&all);
    assert!(stage.census().await.owners().contains_key("a"), "its claims can be found");
    owner.settle(&[ack(&claims[0])]).await;
    owner.leave().await;
    assert!(stage.census().await.owners().is_empty());
    assert!(stage.ask::<Vec<String>>(&["KEYS", "*"]).await.is_empty());
}

#[tokio::test]
async fn dead_letters_are_kept_so_many_and_so_long() {
    let mut stage = Stage::new(&["q"]).await;
    let all = messages("m", 150);
    stage.push("q", &all).await;
    let mut owner = stage.owner("a").await;
    let claims = owner.claim(150).await;
    let buried = |claim| settled(claim, Action::Dead { message: claim.raw.clone(), entry: "{}".into() });
    owner.settle(&claims.iter().map(buried).collect::<Vec<_>>()).await;
    let dead = stage.keys.dead();
    for claim in &claims {
        // Years apart, in the order in which they came.
        let (score, name) = ((1000 + claim.sequence).to_string(), format!("a:{}", claim.sequence));
        let _: i64 = stage.ask(&["ZADD", &dead, &score, &name]).await;
    }
    owner.delivery = delivery(150, Duration::from_secs(365 * 86_400 * 200));
    owner.beat(false).await;
    assert_eq!(stage.census().await.dead().len(), 150, "neither too many nor too old");
    // At most 100 go with one beat.
    owner.delivery = delivery(20, Duration::from_secs(365 * 86_400 * 200));
    owner.beat(false).await;
    stage.census().await.assert_one_place(&all[100..]);
    owner.beat(false).await;
    stage.census().await.assert_one_place(&all[130..]);
    // The latest ten are of today.
    let now = stage.now().await.to_string();
    for claim in &claims[140..] {
        let _: i64 = stage.ask(&["ZADD", &dead, &now, &format!("a:{}", claim.sequence)]).await;
    }
    owner.delivery = delivery(20, Duration::from_secs(3600));
    owner.beat(false).await;
    stage.census().await.assert_one_place(&all[140..]);
    assert_eq!(stage.census().await.dead().into_values().count(), 10);
    assert!(raws(&owner.claim(9).await).is_empty());
}
