//! Rates of tasks, over all owners.

use crate::stage::{Owner, Stage, ack, front, messages, raws, settled, whose};
use fairstalk::broker::bars::{bars, limit_tasks};
use fairstalk::broker::{Action, Claim, Settlement};

const HOUR: f64 = 3_600_000.0;

async fn limit(stage: &mut Stage, intervals: &[(&str, f64)]) {
    let keys = stage.keys.clone();
    let intervals = intervals.iter().map(|(task, interval)| ((*task).into(), *interval)).collect();
    limit_tasks(&mut stage.admin, &keys, &intervals).await.unwrap();
}

/// An owner for which all messages of tenants whose names begin with `s` are of the limited task `slow`.
async fn owner(stage: &mut Stage, name: &str) -> Owner {
    let mut owner = stage.owner(name).await;
    owner.task = |message| message.starts_with(br#"{"id": "s"#).then_some("slow");
    owner.unseen = false;
    owner
}

fn park(claim: &Claim) -> Settlement {
    settled(claim, Action::Limit { message: claim.raw.clone(), task: "slow".into() })
}

/// The next start may be now.
async fn let_start(stage: &mut Stage) {
    let (bars, throttled) = (stage.keys.bars(), stage.keys.of_fleet("throttled"));
    let _: i64 = stage.ask(&["HSET", &bars, "task:slow", "3600000 1000"]).await;
    let flows: Vec<String> = stage.ask(&["ZRANGE", &throttled, "0", "-1"]).await;
    for flow in flows {
        let _: i64 = stage.ask(&["ZADD", &throttled, "1000", &flow]).await;
    }
}

#[tokio::test]
async fn one_start_in_an_interval_over_all_owners_and_others_go_on() {
    let mut stage = Stage::with_prefix("p:", &["q", "r"]).await;
    limit(&mut stage, &[("slow", HOUR)]).await;
    let (mut one, mut two) = (owner(&mut stage, "one").await, owner(&mut stage, "two").await);
    stage.push("q", &messages("s", 3)).await;
    stage.push("r", &messages("sb", 2)).await;
    let now = stage.now().await;
    let reply = one.step(4, &[]).await;
    assert_eq!(raws(&reply.claims), messages("s", 1));
    assert!(reply.claims[0].in_turn && &*reply.claims[0].list == "p:q");
    let next = reply.next_due.unwrap() - now;
    assert!((3_599_000..=3_601_000).contains(&next), "the next start may be in an hour: {next}");
    assert!(two.claim(4).await.is_empty());
    // Others go on meanwhile, tasks of the same tenant that are not limited too.
    stage.push("q", &[r#"{"id": "v-0"}"#, r#"{"id": "v-1"}"#]).await;
    assert_eq!(whose(&two.claim(4).await), "vv");
    stage.census().await.places();
    // Whoever has had less is the next to have a start; of each in order; the end of a task gives no start.
    let mut order = vec![whose(&reply.claims)];
    for _ in 0..4 {
        assert!(one.claim(4).await.is_empty());
        let_start(&mut stage).await;
        let claims = two.claim(4).await;
        assert_eq!(claims.len(), 1);
        order.push(whose(&claims));
        two.settle(&[ack(&claims[0])]).await;
    }
    assert_eq!(order, ["s", "sb", "s", "sb", "s"]);
    stage.census().await.places();
}

#[tokio::test]
async fn what_was_claimed_unseen_or_delayed_waits_for_its_turn_in_its_order() {
    let mut stage = Stage::new(&["q"]).await;
    limit(&mut stage, &[("slow", HOUR)]).await;
    let mut owner = owner(&mut stage, "o").await;
    owner.unseen = true;
    let all = messages("s", 5);
    stage.push("q", &all[..3]).await;
    let claims = owner.claim(3).await;
    assert!(claims.len() == 3 && claims.iter().all(|claim| !claim.in_turn));
    stage.push("q", &all[3..]).await;
    // Another one files what came later before these are put aside.
    self::owner(&mut stage, "two").await.file().await;
    let mut started = raws(&owner.step(3, &claims.iter().map(park).collect::<Vec<_>>()).await.claims);
    let due = stage.now().await - 1;
    for _ in 1..all.len() {
        let_start(&mut stage).await;
        let claims = owner.claim(3).await;
        assert!(claims.len() == 1 && claims[0].in_turn, "{claims:?}");
        started.extend(raws(&claims));
        if started.len() == all.len() {
            // A retry of it: it has to wait for its turn again.
            owner.settle(&[settled(&claims[0], Action::Delay { message: claims[0].raw.clone(), due })]).await;
        }
    }
    assert_eq!(started[..], all[..]);
    let again = owner.claim(3).await;
    assert!(again.len() == 1 && !again[0].in_turn, "whose time has come is seen by whoever claims it");
    assert!(owner.step(3, &[park(&again[0])]).await.claims.is_empty());
    let_start(&mut stage).await;
    assert_eq!(raws(&owner.claim(3).await), all[4..]);
    stage.census().await.places();
}

#[tokio::test]
async fn when_the_next_start_may_be_outlives_the_workers_and_nothing_is_lost() {
    let mut stage = Stage::new(&["q"]).await;
    limit(&mut stage, &[("slow", HOUR)]).await;
    let mut first = owner(&mut stage, "one").await;
    stage.push("q", &messages("s", 3)).await;
    let claims = first.claim(3).await;
    assert_eq!(first.step(3, &[front(claims[0].clone())]).await.claims.len(), 0, "it was a start all the same");
    assert!(first.leave().await.is_empty());
    assert_eq!(stage.census_of_lists().await["q"], messages("s", 3));
    let mut next = owner(&mut stage, "two").await;
    limit(&mut stage, &[("slow", HOUR)]).await;
    assert!(next.claim(3).await.is_empty());
    let_start(&mut stage).await;
    assert_eq!(raws(&next.claim(3).await), messages("s", 1));
    stage.census().await.places();
}

#[tokio::test]
async fn a_limit_that_is_lifted_or_widened_lets_run_what_waits_at_once() {
    for (after, starts) in [(&[][..], 3), (&[("slow", 0.5)], 1), (&[("slow", HOUR)], 0)] {
        let mut stage = Stage::new(&["q"]).await;
        limit(&mut stage, &[("slow", HOUR)]).await;
        let mut owner = owner(&mut stage, "o").await;
        stage.push("q", &messages("s", 4)).await;
        assert_eq!(owner.claim(9).await.len(), 1);
        limit(&mut stage, after).await;
        let until = stage.now().await + 2;
        while starts > 0 && stage.now().await < until {} // half a millisecond
        assert_eq!(owner.claim(9).await.len(), starts, "{after:?}");
        let keys = stage.keys.clone();
        assert_eq!(bars(&mut stage.admin, &keys).await.unwrap().tasks.len(), after.len());
        stage.census().await.places();
    }
}

#[tokio::test]
async fn a_limited_task_holds_up_no_slot_that_another_tenant_could_have() {
    let mut stage = Stage::new(&["q"]).await;
    limit(&mut stage, &[("slow", HOUR)]).await;
    let mut owner = owner(&mut stage, "o").await;
    // Three tenants want the one start; the others' turn goes to who can use it, in the same step.
    for tenant in ["sa", "sb", "sc", "v"] {
        stage.push("q", &messages(tenant, 3)).await;
    }
    let claims = owner.claim(4).await;
    assert_eq!(whose(&claims).matches('v').count(), 3, "{claims:?}");
    let tenants = stage.census().await.tenants();
    let of = |flow: &str| tenants[flow]["v"].as_f64().unwrap();
    assert_eq!((of("t:sa") - of("t:sb")).round(), 10.0, "who could not be served is charged nothing");
}
