//! Whose a message is, where that was found out: the answer is one for all, and a new one leaves nobody's order.

use crate::stage::{Owner, Stage, ack, messages, raws};
use fairstalk::broker::answer::{self, Kept, Replacement};
use fairstalk::broker::{Filing, Room, StepReply};
use fairstalk::fairness::flow::of_queue;

/// Replaces the answer of a number, with as many calls as it takes; these.
async fn replace(stage: &mut Stage, epoch: u64, answer: &str) -> usize {
    let keys = stage.keys.clone();
    let mut replacement = answer::replace(&mut stage.admin, &keys, epoch, answer).await.unwrap();
    assert!(replacement.begun);
    let mut calls = 1;
    while replacement.coming {
        replacement = answer::go_on(&mut stage.admin, &keys).await.unwrap();
        calls += 1;
    }
    assert_eq!(replacement.kept, Kept { epoch: epoch + 1, answer: Some(answer.into()) });
    calls
}

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
    assert_eq!(replace(&mut stage, 0, "first").await, 1);
    let late = Replacement { begun: false, kept: first.clone(), coming: false };
    assert_eq!(answer::replace(&mut stage.admin, &keys, 0, "second").await.unwrap(), late);
    assert_eq!(answer::go_on(&mut stage.admin, &keys).await.unwrap(), late);
    assert_eq!(answer::read(&mut stage.admin, &keys).await.unwrap(), first);
    replace(&mut stage, 1, "second").await;
}

/// What waits under a queue's name is in the list again, foremost, in its order, and is filed anew.
#[tokio::test]
async fn a_new_answer_brings_lanes_back_to_their_lists() {
    for rest in [0, 3] {
        let mut stage = Stage::new(&["q", "r"]).await;
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
        let calls = replace(&mut stage, 0, "{}").await;
        assert_eq!(calls > 5, rest > 0, "{calls}: a lane becomes the list where that is empty");
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

/// Each call is short. Between two of them lanes are served in their order, nothing is filed, and the worker that began it
/// may die: another goes on.
#[tokio::test]
async fn while_an_answer_is_on_its_way_lanes_are_served_and_nothing_is_filed() {
    let mut stage = Stage::new(&["q"]).await;
    let keys = stage.keys.clone();
    let (before, after) = (messages("a", 3000), messages("b", 3));
    stage.push("q", &before).await;
    let mut owner = stage.owner("o").await;
    owner.file().await;
    stage.push("q", &after).await;
    let mut replacement = answer::replace(&mut stage.admin, &keys, 0, "{}").await.unwrap();
    assert_eq!((replacement.begun, replacement.coming, replacement.kept.clone()), (true, true, Kept::default()));
    let rival = answer::replace(&mut stage.admin, &keys, 0, "another").await.unwrap();
    assert!(!rival.begun && rival.coming);
    let mut claimed = Vec::new();
    while replacement.coming {
        let reply = owner.step(10, &[]).await;
        assert_eq!((reply.epoch, reply.looked.len()), (Some(1), 0));
        claimed.extend(raws(&reply.claims));
        let census = stage.census().await;
        census.places();
        assert_eq!(census.tenants().len(), 1, "none of b has been filed");
        replacement = answer::go_on(&mut stage.admin, &keys).await.unwrap();
    }
    assert!(claimed.len() >= 40, "{}", claimed.len());
    assert_eq!(claimed, before[..claimed.len()], "in their order");
    let list = stage.census().await.list("q");
    assert_eq!(list, [&before[claimed.len()..], &after].concat());
    assert!(look(&mut owner).await.looked.is_empty(), "it could not file it");
    owner.epoch = 1;
    owner.file().await;
    assert_eq!(stage.census().await.waiting("q", "t:b"), after);
}

/// Whoever has an answer of the operator's doesn't wait for one that nobody goes on with any more.
#[tokio::test]
async fn an_answer_that_is_left_on_its_way_holds_up_nobody_who_needs_none() {
    let mut stage = Stage::new(&["q"]).await;
    let keys = stage.keys.clone();
    stage.push("q", &messages("a", 3000)).await;
    let mut owner = stage.owner("o").await;
    owner.file().await;
    stage.push("q", &messages("b", 1)).await;
    assert!(answer::replace(&mut stage.admin, &keys, 0, "{}").await.unwrap().coming);
    owner.epoch = 1 << 53;
    owner.file().await;
    let census = stage.census().await;
    assert_eq!(
        (census.list("q").len(), census.waiting("q", "t:a").len(), census.waiting("q", "t:b").len()),
        (0, 3000, 1)
    );
}

/// A worker that has not heard of it files nothing, is told, and nothing is lost.
#[tokio::test]
async fn nothing_is_filed_by_an_old_answer() {
    let mut stage = Stage::new(&["q"]).await;
    let all = messages("a", 4);
    stage.push("q", &all).await;
    let mut owner = stage.owner("o").await;
    let reply = look(&mut owner).await;
    assert_eq!(reply.epoch, Some(0));
    replace(&mut stage, 0, "{}").await;
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
    replace(&mut stage, 0, "kept").await;
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
