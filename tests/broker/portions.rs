//! Short tasks of one tenant are claimed several at a time, and long lists are looked at in turn.

use crate::stage::{Owner, Stage, ack, messages, ran, whose};
use fairstalk::config::Tenancy;
use std::collections::BTreeMap;

/// An owner before whom a hundred messages each of tenants a and b wait, of whose tasks one has taken so long, ms.
async fn short(stage: &mut Stage, milliseconds: f64) -> Owner {
    let mut owner = stage.owner("o").await;
    for tenant in ["a", "b"] {
        stage.push("q", &messages(tenant, 101)).await;
    }
    owner.file().await;
    let claims = owner.claim(2).await;
    assert_eq!(whose(&claims), "ab");
    owner.settle(&claims.iter().map(|claim| ran(claim, milliseconds)).collect::<Vec<_>>()).await;
    owner
}

#[tokio::test]
async fn as_many_at_once_as_take_a_millisecond() {
    for (milliseconds, order) in [
        (0.05, "aaaaaa"),
        (0.25, "aaaabb"),
        (0.4, "aaaabb"), // two of each, then two of the first again
        (0.6, "aaabbb"), // one of each
        (50.0, "aaabbb"),
    ] {
        let mut stage = Stage::new(&["q"]).await;
        let mut owner = short(&mut stage, milliseconds).await;
        assert_eq!(whose(&owner.claim(6).await), order, "{milliseconds} ms");
        owner.claim(26).await;
        let tenants = stage.census().await.tenants();
        let of = |flow: &str| tenants[flow]["r"].as_f64().unwrap();
        assert_eq!(of("t:a") + of("t:b"), 32.0);
        assert!(
            (of("t:a") - of("t:b")).abs() <= (1.0 / milliseconds).clamp(1.0, 8.0),
            "{milliseconds} ms: {tenants:?}"
        );
        stage.census().await.places();
    }
}

#[tokio::test]
async fn limits_hold_for_short_tasks_too() {
    let mut stage = Stage::new(&["q"]).await;
    let mut owner = short(&mut stage, 0.05).await;
    let max_concurrency = BTreeMap::from([("a".to_owned(), 3)]);
    owner.set_tenancy(&Tenancy { max_concurrency, ..Tenancy::default() });
    // What is granted is read with what is filed and settled.
    stage.push("q", &messages("a", 1)).await;
    owner.file().await;
    let claims = owner.claim(20).await;
    assert_eq!(whose(&claims).matches('a').count(), 3);
    assert_eq!(claims.len(), 20, "the others are b's");
}

/// The sorted set has whole microseconds, and the names decide between equals.
#[tokio::test]
async fn turns_within_one_microsecond_keep_nobody_waiting() {
    let mut stage = Stage::new(&["q"]).await;
    let mut owner = stage.owner("o").await;
    for tenant in 'a'..='x' {
        stage.push("q", &messages(&tenant.to_string(), 2)).await;
    }
    owner.file().await;
    let claims = owner.claim(24).await;
    assert_eq!(whose(&claims), ('a'..='x').collect::<String>());
    let took = |claim| ran(claim, if claim == &claims[0] { 0.7004 } else { 0.7002 });
    owner.settle(&claims.iter().map(took).collect::<Vec<_>>()).await;
    assert_eq!(owner.claim(2).await.len(), 2);
}

/// How many are read at first assumes portions; who has one message only gives no more.
#[tokio::test]
async fn many_with_one_short_task_each_fill_a_step() {
    let mut stage = Stage::new(&["q"]).await;
    let mut owner = stage.owner("o").await;
    owner.expected = 0.1;
    for tenant in 0..200 {
        stage.push("q", &messages(&tenant.to_string(), 1)).await;
    }
    owner.file().await;
    for behind in [136, 72, 8, 0] {
        let reply = owner.one_step(64, &[], &[]).await.unwrap().unwrap();
        assert_eq!(reply.claims.len(), if behind > 0 { 64 } else { 8 });
        assert_eq!(reply.behind, behind);
    }
}

#[tokio::test]
async fn whoever_has_little_is_served_beside_portions() {
    let mut stage = Stage::new(&["q"]).await;
    let mut owner = short(&mut stage, 0.1).await;
    for tenant in 'c'..='z' {
        stage.push("q", &messages(&tenant.to_string(), 1)).await;
    }
    owner.file().await;
    let mut tally: BTreeMap<char, usize> = BTreeMap::new();
    let mut behind = Vec::new();
    while behind.last() != Some(&0) {
        let reply = owner.one_step(7, &[], &[]).await.unwrap().unwrap();
        for tenant in whose(&reply.claims).chars() {
            *tally.entry(tenant).or_default() += 1;
        }
        behind.push(reply.behind);
        owner.settle(&reply.claims.iter().map(ack).collect::<Vec<_>>()).await;
    }
    assert_eq!(tally.values().sum::<usize>(), 224, "nobody is forgotten: {tally:?}");
    assert_eq!(behind.len(), 32, "and each step says that there is more: {behind:?}");
}

#[tokio::test]
async fn of_many_long_lists_a_few_are_shown_in_turn_and_short_ones_always() {
    let names: Vec<String> = (0..20).map(|queue| format!("q{queue:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut stage = Stage::new(&names).await;
    for (place, name) in names.iter().enumerate() {
        stage.push(name, &messages("m", if place == 19 { 3 } else { 40 })).await;
    }
    let mut owner = stage.owner("o").await;
    owner.unseen = false;
    let mut times = BTreeMap::<String, usize>::new();
    for _ in 0..5 {
        let reply = owner.one_step(0, &[], &[]).await.unwrap().unwrap();
        assert_eq!(reply.looked.len(), 8, "seven of 32 messages and the short one");
        for looked in &reply.looked {
            *times.entry(looked.list.to_string()).or_default() += 1;
            assert_eq!(looked.messages.len(), if *looked.list == *"q19" { 3 } else { 32 });
        }
    }
    assert_eq!(times["q19"], 5);
    assert!(names[..19].iter().all(|name| (1..=2).contains(&times[*name])), "{times:?}");
}
