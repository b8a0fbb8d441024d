//! Several applications on one Redis: workers that consume other queues are another fleet, with lanes of its own.

use crate::stage::{Owner, Stage, ack, messages, raws, settled};
use fairstalk::broker::minute::minute;
use fairstalk::broker::{Action, Keys, inspect};
use fairstalk::config::Queues;

/// A worker of the fleet that consumes these queues, named as the supervisor names it.
async fn worker(stage: &mut Stage, number: u32, queues: &[&str]) -> Owner {
    let names: Vec<String> = queues.iter().map(|&name| name.to_owned()).collect();
    let queues = Queues { default: names[0].clone(), names, prefix: None };
    let fleet = fairstalk::broker::keys::fleet(&queues);
    let own = Keys::new(&stage.broker, &queues);
    let all = std::mem::replace(&mut stage.keys, own);
    let owner = stage.owner(&format!("host:7:0123abcd.{fleet}:{number}.1")).await;
    stage.keys = all;
    owner
}

#[tokio::test]
async fn nobody_claims_what_it_does_not_consume() {
    let mut stage = Stage::new(&["a", "b"]).await;
    let mut one = worker(&mut stage, 1, &["a"]).await;
    let mut two = worker(&mut stage, 2, &["b"]).await;
    stage.push("a", &messages("u", 3)).await;
    stage.push("b", &messages("v", 3)).await;
    one.unseen = false;
    one.file().await;
    two.unseen = false;
    assert_eq!(raws(&two.claim(9).await), messages("v", 3));
    assert_eq!(raws(&one.claim(9).await), messages("u", 3));
}

/// `status`, `tenants` and `metrics` are of one application, and an alarm that it has no worker is not silenced by others'.
#[tokio::test]
async fn figures_are_of_the_fleet_alone() {
    let mut stage = Stage::new(&["a"]).await;
    let (mut own, mut other) = (worker(&mut stage, 1, &["a"]).await, worker(&mut stage, 2, &["b"]).await);
    for (owner, ran) in [(&mut own, 30), (&mut other, 500)] {
        let figures = format!(r#"{{"minute": {{"ran": {ran}, "tenants": {{}}}}}}"#);
        owner.beat_with(&figures).await;
    }
    let keys = stage.keys.clone();
    let workers = inspect::workers(&mut stage.admin, &keys).await.unwrap();
    assert_eq!(workers.iter().map(|worker| &worker.owner).collect::<Vec<_>>(), [&own.name]);
    assert_eq!(minute(&mut stage.admin, &keys).await.unwrap().ran, 30.0);
}

#[tokio::test]
async fn a_delayed_message_of_another_fleet_goes_to_its_list() {
    let mut stage = Stage::new(&["a", "b"]).await;
    let mut one = worker(&mut stage, 1, &["a"]).await;
    let mut two = worker(&mut stage, 2, &["b"]).await;
    let all = messages("u", 1);
    stage.push("a", &all).await;
    let claim = one.claim(1).await.remove(0);
    let due = stage.now().await + 20;
    one.settle(&[settled(&claim, Action::Delay { message: claim.raw.clone(), due })]).await;
    while !stage.census().await.delayed().is_empty() {
        assert!(two.claim(5).await.is_empty());
    }
    assert_eq!(stage.census().await.list("a"), all);
    let claims = one.claim(5).await;
    assert_eq!(raws(&claims), all);
    one.settle(&[ack(&claims[0])]).await;
}

#[tokio::test]
async fn lanes_of_a_fleet_whose_last_worker_died_are_poured_back() {
    let mut stage = Stage::new(&["a", "b"]).await;
    let mut one = worker(&mut stage, 1, &["a"]).await;
    let mut two = worker(&mut stage, 2, &["b"]).await;
    let all = messages("u", 5);
    stage.push("a", &all).await;
    one.unseen = false;
    one.file().await;
    assert_eq!(one.claim(2).await.len(), 2);
    let dead = one.name.clone();
    stage.expire(&dead).await;
    loop {
        let seized = two.seize(&dead).await;
        if seized.is_empty() {
            break;
        }
        two.give_back(&dead, seized).await;
    }
    two.leave_for(&dead).await;
    assert_eq!(stage.census().await.list("a"), all);
}
