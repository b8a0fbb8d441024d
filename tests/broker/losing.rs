//! An owner that lives through the loss of all data puts back what it holds.

use crate::stage::{Owner, Stage, ack, front, messages, raws};
use fairstalk::broker::Claim;
use fairstalk::broker::anew::{Remembered, again};

fn remembered(claim: &Claim) -> Remembered<'_> {
    let flow = claim.flow.as_deref().unwrap_or_default();
    Remembered { sequence: claim.sequence, list: &claim.list, flow, message: Some(&claim.raw), started: claim.started }
}

async fn put_back(stage: &Stage, owner: &mut Owner, claims: &[Claim]) -> bool {
    let held: Vec<Remembered<'_>> = claims.iter().map(remembered).collect();
    again(&mut owner.connection, &stage.keys, &owner.name, owner.number, &held).await.unwrap()
}

#[tokio::test]
async fn what_is_put_back_is_held_as_before_and_comes_back_in_order() {
    let mut stage = Stage::with_prefix("p:", &["a\"b"]).await;
    let all = messages("m", 4);
    stage.push("a\"b", &all[..1]).await;
    stage.push_to("p:a\"b\x06\x166", &all[1..]).await;
    let mut owner = stage.owner("w:1").await;
    let mut claims = owner.claim(4).await;
    assert_eq!(owner.start(&claims[3..]).await, Some(vec![claims[3].sequence]));
    claims[3].started = true;
    let before = stage.census().await;
    stage.ask::<()>(&["FLUSHDB"]).await;
    assert_eq!(owner.beat(false).await, None, "its lease is gone with the rest");

    assert!(put_back(&stage, &mut owner, &claims).await);
    let census = stage.census().await;
    census.assert_one_place(&all);
    assert_eq!((census.unacked(), census.held()), (before.unacked(), before.held()), "as kombu writes it");
    assert_eq!(census.started(), before.started());
    assert_eq!(owner.held().await.len(), 4);
    assert!(owner.beat(false).await.is_some());

    // What goes back is before what came later, and after what was claimed before it.
    stage.push_to("p:a\"b\x06\x166", &messages("m", 6)[4..]).await;
    let mut other = stage.owner("w:2").await;
    other.file().await;
    let later = other.claim(1).await;
    owner.settle(&[front(claims[2].clone()), front(claims[1].clone()), ack(&claims[0])]).await;
    other.settle(&later.into_iter().map(front).collect::<Vec<_>>()).await;
    let expected = [&messages("m", 3)[1..], &messages("m", 6)[4..]].concat();
    assert_eq!(raws(&other.claim(9).await), expected);
}

/// Deleted by hand, and only in part; or taken away by others.
#[tokio::test]
async fn where_anything_is_left_nothing_is_put_back() {
    let mut stage = Stage::new(&["q"]).await;
    stage.push("q", &messages("m", 2)).await;
    let (mut owner, mut other) = (stage.owner("w:1").await, stage.owner("w:2").await);
    let claims = owner.claim(2).await;
    let ours = stage.keys.claims("w:1");
    assert!(!put_back(&stage, &mut owner, &claims).await, "the lease is in force");
    let before = stage.census().await;
    assert_eq!(other.seize("w:1").await.len(), 2);
    assert!(!put_back(&stage, &mut owner, &claims).await, "it was taken away");
    let _: i64 = stage.ask(&["DEL", &ours]).await;
    let owners = stage.keys.owners();
    assert!(!put_back(&stage, &mut owner, &claims).await, "it is being recovered");
    let _: i64 = stage.ask(&["ZREM", &owners, "w:1"]).await;
    assert!(!put_back(&stage, &mut owner, &claims).await, "its messages are in kombu's books");
    let (unacked, index) = (stage.keys.unacked(), stage.keys.unacked_index());
    let held: std::collections::BTreeMap<String, Vec<u8>> = stage.ask(&["HGETALL", &unacked]).await;
    assert_eq!(held, before.unacked());
    let _: i64 = stage.ask(&["DEL", &unacked, &index]).await;
    assert!(put_back(&stage, &mut owner, &claims).await);
}
