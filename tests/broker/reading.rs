//! What the reading commands are told.

use crate::stage::{Stage, messages, settled};
use fairstalk::broker::{Action, inspect, publish};

#[tokio::test]
async fn figures_are_what_is_there() {
    let mut stage = Stage::with_prefix("p:", &["a", "b"]).await;
    let texts: Vec<String> = (0..1200).map(|number| format!("m{number}")).collect();
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
    let elsewhere = inspect::elsewhere(&mut stage.admin, &keys).await.unwrap();
    assert_eq!((elsewhere.claimed, elsewhere.delayed, elsewhere.dead), (2, 1, 2));
    let workers = inspect::workers(&mut stage.admin, &keys).await.unwrap();
    assert_eq!((workers.len(), workers[0].owner.as_str(), workers[0].claimed), (1, "o", 2));
}
