//! What a step costs the server, in commands.

use crate::stage::{Owner, Stage, ack, messages, result, stored};
use fairstalk::broker::{Action, Claim, Filing, Rung, Settlement, StepReply};
use std::collections::BTreeMap;

type Calls = BTreeMap<String, u64>;

/// One call of the script, and the commands in it.
async fn counted(
    stage: &mut Stage,
    owner: &mut Owner,
    want: usize,
    settlements: &[Settlement],
    filings: &[Filing],
) -> (StepReply, Calls) {
    stage.ask::<()>(&["CONFIG", "RESETSTAT"]).await;
    let reply = owner.one_step(want, settlements, filings).await.unwrap().unwrap();
    (reply, commands(stage).await)
}

/// What was called since `CONFIG RESETSTAT`.
async fn commands(stage: &mut Stage) -> Calls {
    let stats: String = stage.ask(&["INFO", "commandstats"]).await;
    let calls = stats.lines().filter_map(|line| {
        let (name, figures) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        let count = figures.split(',').next()?.parse().ok()?;
        (!name.starts_with("config") && name != "info").then(|| (name.to_owned(), count))
    });
    calls.collect()
}

fn calls(expected: &[(&str, u64)]) -> Calls {
    expected.iter().map(|&(name, count)| (name.to_owned(), count)).collect()
}

/// An owner whose first call is behind it, so that the script is known to the server.
async fn owner(stage: &Stage) -> Owner {
    let mut owner = stage.owner("o").await;
    owner.file().await;
    owner
}

/// Messages of so many tenants, the same number of each, in lanes.
async fn fill(stage: &mut Stage, owner: &mut Owner, tenants: usize, each: usize) {
    let all: Vec<Vec<u8>> = (0..tenants).flat_map(|user| messages(&format!("u{user}"), each)).collect();
    for part in all.chunks(1000) {
        stage.push("q", part).await;
        owner.file().await;
    }
}

fn acks(claims: &[Claim]) -> Vec<Settlement> {
    claims.iter().map(ack).collect()
}

#[tokio::test]
async fn looking_in_vain_writes_nothing() {
    let mut stage = Stage::new(&["a", "b", "c"]).await;
    let mut owner = owner(&stage).await;
    let (_, found) = counted(&mut stage, &mut owner, 4, &[], &[]).await;
    assert_eq!(found, calls(&[("evalsha", 1), ("time", 1), ("hmget", 2), ("zrange", 1), ("exists", 1)]));
}

/// A message that finds a free slot, its way there and its way out.
#[tokio::test]
async fn a_message_that_nobody_has_to_wait_for_never_sees_a_lane() {
    let mut stage = Stage::new(&["a", "b"]).await;
    let mut owner = owner(&stage).await;
    stage.push("b", &messages("m", 1)).await;
    let (reply, found) = counted(&mut stage, &mut owner, 4, &[], &[]).await;
    assert_eq!(reply.claims.len(), 1);
    let mut expected = vec![("evalsha", 1), ("time", 1), ("zrange", 1)];
    // The lease; whose turn it is; counters of the tenants, one of which is written: the number of the claim.
    expected.extend([("exists", 2), ("llen", 2), ("hmget", 3), ("rpop", 1), ("hset", 3), ("zadd", 1)]);
    assert_eq!(found, calls(&expected));
    let (_, found) = counted(&mut stage, &mut owner, 0, &acks(&reply.claims), &[]).await;
    let expected = [("evalsha", 1), ("time", 1), ("hmget", 2), ("hdel", 2), ("zrem", 1), ("zrange", 1), ("exists", 1)];
    assert_eq!(found, calls(&expected));
    // A list that has rung is asked for alone.
    owner.rung = Rung::Lists(vec!["b".into()]);
    stage.push("b", &messages("m", 1)).await;
    let (reply, found) = counted(&mut stage, &mut owner, 4, &[], &[]).await;
    assert_eq!((reply.claims.len(), found.get("exists"), found.get("llen")), (1, None, Some(&1)));
}

/// Of one tenant, whatever waits.
#[tokio::test]
async fn a_busy_step_costs_the_same_however_many_it_settles_and_claims() {
    for waiting in [100, 10_000] {
        let mut stage = Stage::new(&["q"]).await;
        let mut owner = owner(&stage).await;
        fill(&mut stage, &mut owner, 1, waiting).await;
        for batch in [1, 4, 16] {
            let claims = owner.claim(batch).await;
            let (reply, found) = counted(&mut stage, &mut owner, batch, &acks(&claims), &[]).await;
            assert_eq!(reply.claims.len(), batch);
            let mut expected = vec![("evalsha", 1), ("time", 1), ("zrange", 2), ("exists", 1)];
            // What it holds and what its tenant has had; out of `unacked`, its index and the owner's claims.
            expected.extend([("hmget", 2), ("hdel", 2), ("zrem", 1)]);
            // Off the lane, into all three again, and the tenant is written back.
            expected.extend([("rpop", 1), ("hset", 3), ("zadd", 2)]);
            assert_eq!(found, calls(&expected), "{batch} of {waiting}");
            owner.settle(&acks(&reply.claims)).await;
        }
    }
}

