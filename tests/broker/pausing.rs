//! Queues that are paused: nothing of them is claimed, wherever it waits.

use crate::stage::{Stage, ack, messages, raws, settled, whose};
use fairstalk::broker::Action;
use fairstalk::broker::inspect;
use fairstalk::broker::pause::set_paused;

async fn pause(stage: &mut Stage, queue: &str, paused: bool) -> u64 {
    let keys = stage.keys.clone();
    set_paused(&mut stage.admin, &keys, &[], &[queue.to_owned()], paused).await.unwrap()
}

#[tokio::test]
async fn nothing_of_a_paused_queue_is_claimed_wherever_it_waits() {
    let mut stage = Stage::with_prefix("p:", &["q", "r"]).await;
    let mut owner = stage.owner("o").await;
    let all = messages("u", 8);
    stage.push("q", &all[..3]).await;
    stage.push_to("p:q\x06\x163", &all[6..]).await;
    let delayed = owner.claim(1).await;
    assert_eq!(raws(&delayed), all[..1]);
    owner.file().await;
    assert_eq!(pause(&mut stage, "q", true).await, 1);
    assert_eq!(pause(&mut stage, "q", true).await, 0, "it was already");
    let due = stage.now().await - 1;
    owner.settle(&[settled(&delayed[0], Action::Delay { message: delayed[0].raw.clone(), due })]).await;
    stage.push("q", &all[3..6]).await; // producers go on
    stage.push("r", &messages("v", 2)).await;
    assert_eq!(whose(&owner.claim(9).await), "vv", "of the other queue");
    assert!(owner.claim(9).await.is_empty());
    stage.census().await.places();
    let keys = stage.keys.clone();
    let queues = inspect::queues(&mut stage.admin, &keys).await.unwrap();
    assert_eq!((queues[0].waiting, queues[0].paused, queues[1].paused), (8, true, false));
    // Resumed, all of it goes on in its order.
    assert_eq!(pause(&mut stage, "q", false).await, 1);
    let mut claimed = Vec::new();
    for _ in 0..8 {
        claimed.extend(raws(&owner.claim(1).await));
    }
    assert_eq!(claimed, all);
    let bars: i64 = stage.ask(&["EXISTS", &keys.bars()]).await;
    assert_eq!(bars, 0, "nothing is left of it");
    stage.census().await.places();
}

#[tokio::test]
async fn a_pause_of_a_queue_outlives_the_workers_and_their_messages_go_back_to_it() {
    let mut stage = Stage::new(&["q", "r"]).await;
    let mut owner = stage.owner("o").await;
    owner.unseen = false;
    stage.push("q", &messages("u", 4)).await;
    let claims = owner.claim(2).await;
    pause(&mut stage, "q", true).await;
    // What runs goes on; one of these comes back.
    owner.settle(&[ack(&claims[0]), settled(&claims[1], Action::Front(claims[1].raw.clone()))]).await;
    assert!(owner.claim(9).await.is_empty());
    assert!(owner.leave().await.is_empty());
    assert_eq!(stage.census_of_lists().await["q"], messages("u", 4)[1..]);
    let mut next = stage.owner("n").await;
    assert!(next.claim(9).await.is_empty());
    pause(&mut stage, "q", false).await;
    assert_eq!(raws(&next.claim(9).await), messages("u", 4)[1..]);
}

#[tokio::test]
async fn a_tenant_goes_on_in_its_other_queues() {
    let mut stage = Stage::new(&["q", "r"]).await;
    let mut owner = stage.owner("o").await;
    owner.unseen = false;
    stage.push("q", &messages("u", 3)).await;
    stage.push("r", &messages("u", 3)).await;
    owner.file().await;
    pause(&mut stage, "q", true).await;
    let claims = owner.claim(9).await;
    assert!(claims.len() == 3 && claims.iter().all(|claim| &*claim.list == "r"), "{claims:?}");
    owner.settle(&claims.iter().map(ack).collect::<Vec<_>>()).await;
    assert!(owner.claim(9).await.is_empty());
    // New work in the open queue is served though old work in the paused one is not.
    stage.push("r", &messages("u", 1)).await;
    assert_eq!(owner.claim(9).await.len(), 1);
    pause(&mut stage, "q", false).await;
    assert_eq!(raws(&owner.claim(9).await), messages("u", 3));
}

/// They are the first in line; that many of them can't run must not keep others from it, nor be forgotten.
#[tokio::test]
async fn many_tenants_of_a_paused_queue_hold_up_nobody_and_all_go_on() {
    const MANY: usize = 1500;
    let mut stage = Stage::new(&["q", "r"]).await;
    let mut owner = stage.owner("o").await;
    owner.unseen = false;
    let all: Vec<_> = (0..MANY).flat_map(|user| messages(&format!("u{user}"), 1)).collect();
    stage.push("q", &all).await;
    owner.file().await;
    stage.push("r", &messages("v", 1)).await;
    owner.file().await;
    pause(&mut stage, "q", true).await;
    let mut steps = 0;
    let claim = loop {
        let reply = owner.step(2, &[]).await;
        steps += 1;
        if let Some(claim) = reply.claims.into_iter().next() {
            break claim;
        }
        assert!(reply.next_due.is_some_and(|due| due <= reply.now), "else nobody would go on");
    };
    assert!(whose(&[claim]) == "v" && steps > 1 && steps < MANY / 200, "{steps}");
    assert!(owner.claim(2).await.is_empty() && stage.census().await.ready().is_empty());
    pause(&mut stage, "q", false).await;
    let mut claimed = 0;
    while claimed < MANY {
        let reply = owner.step(64, &[]).await;
        assert!(!reply.claims.is_empty() || reply.next_due.is_some_and(|due| due <= reply.now), "{claimed}");
        owner.settle(&reply.claims.iter().map(ack).collect::<Vec<_>>()).await;
        claimed += reply.claims.len();
    }
    stage.census().await.places();
}
