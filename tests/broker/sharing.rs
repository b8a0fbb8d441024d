//! Who is served next: the tenant that has had the least running time by its weight.

use crate::stage::{Owner, Stage, ack, front, messages, ran, raws, settled, whose};
use fairstalk::broker::{Action, Claim, Settlement};

/// An owner before whom the messages of these tenants wait in lanes, all in one queue.
async fn with_lanes(stage: &mut Stage, name: &str, tenants: &[(&str, usize)]) -> Owner {
    let mut owner = stage.owner(name).await;
    for (tenant, count) in tenants {
        stage.push("q", &messages(tenant, *count)).await;
    }
    owner.file().await;
    owner
}

async fn virtual_time(stage: &mut Stage, flow: &str) -> f64 {
    stage.census().await.tenants()[flow]["v"].as_f64().unwrap()
}

#[tokio::test]
async fn the_tenant_with_the_least_running_time_goes_first() {
    let mut stage = Stage::new(&["q"]).await;
    let mut owner = with_lanes(&mut stage, "o", &[("a", 9), ("b", 9), ("c", 9)]).await;
    let claims = owner.claim(3).await;
    assert_eq!(whose(&claims), "abc", "as they came");
    owner.settle(&[ran(&claims[0], 1000.0), ran(&claims[1], 300.0), ran(&claims[2], 150.0)]).await;
    // They have had 1000, 300 and 150 ms, more than their credit, and that is what the next of each is expected to take.
    let mut order = String::new();
    for want in [1, 1, 1, 1, 2] {
        order += &whose(&owner.claim(want).await);
    }
    assert_eq!(order, "cbccbc");
    stage.census().await.places();
}

#[tokio::test]
async fn one_step_serves_as_many_steps_would() {
    let mut orders = Vec::new();
    for wants in [&[1; 12][..], &[5, 7], &[12]] {
        let mut stage = Stage::new(&["q"]).await;
        let mut owner = with_lanes(&mut stage, "o", &[("a", 9), ("b", 9), ("c", 2)]).await;
        let claims = owner.claim(3).await;
        owner.settle(&[ran(&claims[0], 60.0), ran(&claims[1], 20.0), ran(&claims[2], 5.0)]).await;
        let mut taken: Vec<char> = Vec::new();
        for &want in wants {
            taken.extend(whose(&owner.claim(want).await).chars());
        }
        taken.sort_unstable();
        orders.push(String::from_iter(taken));
    }
    assert_eq!(orders[0].len(), 12);
    assert!(orders.iter().all(|order| *order == orders[0]), "{orders:?}");
}

/// Neither one that was away, nor one that had a task under way meanwhile and nothing that waited.
#[tokio::test]
async fn a_newcomer_goes_first_once_and_cannot_save_up_credit() {
    for (away, task, credit) in [(true, 10.0, 6), (false, 10.0, 6), (true, 125.0, 4), (true, 1000.0, 2)] {
        let mut stage = Stage::new(&["q"]).await;
        let mut owner = with_lanes(&mut stage, "o", &[("s", 1), ("a", 60), ("b", 60)]).await;
        owner.expected = task;
        let mut first = owner.claim(1).await;
        assert_eq!(whose(&first), "s");
        if away {
            owner.settle(&[ran(&first.remove(0), task)]).await;
            assert!(!stage.census().await.tenants().contains_key("t:s"), "it is forgotten");
        }
        for _ in 0..20 {
            let claims = owner.claim(2).await;
            assert_eq!(claims.len(), 2);
            owner.settle(&claims.iter().map(|claim| ran(claim, task)).collect::<Vec<_>>()).await;
        }
        stage.push("q", &messages("s", 30)).await;
        owner.file().await;
        assert_eq!(whose(&owner.claim(1 + credit).await), "s".repeat(1 + credit), "first, and so many tasks more");
        let after = whose(&owner.claim(12).await);
        assert_eq!(after.matches('s').count(), 4, "then as often as the others: {after}");
    }
}

/// Else, at a load that leaves gaps, those who have just run something would wait for all that come new after each gap.
#[tokio::test]
async fn who_begins_while_nobody_is_there_has_credit_too() {
    let mut stage = Stage::new(&["q"]).await;
    let mut owner = with_lanes(&mut stage, "o", &[("x", 2)]).await;
    let claims = owner.claim(1).await;
    owner.settle(&[ran(&claims[0], 10.0)]).await;
    stage.push("q", &messages("y", 2)).await;
    owner.file().await;
    let mut order = String::new();
    for _ in 0..3 {
        order += &whose(&owner.claim(1).await);
    }
    assert_eq!(order, "xyy", "the second of x came before y");
}

