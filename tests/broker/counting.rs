//! What a step costs the server, in commands.

use crate::stage::{Owner, Stage, ack, messages, result, stored};
use fairstalk::broker::{Action, Settlement, StepReply};
use std::collections::BTreeMap;

type Calls = BTreeMap<String, u64>;

/// Makes a step and counts the commands of its script.
async fn counted(stage: &mut Stage, owner: &mut Owner, want: usize, settlements: &[Settlement]) -> (StepReply, Calls) {
    stage.ask::<()>(&["CONFIG", "RESETSTAT"]).await;
    let reply = owner.step(want, settlements).await;
    let stats: String = stage.ask(&["INFO", "commandstats"]).await;
    let calls = stats.lines().filter_map(|line| {
        let (name, figures) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        let count = figures.split(',').next()?.parse().ok()?;
        (!name.starts_with("config") && name != "info").then(|| (name.to_owned(), count))
    });
    (reply, calls.collect())
}

fn calls(expected: &[(&str, u64)]) -> Calls {
    expected.iter().map(|&(name, count)| (name.to_owned(), count)).collect()
}

#[tokio::test]
async fn plain_acks_cost_the_same_however_many() {
    let mut stage = Stage::new(&["q"]).await;
    stage.push("q", &messages("m", 322)).await;
    let mut owner = stage.owner("a").await;
    for count in [1, 2, 63, 256] {
        let claims = owner.claim(count).await;
        let settlements: Vec<_> = claims.iter().map(ack).collect();
        let (_, found) = counted(&mut stage, &mut owner, 0, &settlements).await;
        let expected = [("evalsha", 1), ("time", 1), ("hmget", 1), ("hdel", 2), ("zrem", 1), ("zrange", 1)];
        assert_eq!(found, calls(&expected), "{count} acks");
    }
}

#[tokio::test]
async fn a_claim_costs_one_pop() {
    let mut stage = Stage::new(&["a", "b"]).await;
    stage.push("a", &messages("a", 200)).await;
    stage.push("b", &messages("b", 200)).await;
    let mut owner = stage.owner("o").await;
    owner.claim(1).await;
    for count in [1, 2, 63, 256] {
        let (reply, found) = counted(&mut stage, &mut owner, count, &[]).await;
        assert_eq!(reply.claims.len(), count);
        let pops = count as u64;
        let expected =
            [("evalsha", 1), ("time", 1), ("hmget", 1), ("zrange", 1), ("rpop", pops), ("hset", 2), ("zadd", 1)];
        assert_eq!(found, calls(&expected), "{count} claims");
    }
}

#[tokio::test]
async fn a_busy_step_is_the_sum_of_both() {
    let mut stage = Stage::new(&["q"]).await;
    stage.push("q", &messages("m", 64)).await;
    let mut owner = stage.owner("a").await;
    let claims = owner.claim(32).await;
    let settlements: Vec<_> = claims
        .iter()
        .map(|claim| stored(claim, Action::Ack, &[result(&claim.sequence.to_string(), "SUCCESS")]))
        .collect();
    let (_, found) = counted(&mut stage, &mut owner, 32, &settlements).await;
    let expected = [
        ("evalsha", 1),
        ("time", 1),
        ("hmget", 1),
        ("select", 2),
        ("get", 32),
        ("set", 32),
        ("publish", 32),
        ("hdel", 2),
        ("zrem", 1),
        ("zrange", 1),
        ("rpop", 32),
        ("hset", 2),
        ("zadd", 1),
    ];
    assert_eq!(found, calls(&expected));
}

#[tokio::test]
async fn looking_in_vain_writes_nothing() {
    let mut stage = Stage::new(&["a", "b", "c"]).await;
    let mut owner = stage.owner("o").await;
    owner.claim(1).await;
    let (_, found) = counted(&mut stage, &mut owner, 4, &[]).await;
    let expected = [("evalsha", 1), ("time", 1), ("hmget", 1), ("zrange", 1), ("rpop", 3), ("exists", 3)];
    assert_eq!(found, calls(&expected));
}
