//! Whose a message is, where that was found out: the answer is one for all, and a new one leaves nobody's order.

use crate::stage::{Owner, Stage, ack, messages, raws};
use fairstalk::broker::answer::{self, Kept};
use fairstalk::broker::{Filing, Room, StepReply};
use fairstalk::fairness::flow::of_queue;

async fn look(owner: &mut Owner) -> StepReply {
    owner.one_step(0, &[], &[]).await.unwrap().unwrap()
}

/// Files what was seen under the names of its queues, as a worker does that knows of no answer.
async fn file_by_queue(owner: &mut Owner, reply: StepReply) -> StepReply {
    let filings: Vec<Filing> = reply
        .looked
        .into_iter()
        .filter_map(|looked| Filing::new(looked, &mut Room::default(), |list, _| of_queue(list)).0)
        .collect();
    owner.one_step(0, &[], &filings).await.unwrap().unwrap()
}

#[tokio::test]
async fn of_two_who_answer_at_once_the_first_is_right() {
    let mut stage = Stage::with_prefix("p:", &["q"]).await;
    let keys = stage.keys.clone();
    assert_eq!(answer::read(&mut stage.admin, &keys).await.unwrap(), Kept::default());
    let first = Kept { epoch: 1, answer: Some("first".into()) };
    assert_eq!(answer::replace(&mut stage.admin, &keys, 0, "first").await.unwrap(), (true, first.clone()));
    assert_eq!(answer::replace(&mut stage.admin, &keys, 0, "second").await.unwrap(), (false, first.clone()));
    assert_eq!(answer::read(&mut stage.admin, &keys).await.unwrap(), first);
    let second = Kept { epoch: 2, answer: Some("second".into()) };
    assert_eq!(answer::replace(&mut stage.admin, &keys, 1, "second").await.unwrap(), (true, second));
}

/// What waits under a queue's name is in the list again, foremost, in its order, and is filed anew.
#[tokio::test]
async fn a_new_answer_brings_lanes_back_to_their_lists() {
    for rest in [0, 3] {
        let mut stage = Stage::new(&["q", "r"]).await;
        let keys = stage.keys.clone();
        // More than go in one piece.
        let all: Vec<Vec<u8>> = (0..2500)
            .flat_map(|n| [format!(r#"{{"id": "a-{n}"}}"#), format!(r#"{{"id": "b-{n}"}}"#)])
            .map(String::into_bytes)
            .collect();
        let (filed, later) = all.split_at(all.len() - rest);
        stage.push("q", filed).await;
        let urgent = messages("c", 2);
        stage.push_to("r\x06\x163", &urgent).await;
        let mut owner = stage.owner("o").await;
        let mut reply = look(&mut owner).await;
        while !reply.looked.is_empty() {
            reply = file_by_queue(&mut owner, reply).await;
        }
        assert_eq!(stage.census().await.tenants().len(), 2);
        let claims = owner.claim(1).await;
        if !later.is_empty() {
            stage.push("q", later).await;
        }
        assert!(answer::replace(&mut stage.admin, &keys, 0, "{}").await.unwrap().0);
        let census = stage.census().await;
        let claimed = raws(&claims);
        let left: Vec<_> = all.iter().filter(|message| !claimed.contains(message)).cloned().collect();
        assert_eq!(
            census
                .list("q")
                .into_iter()
                .chain(census.lists.get("r\x06\x163").cloned().unwrap_or_default())
                .filter(|m| !urgent.contains(m))
                .collect::<Vec<_>>(),
            left
        );
        let mut born = all.clone();
        born.extend(urgent.clone());
        census.assert_one_place(&born);
        assert_eq!(census.tenants().len(), 1, "only who has one under way");
        // The worker is told, and files it by tenant.
        owner.epoch = 1;
        owner.settle(&claims.iter().map(ack).collect::<Vec<_>>()).await;
        owner.file().await;
        let census = stage.census().await;
        assert_eq!(census.tenants().keys().map(String::as_str).collect::<Vec<_>>(), ["t:a", "t:b", "t:c"]);
        let of = |name: &str| {
            left.iter()
                .filter(|m| m.starts_with(format!(r#"{{"id": "{name}-"#).as_bytes()))
                .cloned()
                .collect::<Vec<_>>()
        };
        assert_eq!((census.waiting("q", "t:a"), census.waiting("q", "t:b")), (of("a"), of("b")));
    }
}

/// A worker that has not heard of it files nothing, is told, and nothing is lost.
#[tokio::test]
async fn nothing_is_filed_by_an_old_answer() {
    let mut stage = Stage::new(&["q"]).await;
    let keys = stage.keys.clone();
    let all = messages("a", 4);
    stage.push("q", &all).await;
    let mut owner = stage.owner("o").await;
    let reply = look(&mut owner).await;
    assert_eq!(reply.epoch, Some(0));
    answer::replace(&mut stage.admin, &keys, 0, "{}").await.unwrap();
    let reply = file_by_queue(&mut owner, reply).await;
    assert_eq!(reply.epoch, Some(1));
    let census = stage.census().await;
    assert_eq!(census.list("q"), all);
    assert!(census.tenants().is_empty());
    owner.epoch = 1;
    owner.file().await;
    assert_eq!(stage.census().await.waiting("q", "t:a"), all);
}

/// The last one that leaves takes the counters along; the answer stays.
#[tokio::test]
async fn an_answer_outlives_the_workers() {
    let mut stage = Stage::new(&["q"]).await;
    let keys = stage.keys.clone();
    let mut owner = stage.owner("o").await;
    answer::replace(&mut stage.admin, &keys, 0, "kept").await.unwrap();
    assert!(owner.leave().await.is_empty());
    let kept = answer::read(&mut stage.admin, &keys).await.unwrap();
    assert_eq!(kept, Kept { epoch: 1, answer: Some("kept".into()) });
    stage.push("q", &messages("a", 1)).await;
    let mut owner = stage.owner("o2").await;
    owner.epoch = 1;
    owner.file().await;
    assert_eq!(stage.census().await.tenants().len(), 1);
}

/// Marks are merged where there are many; the wait of what is claimed stays about right.
#[tokio::test]
async fn how_long_each_has_waited_is_known() {
    let mut stage = Stage::new(&["q"]).await;
    let mut owner = stage.owner("o").await;
    owner.unseen = false;
    let all = messages("a", 60);
    let mut filed = Vec::new();
    for message in &all {
        stage.push("q", &[message]).await;
        owner.file().await;
        filed.push(stage.now().await as f64);
        tokio::time::sleep(std::time::Duration::from_millis(3)).await;
    }
    let marks = stage.census().await.tenants()["t:a"]["l"]["q"]["t"].as_array().unwrap().len();
    assert!(marks <= 12, "{marks}");
    let reply = owner.step(60, &[]).await;
    let (span, now) = (filed[59] - filed[0], reply.now as f64);
    assert_eq!(reply.waits.len(), 60);
    for (at, wait) in reply.waits.iter().enumerate() {
        let true_wait = now - filed[at];
        assert!((wait - true_wait).abs() <= 0.2 * span, "message {at}: {wait} instead of {true_wait}");
    }
    assert!(reply.waits.is_sorted_by(|one, other| one >= other));
}
