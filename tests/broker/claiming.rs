//! What a claim is, and which message is claimed next.

use crate::stage::{Stage, ack, front, messages, raws, settled};
use fairstalk::broker::Action;
use serde_json::{Value, json};

#[tokio::test]
async fn a_claim_is_as_kombu_writes_it() {
    let mut stage = Stage::new(&["mail"]).await;
    let raw = r#"{"body": "W10=", "properties": {"delivery_tag": "x"}}"#;
    stage.push("mail", &[raw]).await;
    let now = stage.now().await;
    let mut owner = stage.owner("a").await;
    let claims = owner.claim(3).await;
    assert_eq!((claims.len(), claims[0].sequence, &*claims[0].list), (1, 1, "mail"));
    assert_eq!(claims[0].raw, raw.as_bytes());
    let census = stage.census().await;
    census.assert_one_place(&[raw]);
    assert!(census.lists.is_empty());
    let kept: Value = serde_json::from_slice(&census.unacked()["a:1"]).unwrap();
    assert_eq!(kept, json!([serde_json::from_str::<Value>(raw).unwrap(), "", "mail"]));
    let age = census.index()["a:1"] - now as f64 / 1000.0;
    assert!((-1.0..5.0).contains(&age), "delivered {age} s from now");
    assert_eq!(census.held()["a:1"], "mail");
}

#[tokio::test]
async fn claims_never_have_twins() {
    let mut stage = Stage::new(&["a", "b"]).await;
    let all = messages("m", 200);
    stage.push("a", &all[..100]).await;
    stage.push("b", &all[100..]).await;
    let (mut one, mut two) = (stage.owner("one").await, stage.owner("two").await);
    let mut seen = Vec::new();
    loop {
        let (first, second) = tokio::join!(one.claim(7), two.claim(7));
        let claims: Vec<_> = first.into_iter().chain(second).collect();
        if claims.is_empty() {
            break;
        }
        stage.census().await.assert_one_place(&all);
        seen.extend(raws(&claims));
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), all.len());
}

#[tokio::test]
async fn a_queue_keeps_its_order() {
    let mut stage = Stage::new(&["q"]).await;
    let all = messages("m", 9);
    stage.push("q", &all).await;
    let mut owner = stage.owner("a").await;
    let claims = owner.claim(4).await;
    assert_eq!(raws(&claims), all[..4]);
    // The front goes before the others, and several of one step as the worker sends them: the latest first.
    let back = [front(claims[3].clone()), front(claims[1].clone()), front(claims[0].clone())];
    let reply = owner.step(2, &back).await;
    assert_eq!(raws(&reply.claims), all[..2]);
    stage.census().await.assert_one_place(&all);
    let rest = owner.claim(9).await;
    assert_eq!(raws(&rest), all[3..]);
    // `Reject(requeue=True)`: behind all others.
    stage.push("q", &["1", "2"]).await;
    let again = settled(&rest[0], Action::Back(rest[0].raw.clone()));
    assert_eq!(raws(&owner.step(9, &[again]).await.claims), [b"1".to_vec(), b"2".to_vec(), all[3].clone()]);
}

#[tokio::test]
async fn queues_take_turns_while_no_tenant_waits() {
    let mut stage = Stage::new(&["a", "b", "c"]).await;
    for queue in ["a", "b", "c"] {
        stage.push(queue, &messages(queue, 40)).await;
    }
    let mut owner = stage.owner("o").await;
    // However many at a time, no queue gets ahead of another by more than one.
    let mut taken = [0_i32; 3];
    for want in [1, 1, 1, 1, 4, 4, 4, 2, 5, 7, 1, 4, 4, 4, 4, 10] {
        // What is seen and not filed stays in the lists.
        for claim in owner.one_step(want, &[], &[]).await.unwrap().unwrap().claims {
            assert_eq!(claim.flow, None, "claimed unseen");

            taken["abc".find(&*claim.list).unwrap()] += 1;
        }
        let (least, most) = (taken.iter().min().unwrap(), taken.iter().max().unwrap());
        assert!(most - least <= 1, "after a step of {want}: {taken:?}");
    }
    assert_eq!(taken.iter().sum::<i32>(), 57);
}

