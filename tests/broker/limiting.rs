//! Rates, reserved slots and pauses.

use crate::stage::{Owner, Stage, ack, messages, raws};
use fairstalk::broker::pause::set_paused;
use fairstalk::config::Tenancy;

async fn owner_with(stage: &mut Stage, name: &str, tenancy: Tenancy) -> Owner {
    let mut owner = stage.owner(name).await;
    owner.set_tenancy(&tenancy);
    owner
}

#[tokio::test]
async fn a_rate_spreads_starts_over_all_owners_and_is_not_forgotten() {
    let mut stage = Stage::new(&["q"]).await;
    let rate_limit = [("slow".to_owned(), 1.0 / 3600.0), ("quick".to_owned(), 1000.0)].into();
    let tenancy = Tenancy { rate_limit, ..Tenancy::default() };
    let mut one = owner_with(&mut stage, "one", tenancy.clone()).await;
    let mut two = owner_with(&mut stage, "two", tenancy).await;
    let all = messages("slow", 3);
    stage.push("q", &all).await;
    let now = stage.now().await;
    let reply = one.step(3, &[]).await;
    assert_eq!(raws(&reply.claims), all[..1]);
    let next = reply.next_due.unwrap();
    assert!((now + 3_599_000..=now + 3_601_000).contains(&next), "the next may start in an hour: {}", next - now);
    assert!(two.claim(3).await.is_empty());
    // The tenant's only task has ended; that another one waits must not be forgotten, nor when it may start.
    one.settle(&[ack(&reply.claims[0])]).await;
    assert!(one.claim(3).await.is_empty() && two.claim(3).await.is_empty());
    // Others run meanwhile, as quickly as they may.
    let quick = messages("quick", 4);
    stage.push("q", &quick).await;
    let mut claimed = Vec::new();
    while claimed.len() < 4 {
        claimed.extend(raws(&two.claim(3).await));
    }
    assert_eq!(claimed, quick);
    stage.census().await.places();
}

#[tokio::test]
async fn a_rate_that_is_lifted_lets_all_run() {
    let mut stage = Stage::new(&["q"]).await;
    let tenancy = Tenancy { rate_limit: [("*".to_owned(), 1.0 / 3600.0)].into(), ..Tenancy::default() };
    let mut owner = owner_with(&mut stage, "o", tenancy).await;
    stage.push("q", &messages("u", 3)).await;
    let first = owner.claim(3).await;
    assert_eq!(first.len(), 1);
    owner.set_tenancy(&Tenancy::default());
    assert_eq!(owner.step(3, &[ack(&first[0])]).await.claims.len(), 2);
    stage.census().await.places();
}

#[tokio::test]
async fn reserved_slots_are_for_newcomers() {
    let mut stage = Stage::new(&["q"]).await;
    // Two owners, of four slots each.
    let tenancy = Tenancy { reserved_slots: 2, ..Tenancy::default() };
    let mut one = owner_with(&mut stage, "one", tenancy.clone()).await;
    let mut two = owner_with(&mut stage, "two", tenancy).await;
    stage.push("q", &messages("bulk", 20)).await;
    assert_eq!(one.claim(4).await.len(), 4);
    assert_eq!(two.claim(4).await.len(), 2, "of eight slots two stay free");
    stage.push("q", &messages("new", 3)).await;
    let newcomer = two.claim(2).await;
    assert_eq!(raws(&newcomer), messages("new", 1), "its second task is no newcomer's");
    stage.push("q", &messages("other", 1)).await;
    assert_eq!(raws(&two.claim(1).await), messages("other", 1));
    stage.census().await.places();
}

#[tokio::test]
async fn who_is_paused_waits_also_if_it_comes_later() {
    let mut stage = Stage::with_prefix("p:", &["q"]).await;
    let mut owner = stage.owner("o").await;
    owner.unseen = false;
    stage.push("q", &messages("a", 2)).await;
    owner.file().await;
    let (keys, paused) = (stage.keys.clone(), ["a".to_owned(), "b".to_owned()]);
    assert_eq!(set_paused(&mut stage.admin, &keys, &paused, &[], true).await.unwrap(), 2);
    assert_eq!(set_paused(&mut stage.admin, &keys, &paused, &[], true).await.unwrap(), 0);
    stage.push("q", &messages("b", 2)).await;
    stage.push("q", &messages("c", 1)).await;
    owner.unseen = true; // not while somebody is paused
    assert_eq!(raws(&owner.claim(9).await), messages("c", 1));
    assert_eq!(set_paused(&mut stage.admin, &keys, &paused[..1], &[], false).await.unwrap(), 1);
    assert_eq!(raws(&owner.claim(9).await), messages("a", 2));
    // A pause outlives the workers.
    let claims = owner.held().await;
    owner.settle(&claims.iter().map(ack).collect::<Vec<_>>()).await;
    assert!(owner.leave().await.is_empty());
    let mut next = stage.owner("n").await;
    assert!(next.claim(9).await.is_empty());
    assert_eq!(set_paused(&mut stage.admin, &keys, &paused[1..], &[], false).await.unwrap(), 1);
    assert_eq!(raws(&next.claim(9).await), messages("b", 2));
}