/// Whoever of them has had more of late: none of those with little to do waits for all others of them.
#[tokio::test]
async fn who_has_had_less_than_the_floor_is_served_in_the_order_of_coming() {
    let mut stage = Stage::new(&["q"]).await;
    let mut owner = with_lanes(&mut stage, "o", &[("z", 60)]).await;
    for _ in 0..10 {
        let claims = owner.claim(1).await;
        owner.settle(&claims.iter().map(|claim| ran(claim, 10.0)).collect::<Vec<_>>()).await;
    }
    stage.push("q", &messages("x", 1)).await;
    owner.file().await;
    assert_eq!(whose(&owner.claim(1).await), "x", "it runs while it calls again, and others for the first time");
    for (tenant, count) in [("x", 1), ("a", 2), ("b", 1)] {
        stage.push("q", &messages(tenant, count)).await;
        owner.file().await;
    }
    let mut order = String::new();
    for want in [1, 1, 2, 1] {
        order += &whose(&owner.claim(want).await);
    }
    assert_eq!(order, "xabaz", "the second of a comes behind the first of b, and before the bulk job of z");
}

#[tokio::test]
async fn what_a_task_really_took_is_charged_in_the_end() {
    let mut stage = Stage::new(&["q"]).await;
    let mut owner = with_lanes(&mut stage, "o", &[("a", 9)]).await;
    let start = virtual_time(&mut stage, "t:a").await;
    let charged = async |stage: &mut Stage| (virtual_time(stage, "t:a").await - start).round();
    let first = owner.claim(1).await;
    assert_eq!(charged(&mut stage).await, 10.0, "expected, as nothing is known");
    owner.settle(&[ran(&first[0], 100.0)]).await;
    assert_eq!(charged(&mut stage).await, 100.0);
    let second = owner.claim(1).await;
    assert_eq!(charged(&mut stage).await, 200.0, "expected of the second");
    owner.settle(&[ran(&second[0], 20.0)]).await;
    assert_eq!(charged(&mut stage).await, 120.0);
    let third = owner.claim(1).await;
    assert_eq!(charged(&mut stage).await, 200.0, "the average has moved by a quarter, to 80");
    owner.settle(&[Settlement { ran: None, ..ack(&third[0]) }]).await;
    assert_eq!(charged(&mut stage).await, 200.0, "nothing better is known");
    let fourth = owner.claim(1).await.remove(0);
    assert_eq!(charged(&mut stage).await, 280.0);
    owner.settle(&[Settlement { ran: Some(0.0), ..front(fourth) }]).await;
    assert_eq!(charged(&mut stage).await, 200.0, "it did not run");
    let tenant = stage.census().await.tenants().remove("t:a").unwrap();
    assert_eq!((&tenant["c"], &tenant["n"], &tenant["r"]), (&80.0.into(), &6.into(), &0.into()));
}

/// What was claimed unseen is charged only when it ends, if its tenant is known by then.
#[tokio::test]
async fn what_was_claimed_unseen_is_charged_too() {
    let mut stage = Stage::new(&["q"]).await;
    stage.push("q", &messages("a", 1)).await;
    let mut owner = stage.owner("o").await;
    let unseen = owner.claim(1).await;
    assert_eq!(unseen[0].flow, None);
    stage.push("q", &messages("a", 3)).await;
    stage.push("q", &messages("b", 3)).await;
    owner.file().await;
    owner.settle(&[ran(&unseen[0], 250.0)]).await;
    assert_eq!(whose(&owner.claim(4).await), "bbba");
}

#[tokio::test]
async fn a_limit_holds_over_all_owners_and_is_released() {
    let mut stage = Stage::new(&["q"]).await;
    let (mut one, mut two) = (stage.owner("one").await, stage.owner("two").await);
    one.grant(&[("a", 1.0, 2)]);
    two.grant(&[("a", 1.0, 2)]);
    let all = messages("a", 9);
    stage.push("q", &all).await;
    one.file().await;
    let first = one.claim(1).await;
    let second = two.claim(5).await;
    assert_eq!(raws(&second), all[1..2], "one of the two is another owner's");
    assert!(one.claim(5).await.is_empty() && two.claim(5).await.is_empty());
    let census = stage.census().await;
    census.assert_one_place(&all);
    assert!(census.ready().is_empty(), "it waits and may not run");
    // Others are not held up.
    stage.push("q", &messages("b", 3)).await;
    one.file().await;
    assert_eq!(whose(&two.claim(9).await), "bbb");
    // Released by a settlement, and by the recovery of a dead owner.
    assert_eq!(raws(&two.step(5, &[ack(&second[0])]).await.claims), all[2..3]);
    stage.expire("one").await;
    let seized = two.seize("one").await;
    assert_eq!(seized, first);
    assert!(two.claim(5).await.is_empty(), "it is not known yet to have ended");
    two.give_back("one", seized).await;
    assert_eq!(raws(&two.claim(5).await), all[..1]);
    stage.census().await.places();
}

