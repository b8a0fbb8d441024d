//! Tasks taken back: kept, told with the next step, and forgotten in the end.

use crate::stage::{Stage, ack, messages};
use fairstalk::broker::revoked::{self, KEPT, MOST, Revoked};

fn ids(name: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{name}{number}")).collect()
}

#[tokio::test]
async fn a_step_tells_of_a_revocation_and_a_copy_catches_up() {
    let mut stage = Stage::with_prefix("p:", &["q"]).await;
    stage.push("q", &messages("m", 4)).await;
    let mut owner = stage.owner("a").await;
    let mut copy = Revoked::new(stage.keys.clone());
    assert_eq!(owner.step(1, &[]).await.revoked, 0);

    let keys = stage.keys.clone();
    revoked::revoke(&mut stage.admin, &keys, &["a".to_owned()]).await.unwrap();
    let first = owner.step(1, &[]).await.revoked;
    assert!(copy.is_behind(first) && !copy.contains("a"));
    copy.catch_up(&mut stage.admin).await.unwrap();
    assert!(!copy.is_behind(first) && copy.contains("a") && !copy.contains("b"));

    // Many at once, more than one call takes, and in the same millisecond as others.
    revoked::revoke(&mut stage.admin, &keys, &ids("b", 2500)).await.unwrap();
    revoked::revoke(&mut stage.admin, &keys, &["c".to_owned()]).await.unwrap();
    let second = owner.step(1, &[]).await.revoked;
    assert!(second > first && copy.is_behind(second));
    copy.catch_up(&mut stage.admin).await.unwrap();
    assert!(copy.contains("b0") && copy.contains("b2499") && copy.contains("c"));

    // Known ones change nothing: each worker that hears a broadcast keeps its ids.
    revoked::revoke(&mut stage.admin, &keys, &ids("b", 2500)).await.unwrap();
    assert!(!copy.is_behind(owner.step(1, &[]).await.revoked));

    // Another copy begins with all of them.
    let mut other = Revoked::new(keys);
    other.catch_up(&mut stage.admin).await.unwrap();
    assert!(other.contains("a") && other.contains("b1000") && other.contains("c"));
}

#[tokio::test]
async fn what_is_kept_is_bounded_in_number_and_in_time() {
    let mut stage = Stage::new(&["q"]).await;
    let keys = stage.keys.clone();
    let revoked_key = keys.revoked();
    let now = stage.now().await;
    let old = now - i64::try_from(KEPT.as_millis()).unwrap() - 1;
    let _: i64 = stage.ask(&["ZADD", &revoked_key, &old.to_string(), "old"]).await;
    revoked::revoke(&mut stage.admin, &keys, &ids("a", 10)).await.unwrap();
    let left: i64 = stage.ask(&["ZCARD", &revoked_key]).await;
    assert_eq!(left, 10);
    let ttl: i64 = stage.ask(&["PTTL", &revoked_key]).await;
    assert!(ttl > 0 && ttl <= i64::try_from(KEPT.as_millis()).unwrap(), "{ttl}");
    revoked::revoke(&mut stage.admin, &keys, &ids("b", MOST)).await.unwrap();
    let left: usize = stage.ask(&["ZCARD", &revoked_key]).await;
    let first: Option<f64> = stage.ask(&["ZSCORE", &revoked_key, "a0"]).await;
    assert_eq!((left, first), (MOST, None));
}

#[tokio::test]
async fn the_last_owner_can_leave() {
    let mut stage = Stage::new(&["q"]).await;
    stage.push("q", &messages("m", 1)).await;
    let mut owner = stage.owner("a").await;
    let keys = stage.keys.clone();
    revoked::revoke(&mut stage.admin, &keys, &["a".to_owned()]).await.unwrap();
    let claims = owner.claim(1).await;
    owner.step(0, &[ack(&claims[0])]).await;
    assert!(owner.leave().await.is_empty());
    // The ids outlive it, the number of the latest does not: whoever comes asks for all of them first.
    let left: i64 = stage.ask(&["ZCARD", &keys.revoked()]).await;
    let tenants: i64 = stage.ask(&["EXISTS", &keys.tenants()]).await;
    assert_eq!((left, tenants), (1, 0));
}