#[tokio::test]
async fn an_empty_queue_costs_no_turn() {
    let mut stage = Stage::new(&["a", "b", "c"]).await;
    stage.push("b", &messages("b", 3)).await;
    let mut owner = stage.owner("o").await;
    assert_eq!(raws(&owner.claim(5).await), messages("b", 3));
    assert_eq!(owner.cursor, 2);
    stage.push("a", &messages("a", 1)).await;
    stage.push("c", &messages("c", 1)).await;
    let lists: Vec<_> = owner.claim(5).await.iter().map(|claim| claim.list.to_string()).collect();
    assert_eq!(lists, ["c", "a"]);
}

#[tokio::test]
async fn priorities_come_in_kombus_order() {
    let mut stage = Stage::new(&["a", "b"]).await;
    let mut expected = Vec::new();
    // Pushed the least urgent first.
    for (step, suffix) in [(9, "\x06\x169"), (6, "\x06\x166"), (3, "\x06\x163"), (0, "")] {
        for queue in ["a", "b"] {
            stage.push_to(&format!("{queue}{suffix}"), &messages(&format!("{queue}{step}"), 2)).await;
        }
        expected.insert(0, step);
    }
    let mut owner = stage.owner("o").await;
    let claims = owner.claim(99).await;
    // The most urgent step of every queue before the next of any; in a step the queues take turns.
    let ids: Vec<String> = raws(&claims).into_iter().map(|raw| String::from_utf8(raw).unwrap()).collect();
    let wanted: Vec<String> = expected
        .iter()
        .flat_map(|step| (0..2).flat_map(move |n| ["a", "b"].map(|q| format!(r#"{{"id": "{q}{step}-{n}"}}"#))))
        .collect();
    assert_eq!(ids, wanted);
    // Kombu is told the queue, not the list; given back, each goes to the list it came from.
    for (name, kept) in stage.census().await.unacked() {
        let kept: Value = serde_json::from_slice(&kept).unwrap();
        assert!(kept[2] == "a" || kept[2] == "b", "{name}: {kept}");
    }
    let back: Vec<_> = claims.into_iter().rev().map(front).collect();
    owner.settle(&back).await;
    let census = stage.census().await;
    assert_eq!(census.waiting("b\x06\x166", "t:b6"), messages("b6", 2));
    assert!(census.lists.keys().all(|list| list.contains(":lane:")), "{census:?}");
}

#[tokio::test]
async fn everything_of_ours_stands_behind_the_global_prefix() {
    let mut stage = Stage::with_prefix("app:", &["q", "mail"]).await;
    let all = messages("m", 4);
    stage.push("q", &all[..3]).await;
    stage.push_to("app:mail\x06\x163", &all[3..]).await;
    let mut owner = stage.owner("a").await;
    let claims = owner.claim(9).await;
    let kept: Value = serde_json::from_slice(&stage.census().await.unacked()["a:4"]).unwrap();
    assert_eq!((&*claims[3].list, &kept[2]), ("app:mail\x06\x163", &json!("mail")));
    let due = stage.now().await + 60_000;
    owner
        .settle(&[
            settled(&claims[0], Action::Delay { message: all[0].clone(), due }),
            settled(&claims[1], Action::Dead { message: all[1].clone(), entry: "{}".into() }),
        ])
        .await;
    stage.census().await.assert_one_place(&all);
    let keys: Vec<String> = stage.ask(&["KEYS", "*"]).await;
    assert!(keys.iter().all(|key| key.starts_with("app:")), "{keys:?}");
}

#[tokio::test]
async fn queues_may_have_any_name() {
    let names = ["queue_1", "über uns", "a\"b\\c", "x:y.z-{1}", "%s%d"];
    let mut stage = Stage::new(&names).await;
    let all = messages("m", names.len());
    for (name, message) in names.iter().zip(&all) {
        stage.push(name, &[message]).await;
    }
    let mut owner = stage.owner("a").await;
    let claims = owner.claim(9).await;
    assert_eq!(raws(&claims), all);
    let census = stage.census().await;
    census.assert_one_place(&all);
    for (at, name) in names.iter().enumerate() {
        let kept: Value = serde_json::from_slice(&census.unacked()[&format!("a:{}", at + 1)]).unwrap();
        assert_eq!(kept[2], *name);
    }
    let held = owner.held().await;
    assert_eq!(held, claims);
    assert!(owner.settle(&claims.iter().map(ack).collect::<Vec<_>>()).await.is_empty());
}