/// A limit that is lifted, or comes later, counts from the next filing or settlement on.
#[tokio::test]
async fn the_latest_grant_counts() {
    let mut stage = Stage::new(&["q"]).await;
    let mut owner = with_lanes(&mut stage, "o", &[("a", 2)]).await;
    owner.grant(&[("a", 3.0, 1)]);
    stage.push("q", &messages("a", 2)).await;
    owner.file().await;
    let tenant = stage.census().await.tenants().remove("t:a").unwrap();
    assert_eq!((&tenant["w"], &tenant["m"]), (&3.0.into(), &1.into()));
    assert_eq!(owner.claim(4).await.len(), 1);
    owner.grant(&[]);
    stage.push("q", &messages("a", 1)).await;
    owner.file().await;
    assert_eq!(owner.claim(9).await.len(), 4);
}

#[tokio::test]
async fn who_neither_waits_nor_runs_leaves_nothing_behind() {
    let mut stage = Stage::new(&["q", "r"]).await;
    let mut owner = with_lanes(&mut stage, "o", &[("a", 4), ("b", 4)]).await;
    stage.push_to("r\x06\x163", &messages("a", 4)).await;
    let claims = owner.claim(12).await;
    assert_eq!(claims.len(), 12);
    owner.settle(&claims.iter().map(ack).collect::<Vec<_>>()).await;
    let mut left: Vec<String> = stage.ask(&["KEYS", "*"]).await;
    left.sort();
    // The hash of the claims has the lease.
    let keys = stage.keys.clone();
    let mut expected =
        ["fairstalk:claims:o".to_owned(), keys.owners(), keys.figures(), keys.of_fleet("slots"), keys.tenants()];
    expected.sort();
    assert_eq!(left, expected);
    let mut counters: Vec<(String, String)> = stage.ask(&["HGETALL", &keys.tenants()]).await;
    counters.sort();
    let expected = [
        ("epoch", "0"),
        ("floor", "0"),
        ("holding", "0"),
        ("number", "12"),
        ("paused", "0"),
        ("throttled", "0"),
        ("waiting", "0"),
    ];
    assert_eq!(counters, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[tokio::test]
async fn the_queues_of_a_tenant_take_turns() {
    let mut stage = Stage::new(&["q", "r"]).await;
    stage.push("r", &messages("u", 3)).await;
    let mut owner = with_lanes(&mut stage, "o", &[("u", 3)]).await;
    let mut lists = String::new();
    let mut claims: Vec<Claim> = Vec::new();
    for _ in 0..6 {
        claims.extend(owner.claim(1).await);
        lists += &claims.last().unwrap().list;
    }
    assert!(lists == "qrqrqr" || lists == "rqrqrq", "{lists}");
    for queue in ["q", "r"] {
        let of_queue: Vec<Claim> = claims.iter().filter(|claim| &*claim.list == queue).cloned().collect();
        assert_eq!(raws(&of_queue), messages("u", 3), "each in its order");
    }
    // All of it is one tenant: it gets one share.
    stage.push("q", &messages("v", 6)).await;
    stage.push("q", &messages("u", 6)).await;
    stage.push("r", &messages("u", 6)).await;
    owner.file().await;
    let order = whose(&owner.claim(6).await);
    assert!(order.matches('v').count() >= 3, "{order}");
}

#[tokio::test]
async fn a_tenants_urgent_messages_go_first() {
    let mut stage = Stage::new(&["q"]).await;
    for suffix in ["\x06\x169", "\x06\x166", "\x06\x163"] {
        stage.push_to(&format!("q{suffix}"), &messages("u", 2)).await;
    }
    let mut owner = with_lanes(&mut stage, "o", &[("u", 2)]).await;
    let mut lists = Vec::new();
    for want in [1, 3, 2, 2] {
        lists.extend(owner.claim(want).await.into_iter().map(|claim| claim.list.to_string()));
    }
    assert_eq!(lists, ["q", "q", "q\x06\x163", "q\x06\x163", "q\x06\x166", "q\x06\x166", "q\x06\x169", "q\x06\x169"]);
}

#[tokio::test]
async fn what_is_due_goes_before_what_is_new_of_the_same_priority() {
    let mut stage = Stage::new(&["q"]).await;
    let lines = ["q", "q\x06\x163"];
    let mut owner = with_lanes(&mut stage, "o", &[("u", 1)]).await;
    stage.push_to(lines[1], &messages("u", 2)[1..]).await;
    owner.file().await;
    let claims = owner.claim(2).await;
    stage.push_to(lines[0], &[r#"{"id": "u-new"}"#]).await;
    stage.push_to(lines[1], &[r#"{"id": "u-less"}"#]).await;
    owner.file().await;
    let due = stage.now().await - 1;
    let delay = |claim: &Claim| settled(claim, Action::Delay { message: claim.raw.clone(), due });
    owner.settle(&claims.iter().map(delay).collect::<Vec<_>>()).await;
    let ids = ["u-0", "u-new", "u-1", "u-less"].map(|id| format!(r#"{{"id": "{id}"}}"#).into_bytes());
    assert_eq!(raws(&owner.claim(4).await), ids);
}
