//! What is delivered at most once: from the note that it starts to its end it is with its claim, and never goes back.

use crate::stage::{RESULTS, Stage, ack, messages, raws, result, settled, stored};
use fairstalk::broker::{Action, Claim};

/// Two queues' worth of messages, claimed.
async fn claimed(stage: &mut Stage, name: &str, count: usize) -> (crate::stage::Owner, Vec<Claim>, Vec<Vec<u8>>) {
    let mut all = messages("m", count);
    all[0] = [&b"\xff\0\xfe"[..], &all[0], b"\0"].concat(); // no text, and with what separates
    stage.push("q", &all).await;
    let mut owner = stage.owner(name).await;
    let claims = owner.claim(count).await;
    (owner, claims, all)
}

#[tokio::test]
async fn what_is_started_is_nowhere_where_kombu_would_find_it() {
    let mut stage = Stage::with_prefix("p:", &["q"]).await;
    let (mut owner, claims, all) = claimed(&mut stage, "a", 4).await;
    assert_eq!(owner.start(&claims[..2]).await, Some(vec![1, 2]));
    let census = stage.census().await;
    census.assert_one_place(&all);
    assert_eq!(census.started().into_keys().collect::<Vec<_>>(), ["a:1", "a:2"]);
    assert_eq!(census.unacked().into_keys().collect::<Vec<_>>(), ["a:3", "a:4"]);
    assert!(census.held().values().all(|list| list == "p:q"));
    // Asked again, because the answer was lost: they may start, once.
    assert_eq!(owner.start(&claims[..3]).await, Some(vec![1, 2, 3]));
    owner.beat(false).await.unwrap();
    let census = stage.census().await;
    census.assert_one_place(&all);
    assert_eq!((census.started().len(), census.index().len()), (3, 1));
    // It knows them again after a lost connection.
    let held = owner.held().await;
    assert_eq!(held.iter().map(|claim| claim.started).collect::<Vec<_>>(), [true, true, true, false]);
    assert_eq!(raws(&held), all);
    assert!(held.iter().all(|claim| &*claim.list == "p:q"));
}

#[tokio::test]
async fn each_end_of_what_was_started() {
    let mut stage = Stage::new(&["q"]).await;
    let (mut owner, claims, all) = claimed(&mut stage, "a", 6).await;
    owner.start(&claims).await.unwrap();
    let now = stage.now().await;
    let message = |at: usize| claims[at].raw.clone();
    let lost = owner
        .settle(&[
            stored(&claims[0], Action::Ack, &[result("zero", "SUCCESS")]),
            stored(&claims[1], Action::Store, &[result("one", "STARTED")]),
            settled(&claims[2], Action::Delay { message: message(2), due: now + 60_000 }),
            settled(&claims[3], Action::Dead { message: message(3), entry: "{}".into() }),
            settled(&claims[4], Action::Front(message(4))),
            settled(&claims[5], Action::Back(message(5))),
        ])
        .await;
    assert!(lost.is_empty());
    let census = stage.census().await;
    census.assert_one_place(&all[1..]);
    assert_eq!(census.started().into_keys().collect::<Vec<_>>(), ["a:2"]);
    let waiting = [census.waiting("q", "t:m"), census.list("q")];
    assert!(waiting.concat().starts_with(&[all[4].clone(), all[5].clone()]), "{waiting:?}");
    assert_eq!(census.dead().into_values().collect::<Vec<_>>(), [all[3].clone()]);
    for task in ["zero", "one"] {
        let mut results = fairstalk::broker::Connection::open(&stage.results).await.unwrap();
        let key = format!("celery-task-meta-{task}");
        let value: Option<String> = results.query(redis::cmd("GET").arg(key)).await.unwrap();
        assert!(value.is_some(), "{task} in database {RESULTS}");
    }
    owner.settle(&[ack(&claims[1])]).await;
    stage.census().await.assert_one_place(&all[2..]);
}

/// The instant before the note: back. The instant after: recognised as started, by whoever recovers it.
#[tokio::test]
async fn whoever_recovers_it_sees_what_was_started() {
    let mut stage = Stage::new(&["q"]).await;
    let (mut dead, claims, all) = claimed(&mut stage, "dead", 120).await;
    let (started, rest): (Vec<_>, Vec<_>) = claims.into_iter().partition(|claim| claim.sequence % 3 == 0);
    dead.start(&started).await.unwrap();
    let mut owner = stage.owner("o").await;
    stage.expire("dead").await;
    loop {
        let seized = owner.seize("dead").await;
        if seized.is_empty() {
            break;
        }
        let settlements: Vec<_> = seized
            .iter()
            .rev()
            .map(|claim| match claim.started {
                true => settled(claim, Action::Dead { message: claim.raw.clone(), entry: "{}".into() }),
                false => settled(claim, Action::Front(claim.raw.clone())),
            })
            .collect();
        owner.settle_for("dead", &settlements).await;
        stage.census().await.assert_one_place(&all);
    }
    let census = stage.census().await;
    // The first is not to be read, so that it is of another flow.
    assert_eq!([census.waiting("q", "q:q"), census.waiting("q", "t:m")].concat(), raws(&rest));
    let mut buried: Vec<_> = census.dead().into_values().collect();
    let mut expected = raws(&started);
    buried.sort();
    expected.sort();
    assert_eq!(buried, expected);
    // The dead one comes too late with everything.
    assert_eq!(dead.start(&rest).await, None);
    assert_eq!(dead.try_step(0, &[ack(&started[0])]).await.unwrap(), None);
    stage.census().await.assert_one_place(&all);
}

/// A note sent on an earlier connection, or for what a stock worker has taken back, starts nothing.
#[tokio::test]
async fn who_holds_it_no_longer_may_not_start_it() {
    let mut stage = Stage::new(&["q"]).await;
    let (mut owner, claims, all) = claimed(&mut stage, "a", 3).await;
    owner.number = 2;
    owner.beat(false).await.unwrap();
    owner.number = 1;
    assert_eq!(owner.start(&claims).await, None, "too late");
    owner.number = 2;
    let _: i64 = stage.ask(&["HDEL", "unacked", "a:2"]).await;
    let _: i64 = stage.ask(&["ZREM", "unacked_index", "a:2"]).await;
    stage.push("q", &[&all[1]]).await;
    assert_eq!(owner.start(&claims).await, Some(vec![1, 3]));
    let census = stage.census().await;
    census.assert_one_place(&all);
    assert_eq!(census.list("q"), [all[1].clone()]);
}

/// Who leaves with something started leaves it behind for others to find.
#[tokio::test]
async fn nothing_started_is_forgotten_on_the_way_out() {
    let mut stage = Stage::new(&["q"]).await;
    let (mut owner, claims, all) = claimed(&mut stage, "a", 2).await;
    owner.start(&claims[..1]).await.unwrap();
    owner.settle(&[ack(&claims[1])]).await;
    owner.leave().await;
    let census = stage.census().await;
    census.assert_one_place(&all[..1]);
    assert_eq!(census.owners().into_keys().collect::<Vec<_>>(), ["a"]);
    stage.expire("a").await;
    let mut other = stage.owner("o").await;
    assert_eq!(other.beat(false).await.unwrap().expired, ["a"]);
    assert!(other.seize("a").await[0].started);
}
