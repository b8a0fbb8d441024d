//! Results: stored with the settlement, in the order and with the care of Celery's own backend.

use crate::stage::{RESULTS, Stage, ack, messages, result, settled, stored};
use fairstalk::broker::{Action, Connection, Kind, Store, publish};
use std::io::{BufRead, BufReader, Write};

async fn get(connection: &mut Connection, task: &str) -> Option<Vec<u8>> {
    connection.query(redis::cmd("GET").arg(format!("celery-task-meta-{task}"))).await.unwrap()
}

#[tokio::test]
async fn results_go_to_their_own_database() {
    let mut stage = Stage::new(&["q"]).await;
    let all = messages("m", 3);
    stage.push("q", &all).await;
    let mut owner = stage.owner("a").await;
    let claims = owner.claim(3).await;
    let for_ever = Store { ttl_ms: 0, ..result("t2", "SUCCESS") };
    let lost = owner
        .settle(&[
            stored(&claims[0], Action::Ack, &[result("t1", "SUCCESS"), result("t3", "FAILURE")]),
            ack(&claims[1]),
            stored(&claims[2], Action::Ack, &[for_ever]),
        ])
        .await;
    assert!(lost.is_empty());
    let mut results = Connection::open(&stage.results).await.unwrap();
    assert_eq!(get(&mut results, "t1").await.unwrap(), result("t1", "SUCCESS").value);
    assert_eq!(get(&mut results, "t3").await.unwrap(), result("t3", "FAILURE").value);
    let ttl = |task: &str| redis::cmd("PTTL").arg(format!("celery-task-meta-{task}")).to_owned();
    let left: i64 = results.query(&ttl("t1")).await.unwrap();
    assert!((50_000..=60_000).contains(&left), "{left}");
    assert_eq!(results.query::<i64>(&ttl("t2")).await.unwrap(), -1);
    assert_eq!(results.query::<i64>(&redis::cmd("DBSIZE")).await.unwrap(), 3, "nothing else is there");
    let strays: Vec<String> = stage.ask(&["KEYS", "*meta*"]).await;
    assert!(strays.is_empty(), "{strays:?}");
    stage.census().await.assert_one_place::<&[u8]>(&[]);
}

#[tokio::test]
async fn the_result_is_stored_before_the_message_is_forgotten() {
    let mut stage = Stage::new(&["q"]).await;
    stage.push("q", &messages("m", 2)).await;
    let mut owner = stage.owner("a").await;
    let claims = owner.claim(2).await;
    let path = stage.broker.url.trim_start_matches("unix://").split('?').next().unwrap().to_owned();
    let mut monitor = std::os::unix::net::UnixStream::connect(path).unwrap();
    monitor.write_all(b"MONITOR\r\n").unwrap();
    let mut lines = BufReader::new(monitor).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "+OK");
    owner.settle(&[ack(&claims[0]), stored(&claims[1], Action::Ack, &[result("t", "SUCCESS")])]).await;
    let _: String = stage.ask(&["ECHO", "the end"]).await;
    let script: Vec<String> =
        lines.take_while(|line| !line.contains("the end")).filter(|line| line.contains(" lua]")).collect();
    let at = |word: &str| script.iter().position(|line| line.contains(word)).unwrap_or_else(|| panic!("{script:?}"));
    assert!(at("\"SET\"") < at("\"PUBLISH\"") && at("\"PUBLISH\"") < at("\"HDEL\""), "{script:?}");
    assert!(script[at("\"SET\"")].contains(&format!("[{RESULTS} lua]")), "{script:?}");
}

#[tokio::test]
async fn an_end_is_not_overwritten_by_less() {
    let mut stage = Stage::new(&["q"]).await;
    stage.push("q", &messages("m", 1)).await;
    let mut owner = stage.owner("a").await;
    let claim = owner.claim(1).await.remove(0);
    let mut results = Connection::open(&stage.results).await.unwrap();
    // What is stored in turn, and what stands there afterwards.
    let turns = [
        ("STARTED", "STARTED"),
        ("RETRY", "RETRY"),
        ("FAILURE", "FAILURE"),
        ("RETRY", "FAILURE"),
        ("STARTED", "STARTED"),
        ("FAILURE", "FAILURE"),
        ("SUCCESS", "SUCCESS"),
        ("FAILURE", "SUCCESS"),
        ("RETRY", "SUCCESS"),
        ("STARTED", "SUCCESS"),
    ];
    for (stored_now, expected) in turns {
        let lost = owner.settle(&[stored(&claim, Action::Store, &[result("t", stored_now)])]).await;
        assert!(lost.is_empty());
        let found = get(&mut results, "t").await.unwrap();
        assert_eq!(found, result("t", expected).value, "after {stored_now}");
    }
    stage.census().await.assert_one_place(&messages("m", 1));
}

#[tokio::test]
async fn who_waits_for_a_result_is_told() {
    let mut stage = Stage::new(&["q"]).await;
    stage.push("q", &messages("m", 2)).await;
    let mut owner = stage.owner("a").await;
    let claims = owner.claim(2).await;
    let mut waiting = Connection::open(&stage.results).await.unwrap();
    let told = async {
        let found = publish::result(&mut waiting, "celery-task-meta-t").await.unwrap();
        assert_eq!(found.into_bytes(), result("t", "FAILURE").value);
    };
    let ending = async {
        // Only once somebody listens, so that it is the message that tells.
        while stage.ask::<(String, u64)>(&["PUBSUB", "NUMSUB", "celery-task-meta-t"]).await.1 == 0 {
            tokio::task::yield_now().await;
        }
        owner.settle(&[stored(&claims[0], Action::Store, &[result("t", "RETRY")])]).await;
        owner.settle(&[stored(&claims[1], Action::Ack, &[result("t", "FAILURE")])]).await;
    };
    tokio::join!(told, ending);
    // One that was there before is found at once.
    let mut late = Connection::open(&stage.results).await.unwrap();
    publish::result(&mut late, "celery-task-meta-t").await.unwrap();
}

#[tokio::test]
async fn a_result_that_cannot_be_stored_leaves_every_message_where_it_was() {
    let mut stage = Stage::new(&["q"]).await;
    let all = messages("m", 3);
    stage.push("q", &all).await;
    let mut owner = stage.owner("a").await;
    let claims = owner.claim(3).await;
    let mut results = Connection::open(&stage.results).await.unwrap();
    // Somebody else's data under the name of the result.
    results.query::<()>(redis::cmd("LPUSH").arg("celery-task-meta-t").arg("x")).await.unwrap();
    let settlements = [
        settled(&claims[0], Action::Front(claims[0].raw.clone())),
        settled(&claims[1], Action::Dead { message: claims[1].raw.clone(), entry: "{}".into() }),
        stored(&claims[2], Action::Ack, &[result("t", "SUCCESS")]),
    ];
    let before = stage.census().await.places();
    let error = owner.try_step(0, &settlements).await.unwrap_err();
    assert_eq!(error.kind, Kind::Unexpected, "{error}");
    assert_eq!(stage.census().await.places(), before);
    stage.census().await.assert_one_place(&all);
}
