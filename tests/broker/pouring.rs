//! The way back: what waits in lanes is in its lists again, for stock Celery, in the order of each tenant.

use crate::census::Census;
use crate::stage::{Owner, Stage, ack, flow_of, front, messages, settled};
use fairstalk::broker::Action;
use std::collections::BTreeMap;

const LISTS: [&str; 8] =
    ["p:a", "p:a\x06\x163", "p:a\x06\x166", "p:a\x06\x169", "p:b", "p:b\x06\x163", "p:b\x06\x166", "p:b\x06\x169"];

/// Messages of one tenant in one list, in their order.
type Orders = BTreeMap<(String, String), Vec<Vec<u8>>>;

fn order_in(lists: &BTreeMap<String, Vec<Vec<u8>>>) -> Orders {
    let mut orders = Orders::new();
    for (list, messages) in lists {
        for message in messages {
            orders.entry((list.clone(), flow_of(list, message).to_string())).or_default().push(message.clone());
        }
    }
    orders
}

/// Messages of 50 tenants in all lists of two queues, mixed.
async fn flood(stage: &mut Stage, first: usize, count: usize) {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut lists: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for number in first..first + count {
        let text = format!(r#"{{"id": "u{}-{number}"}}"#, rng.u8(..50));
        lists.entry(rng.choice(LISTS).unwrap()).or_default().push(text);
    }
    for (list, messages) in lists {
        stage.push_to(list, &messages).await;
    }
}

async fn nothing_of_ours_is_left(stage: &mut Stage) {
    let ours: Vec<String> = stage.ask(&["KEYS", "*fairstalk:*"]).await;
    assert!(ours.is_empty(), "{ours:?}");
}

/// Half of it in lanes, some of it claimed and given back, the rest not yet looked at.
async fn half_filed(stage: &mut Stage, owner: &mut Owner) -> Orders {
    flood(stage, 0, 5000).await;
    let orders = order_in(&stage.census().await.lists);
    owner.file().await;
    let claims = owner.claim(100).await;
    owner.settle(&claims.into_iter().map(front).collect::<Vec<_>>()).await;
    orders
}

#[tokio::test]
async fn the_last_to_leave_pours_every_lane_back() {
    let mut stage = Stage::with_prefix("p:", &["a", "b"]).await;
    let mut owner = stage.owner("o").await;
    let mut orders = half_filed(&mut stage, &mut owner).await;
    let claims = owner.claim(1).await;
    let due = stage.now().await + 600_000;
    let delay = |claim: &fairstalk::broker::Claim| settled(claim, Action::Delay { message: claim.raw.clone(), due });
    owner.settle(&[delay(&claims[0])]).await;
    flood(&mut stage, 5000, 500).await;
    let unseen =
        order_in(&stage.census().await.lists.into_iter().filter(|(list, _)| LISTS.contains(&&**list)).collect());
    for (place, messages) in unseen {
        orders.entry(place).or_default().extend(messages);
    }
    assert!(owner.leave().await.is_empty());
    // The delayed one comes behind all.
    let place = (claims[0].list.to_string(), claims[0].flow.as_deref().unwrap().to_owned());
    let order = orders.get_mut(&place).unwrap();
    order.retain(|message| *message != claims[0].raw);
    order.push(claims[0].raw.clone());
    let census = stage.census().await;
    assert!(order_in(&census.lists) == orders, "the order of each tenant");
    assert_eq!(census.all_waiting(), 5500);
    nothing_of_ours_is_left(&mut stage).await;
}

/// What is in lists and lanes, of each tenant from the front.
fn order_of_all(census: &Census, orders: &Orders) -> Orders {
    orders.keys().map(|place| (place.clone(), census.waiting(&place.0, &place.1))).collect()
}

#[tokio::test]
async fn one_that_is_killed_while_it_pours_leaves_all_in_order() {
    for calls in [1, 3, 8] {
        let mut stage = Stage::with_prefix("p:", &["a", "b"]).await;
        let mut one = stage.owner("one").await;
        let orders = half_filed(&mut stage, &mut one).await;
        // Lists that are not empty take messages one by one, so that lanes are cut in two.
        flood(&mut stage, 5000, 500).await;
        let mut all = orders.clone();
        let unseen = stage.census().await.lists.into_iter().filter(|(list, _)| LISTS.contains(&&**list)).collect();
        for (place, messages) in order_in(&unseen) {
            all.entry(place).or_default().extend(messages);
        }
        for _ in 0..calls {
            assert!(stage.leave_once("one", 333).await > 0);
            let census = stage.census().await;
            census.places();
            assert_eq!(census.all_waiting(), 5500);
            assert!(order_of_all(&census, &all) == all, "the order of each tenant after {calls} calls");
        }
        // Another comes, works, and leaves.
        let mut two = stage.owner("two").await;
        two.file().await;
        assert!(order_of_all(&stage.census().await, &all) == all, "filed behind what is in lanes still");
        let claims = two.claim(64).await;
        assert_eq!(claims.len(), 64);
        two.settle(&claims.iter().map(ack).collect::<Vec<_>>()).await;
        for claim in &claims {
            let place = (claim.list.to_string(), claim.flow.as_deref().unwrap().to_owned());
            assert_eq!(all.get_mut(&place).unwrap().remove(0), claim.raw, "{place:?}");
        }
        all.retain(|_, messages| !messages.is_empty());
        assert!(two.leave().await.is_empty());
        assert!(order_in(&stage.census().await.lists) == all);
        nothing_of_ours_is_left(&mut stage).await;
    }
}

/// Redis scans a large hash from its beginning, which is empty when the first have been poured back.
#[tokio::test]
async fn thousands_of_tenants_are_poured_back() {
    let mut stage = Stage::new(&["q"]).await;
    let all: Vec<Vec<u8>> = (0..6000).flat_map(|user| messages(&format!("u{user}"), 1)).collect();
    for part in all.chunks(1000) {
        stage.push("q", part).await;
    }
    let mut owner = stage.owner("o").await;
    owner.file().await;
    assert!(stage.census().await.list("q").is_empty());
    let mut calls = 0;
    while stage.leave_once("o", 1000).await > 0 {
        calls += 1;
        assert!(calls < 1000, "it does not come to an end");
    }
    let mut found = stage.census().await.list("q");
    found.sort();
    let mut all = all;
    all.sort();
    assert!(found == all);
    nothing_of_ours_is_left(&mut stage).await;
}

/// For when fairstalk is gone for good: `docs/put-back.lua`.
#[tokio::test]
async fn the_operators_script_puts_everything_back_in_order() {
    let mut stage = Stage::with_prefix("p:", &["a", "say \"b\""]).await;
    let (mut one, mut two) = (stage.owner("one").await, stage.owner("two").await);
    let list = "p:say \"b\"\x06\x163";
    let all = messages("u", 2010);
    stage.push("a", &all).await;
    stage.push_to(list, &messages("v", 5)).await;
    one.file().await;
    // One is delayed and due, one delayed for long, one dead; six under way, claimed by turns.
    let claims = one.claim(6).await;
    let of_u: Vec<_> = claims.iter().filter(|claim| claim.flow.as_deref() == Some("t:u")).collect();
    assert_eq!(of_u.len(), 3);
    let now = stage.now().await;
    let entry = "{}".to_owned();
    let mut settlements = vec![
        Action::Delay { message: of_u[0].raw.clone(), due: now - 1 },
        Action::Delay { message: of_u[1].raw.clone(), due: now + 600_000 },
        Action::Dead { message: of_u[2].raw.clone(), entry },
    ]
    .into_iter()
    .zip(&of_u)
    .map(|(action, claim)| settled(claim, action))
    .collect::<Vec<_>>();
    settlements.extend(claims.iter().filter(|claim| &*claim.list == list).rev().cloned().map(front));
    one.settle(&settlements).await;
    let (mut of_a, mut of_b) = (Vec::new(), Vec::new());
    for turn in 0..6 {
        let claim = if turn % 2 == 0 { &mut one } else { &mut two }.claim(1).await.remove(0);
        if &*claim.list == list { &mut of_b } else { &mut of_a }.push(claim.raw);
    }
    assert_eq!(of_a[0], all[0], "what was due");
    stage.push("a", &["unseen"]).await;
    let script = include_str!("../../docs/put-back.lua");
    let found: Vec<redis::Value> = stage.ask(&["EVAL", script, "0", "p:"]).await;
    let numbers: Vec<i64> = found.chunks(2).map(|pair| redis::from_redis_value(pair[1].clone()).unwrap()).collect();
    assert_eq!(numbers, [2013 - 6, 6, 1, 0]);
    let census = stage.census().await;
    // all[1] is delayed, all[2] a dead letter.
    let mut expected = vec![all[0].clone()];
    expected.extend(all[3..].to_vec());
    expected.extend([b"unseen".to_vec(), all[1].clone()]);
    assert!(census.list("a") == expected);
    assert_eq!(census.lists[list], messages("v", 5));
    assert_eq!(census.dead().into_values().collect::<Vec<_>>(), [all[2].clone()]);
    let mut left: Vec<String> = stage.ask(&["KEYS", "*"]).await;
    left.retain(|key| !key.starts_with("p:fairstalk:dead"));
    left.sort();
    assert_eq!(left, ["p:a", list]);
}
