//! What dead stock workers held goes back, and nothing else.

use crate::stage::{Stage, messages};
use fairstalk::broker::stale::Stale;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

/// As kombu writes a claim.
async fn claimed_by_celery(stage: &mut Stage, name: &str, message: &str, queue: &str, seconds_ago: i64) {
    let since = (stage.now().await / 1000 - seconds_ago).to_string();
    let kept = format!(r#"[{message}, "", "{queue}"]"#);
    let (unacked, index) = (stage.keys.unacked(), stage.keys.unacked_index());
    let _: i64 = stage.ask(&["HSET", &unacked, name, &kept]).await;
    let _: i64 = stage.ask(&["ZADD", &index, &since, name]).await;
}

/// A message of this priority.
fn message(id: &str, priority: u8) -> String {
    let properties = format!(r#"{{"priority": {priority}, "delivery_info": {{"exchange": "", "routing_key": "q"}}}}"#);
    format!(r#"{{"body": "W10=", "headers": {{"id": "{id}", "task": "t"}}, "properties": {properties}}}"#)
}

async fn names(stage: &mut Stage) -> Vec<String> {
    let index = stage.keys.unacked_index();
    stage.ask(&["ZRANGE", &index, "0", "-1"]).await
}

#[tokio::test]
async fn what_is_older_than_the_visibility_timeout_goes_to_the_front() {
    let mut stage = Stage::with_prefix("p:", &["q"]).await;
    let mut owner = stage.owner("a:1").await;
    stage.push("q", &["first"]).await;
    assert_eq!(owner.claim(1).await.len(), 1);
    stage.push("q", &["waits"]).await;
    claimed_by_celery(&mut stage, "old", &message("old", 0), "q", 3700).await;
    claimed_by_celery(&mut stage, "older", &message("older", 6), "q", 9000).await;
    claimed_by_celery(&mut stage, "no-message", "{}", "q", 3700).await;
    claimed_by_celery(&mut stage, "young", &message("young", 0), "q", 3500).await;
    claimed_by_celery(&mut stage, "elsewhere", &message("elsewhere", 0), "others", 9000).await;
    // A claim of ours that nobody has renewed goes back with its owner.
    let index = stage.keys.unacked_index();
    let _: i64 = stage.ask(&["ZADD", &index, "1", "a:1:1"]).await;
    let mut stale = Stale::new(stage.keys.clone(), HOUR);

    let mutex = stage.keys.key("unacked_mutex");
    stage.ask::<()>(&["SET", &mutex, "celery"]).await;
    assert_eq!(stale.restore(&mut owner.connection).await.unwrap(), 0, "a stock worker is at it");
    let _: i64 = stage.ask(&["DEL", &mutex]).await;

    let pulse = owner.beat(false).await.unwrap();
    assert_eq!(pulse.stale, 4, "a beat sees them, and has renewed our own");
    let _: i64 = stage.ask(&["ZADD", &index, "1", "a:1:1"]).await;
    assert_eq!(stale.restore(&mut owner.connection).await.unwrap(), 3);
    assert_eq!(names(&mut stage).await, ["a:1:1", "elsewhere", "young"]);
    let census = stage.census_of_lists().await;
    let front = String::from_utf8_lossy(&census["p:q"][0]).into_owned();
    assert!(front == "{}" || front.contains(r#""id": "old""#) && front.contains(r#""redelivered": true"#), "{front}");
    assert_eq!(census["p:q"].last().unwrap(), b"waits");
    assert!(String::from_utf8_lossy(&census["p:q\x06\x166"][0]).contains("older"));
    assert_eq!(stale.restore(&mut owner.connection).await.unwrap(), 0);
}

/// Two at once, and one that is slow: each message goes back once.
#[tokio::test]
async fn each_is_put_back_once() {
    let mut stage = Stage::new(&["q"]).await;
    let (mut one, mut two) = (stage.owner("one").await, stage.owner("two").await);
    // More than are looked at in one go, behind as many that are not ours.
    for (number, id) in messages("m", 250).into_iter().enumerate() {
        let text = String::from_utf8(id).unwrap();
        let queue = if number < 120 { "others" } else { "q" };
        claimed_by_celery(&mut stage, &format!("tag{number}"), &text, queue, 9000 - number as i64).await;
    }
    let (mut first, mut second) = (Stale::new(stage.keys.clone(), HOUR), Stale::new(stage.keys.clone(), HOUR));
    let mut all = 0;
    for _ in 0..5 {
        let (some, others) = tokio::join!(first.restore(&mut one.connection), second.restore(&mut two.connection));
        all += some.unwrap() + others.unwrap();
    }
    assert_eq!(all, 130);
    assert_eq!(stage.census_of_lists().await["q"].len(), 130);
    assert_eq!(names(&mut stage).await.len(), 120);
}

/// A stock worker that was killed while it restored holds kombu's mutex for minutes.
#[tokio::test]
async fn who_holds_the_mutex_for_too_long_is_dead() {
    let mut stage = Stage::new(&["q"]).await;
    let mut owner = stage.owner("a:1").await;
    claimed_by_celery(&mut stage, "old", &message("old", 0), "q", 3700).await;
    let mutex = stage.keys.key("unacked_mutex");
    let mut patient = Stale::new(stage.keys.clone(), HOUR);
    let mut stale = Stale::new(stage.keys.clone(), HOUR).with_dead_after(Duration::ZERO);
    for holder in ["one", "two", "three"] {
        stage.ask::<()>(&["SET", &mutex, holder]).await;
        assert_eq!(stale.restore(&mut owner.connection).await.unwrap(), 0, "{holder} may be at it");
        assert_eq!(patient.restore(&mut owner.connection).await.unwrap(), 0);
    }
    assert_eq!(patient.restore(&mut owner.connection).await.unwrap(), 0);
    assert_eq!(stale.restore(&mut owner.connection).await.unwrap(), 1, "it is still the third");
    assert!(names(&mut stage).await.is_empty());
}