/// Of many tenants each claim takes from another lane; all else is one call for all.
#[tokio::test]
async fn many_tenants_cost_no_more_than_few() {
    for (tenants, each) in [(32, 4), (10_000, 2)] {
        let mut stage = Stage::new(&["q"]).await;
        let mut owner = owner(&stage).await;
        fill(&mut stage, &mut owner, tenants, each).await;
        for batch in [1, 4, 16] {
            let claims = owner.claim(batch).await;
            let (reply, found) = counted(&mut stage, &mut owner, batch, &acks(&claims), &[]).await;
            assert_eq!(reply.claims.len(), batch);
            let mut expected = vec![("evalsha", 1), ("time", 1), ("zrange", 2), ("exists", 1)];
            // One for the tenants that come up new.
            expected.extend([("hmget", 3), ("hdel", 2), ("zrem", 1)]);
            expected.extend([("rpop", batch as u64), ("hset", 3), ("zadd", 2)]);
            assert_eq!(found, calls(&expected), "{batch} of {tenants}");
            owner.settle(&acks(&reply.claims)).await;
        }
    }
}

/// Who comes with one message and is gone with it: out of the line when it is claimed, forgotten when it has ended.
#[tokio::test]
async fn a_tenant_of_one_message_costs_no_more_than_that() {
    for tenants in [100, 5000] {
        let mut stage = Stage::new(&["q"]).await;
        let mut owner = owner(&stage).await;
        fill(&mut stage, &mut owner, tenants, 1).await;
        let claims = owner.claim(16).await;
        let (reply, found) = counted(&mut stage, &mut owner, 16, &acks(&claims), &[]).await;
        assert_eq!(reply.claims.len(), 16);
        let mut expected = vec![("evalsha", 1), ("time", 1), ("zrange", 2), ("exists", 1)];
        expected.extend([("hmget", 3), ("hdel", 3), ("zrem", 2)]);
        expected.extend([("rpop", 16), ("hset", 3), ("zadd", 1)]);
        assert_eq!(found, calls(&expected), "{tenants} tenants");
        owner.settle(&acks(&reply.claims)).await;
        assert_eq!(stage.census().await.tenants().len(), tenants - 32);
    }
}

/// However many are to be poured back, and have been.
#[tokio::test]
async fn each_call_that_pours_back_is_as_short_as_any() {
    for (tenants, each, portion) in [(40, 3, 30), (6000, 1, 34)] {
        let mut stage = Stage::new(&["q"]).await;
        let mut owner = owner(&stage).await;
        fill(&mut stage, &mut owner, tenants, each).await;
        let (mut count, mut left) = (0, 1);
        while left > 0 {
            stage.ask::<()>(&["CONFIG", "RESETSTAT"]).await;
            left = stage.leave_once("o", 200).await;
            count += 1;
            let found = commands(&mut stage).await;
            // One for each lane; for each list, and for what is known of all, a fixed number.
            assert!(found["lpop"] <= portion && found.values().sum::<u64>() <= portion + 40, "{found:?}");
        }
        assert!(count * portion <= (tenants as u64) + 2 * portion, "{count} calls");
        assert_eq!(stage.census().await.list("q").len(), tenants * each);
    }
}

#[tokio::test]
async fn results_cost_two_commands_each() {
    let mut stage = Stage::new(&["q"]).await;
    let mut owner = owner(&stage).await;
    fill(&mut stage, &mut owner, 1, 64).await;
    let claims = owner.claim(32).await;
    let settlements: Vec<_> = claims
        .iter()
        .map(|claim| stored(claim, Action::Ack, &[result(&claim.sequence.to_string(), "SUCCESS")]))
        .collect();
    let (_, found) = counted(&mut stage, &mut owner, 32, &settlements, &[]).await;
    let mut expected = vec![("evalsha", 1), ("time", 1), ("zrange", 2), ("exists", 1)];
    expected.extend([("select", 2), ("set", 32), ("publish", 32)]);
    // The tenant is forgotten while nothing of it waits, but not here: it has just claimed.
    // A long name comes into the index and leaves it, so that it is not searched as a list.
    expected.extend([("hmget", 2), ("hdel", 2), ("zrem", 3), ("rpop", 1), ("hset", 3), ("zadd", 2)]);
    assert_eq!(found, calls(&expected));
}

/// One pop, one push for each tenant, and one call each for all that is noted.
#[tokio::test]
async fn filing_costs_by_tenants_not_by_messages() {
    for (tenants, each) in [(1, 200), (24, 8), (24, 2)] {
        let mut stage = Stage::new(&["q"]).await;
        let mut owner = owner(&stage).await;
        let all: Vec<Vec<u8>> = (0..tenants).flat_map(|user| messages(&format!("u{user}"), each)).collect();
        stage.push("q", &all).await;
        let looked = owner.one_step(0, &[], &[]).await.unwrap().unwrap().looked;
        let filings: Vec<Filing> = looked.into_iter().filter_map(|looked| owner.filing(looked)).collect();
        let (_, found) = counted(&mut stage, &mut owner, 0, &[], &filings).await;
        let mut expected = vec![("evalsha", 1), ("time", 1), ("hmget", 2), ("zrange", 1), ("exists", 1)];
        // The ends of what was seen; then off the list, and the turn is over.
        expected.extend([("lindex", 2), ("rpop", 1), ("hdel", 1)]);
        expected.extend([("lpush", tenants as u64), ("hset", 1), ("zadd", 1)]);
        assert_eq!(found, calls(&expected), "{tenants} tenants");
        stage.census().await.assert_one_place(&all);
    }
}
