//! What the reading commands are told.

use crate::stage::{Stage, messages, settled};
use fairstalk::broker::inspect::{self, LineFigures};
use fairstalk::broker::{Action, Settlement, publish};

#[tokio::test]
async fn figures_are_what_is_there() {
    let mut stage = Stage::with_prefix("p:", &["a", "b"]).await;
    let texts: Vec<Vec<u8>> = (0..1200).map(|number| format!("m{number}").into_bytes()).collect();
    let keys = stage.keys.clone();
    publish::publish(&mut stage.admin, &keys, "a", &texts).await.unwrap();
    publish::publish(&mut stage.admin, &keys, "a", &[]).await.unwrap();
    stage.push_to("p:b\x06\x166", &messages("b", 2)).await;
    let mut owner = stage.owner("o").await;
    let claims = owner.claim(5).await;
    assert_eq!(claims[4].raw, b"m4", "published in order");
    let now = stage.now().await;
    let dead = |at: usize| {
        let entry = format!(r#"{{"number": {at}}}"#);
        settled(&claims[at], Action::Dead { message: claims[at].raw.clone(), entry })
    };
    owner.settle(&[dead(0), dead(1)]).await;
    owner.settle(&[settled(&claims[2], Action::Delay { message: b"m2".to_vec(), due: now + 60_000 })]).await;

    let queues = inspect::queues(&mut stage.admin, &keys).await.unwrap();
    assert_eq!((queues[0].queue.as_str(), queues[0].waiting, queues[0].by_priority), ("a", 1195, [1195, 0, 0, 0]));
    assert_eq!((queues[1].queue.as_str(), queues[1].waiting, queues[1].by_priority), ("b", 2, [0, 0, 2, 0]));
    assert!(owner.one_step(0, &[], &[]).await.unwrap().unwrap().looked.is_empty(), "all of it is in lanes");
    let elsewhere = inspect::elsewhere(&mut stage.admin, &keys).await.unwrap();
    assert_eq!((elsewhere.claimed, elsewhere.delayed, elsewhere.dead), (2, 1, 2));
    let workers = inspect::workers(&mut stage.admin, &keys).await.unwrap();
    assert_eq!((workers.len(), workers[0].owner.as_str(), workers[0].claimed), (1, "o", 2));
}

#[tokio::test]
async fn tenants_are_told_with_what_they_wait_for_and_run() {
    let mut stage = Stage::with_prefix("p:", &["a", "b"]).await;
    let keys = stage.keys.clone();
    assert!(inspect::tenants(&mut stage.admin, &keys).await.unwrap().is_empty());
    stage.push("a", &messages("u", 3)).await;
    stage.push_to("p:b\x06\x163", &messages("u", 2)).await;
    let mut owner = stage.owner("o").await;
    owner.unseen = false;
    owner.grant(&[("u", 2.0, 5)]);
    let claims = owner.claim(1).await;
    let now = stage.now().await;
    let delay = Action::Delay { message: claims[0].raw.clone(), due: now };
    owner.settle(&[Settlement { ran: Some(1000.0), ..settled(&claims[0], delay) }]).await;
    stage.push("a", &["anything"]).await;
    owner.file().await;
    owner.claim(1).await;
    let tenants = inspect::tenants(&mut stage.admin, &keys).await.unwrap();
    let line = |list: &str, due, waiting| LineFigures { list: list.into(), due, task: None, waiting, since: None };
    let [queue, mut user] = tenants.try_into().unwrap();
    let clock = stage.now().await;
    for line in &mut user.lines {
        let since = line.since.take().unwrap();
        assert!((now - 60_000..=clock).contains(&since), "{since} at {clock}");
    }
    assert_eq!((queue.flow.as_str(), queue.waiting, queue.running), ("q:p:a", 0, 1), "the newcomer goes first");
    assert_eq!((queue.cost, queue.weight, queue.max_concurrency), (None, 1.0, None));
    assert_eq!(queue.lines, []);
    assert_eq!((user.flow.as_str(), user.waiting, user.running), ("t:u", 5, 0));
    assert_eq!((user.cost, user.weight, user.max_concurrency), (Some(1000.0), 2.0, Some(5)));
    assert!(user.virtual_time > 0.0);
    assert_eq!(user.lines, [line("p:a", false, 2), line("p:a", true, 1), line("p:b\x06\x163", false, 2)]);
    assert_eq!(serde_json::to_value(&user).unwrap()["lines"][1]["due"], true);
    let queues = inspect::queues(&mut stage.admin, &keys).await.unwrap();
    assert_eq!((queues[0].by_priority, queues[1].by_priority), ([3, 0, 0, 0], [0, 2, 0, 0]));
}

/// More than one page of the scan.
#[tokio::test]
async fn each_of_many_tenants_is_told_once() {
    let mut stage = Stage::new(&["q"]).await;
    let all: Vec<_> = (0..3000).flat_map(|user| messages(&format!("u{user}"), 1)).collect();
    stage.push("q", &all).await;
    stage.owner("o").await.file().await;
    let keys = stage.keys.clone();
    let tenants = inspect::tenants(&mut stage.admin, &keys).await.unwrap();
    assert!(tenants.iter().map(|tenant| &tenant.flow).eq(stage.census().await.tenants().keys()));
    assert_eq!(tenants.len(), 3000);
    assert_eq!(inspect::queues(&mut stage.admin, &keys).await.unwrap()[0].waiting, 3000);
}
