//! From a list into lanes: looked at by one owner, filed by its next step, if nobody has meddled.

use crate::stage::{Owner, Stage, ack, flow_of, front, messages, raws, settled};
use fairstalk::broker::{Action, Filing, Looked, Room, Rung, StepReply};
use std::time::Duration;

/// A look without a claim.
async fn look(owner: &mut Owner) -> StepReply {
    owner.one_step(0, &[], &[]).await.unwrap().unwrap()
}

fn filings(owner: &Owner, reply: StepReply) -> Vec<Filing> {
    reply.looked.into_iter().filter_map(|looked| owner.filing(looked)).collect()
}

/// How many messages each of the lists shows that a look finds.
fn seen(reply: &StepReply) -> Vec<(&str, usize)> {
    reply.looked.iter().map(|looked| (&*looked.list, looked.messages.len())).collect()
}

#[tokio::test]
async fn a_look_moves_nothing() {
    let mut stage = Stage::new(&["a", "b"]).await;
    let all = messages("m", 3);
    stage.push("a", &all).await;
    stage.push_to("b\x06\x163", &messages("n", 1)).await;
    let before = stage.census().await.lists;
    let mut owner = stage.owner("o").await;
    for large in [false, true, false] {
        owner.large = large;
        let reply = look(&mut owner).await;
        assert_eq!(seen(&reply), [("a", 3), ("b\x06\x163", 1)], "shown by the script, or beside it");
        assert_eq!((&reply.looked[0].messages, reply.turn), (&all, None), "one's own turn keeps nobody out");
    }
    assert_eq!(stage.census().await.lists, before);
}

/// In the same order as if it looked at all of them: the more urgent step first, then by queue from the cursor on.
#[tokio::test]
async fn only_what_has_rung_is_looked_at() {
    let mut stage = Stage::new(&["a", "b", "c"]).await;
    for (list, name) in [("a", "m"), ("b", "n"), ("c", "o"), ("a\x06\x163", "p"), ("c\x06\x169", "q")] {
        stage.push_to(list, &messages(name, 1)).await;
    }
    let mut owner = stage.owner("o").await;
    owner.cursor = 1;
    owner.rung = Rung::Lists(["a\x06\x163", "a", "c", "fairstalk", "b\x06\x166"].map(str::to_owned).to_vec());
    let reply = look(&mut owner).await;
    assert_eq!(seen(&reply), [("c", 1), ("a", 1), ("a\x06\x163", 1)]);
    owner.rung = Rung::default();
    assert!(look(&mut owner).await.looked.is_empty());
    owner.rung = Rung::Everywhere;
    assert_eq!(look(&mut owner).await.looked.len(), 5);
}

#[tokio::test]
async fn only_one_looks_at_a_list_until_it_has_filed() {
    let mut stage = Stage::new(&["a", "b"]).await;
    stage.push("a", &messages("m", 3)).await;
    let (mut one, mut two) = (stage.owner("one").await, stage.owner("two").await);
    let first = look(&mut one).await;
    stage.push("b", &messages("m", 1)).await;
    let reply = look(&mut two).await;
    assert_eq!(seen(&reply), [("b", 1)], "another list is free");
    assert!(reply.turn.is_some_and(|turn| (1..=1000).contains(&turn)), "{:?}", reply.turn);
    // Neither does it claim there: what was seen has to be in order.
    assert_eq!(two.one_step(5, &[], &[]).await.unwrap().unwrap().claims.len(), 1);
    one.one_step(0, &[], &filings(&one, first)).await.unwrap();
    stage.push("a", &messages("n", 2)).await;
    let reply = look(&mut two).await;
    assert_eq!((seen(&reply), reply.turn), (vec![("a", 2)], None));
}

/// Else one free slot would go on taking one message from before what is to be filed, and none would ever be filed.
#[tokio::test]
async fn nothing_is_claimed_from_before_what_is_at_hand() {
    let mut stage = Stage::new(&["a", "b"]).await;
    stage.push("a", &messages("m", 3)).await;
    stage.push("b", &messages("n", 1)).await;
    let mut owner = stage.owner("o").await;
    owner.at_hand = vec![("a".into(), 3)];
    let reply = owner.one_step(5, &[], &[]).await.unwrap().unwrap();
    assert_eq!(raws(&reply.claims), messages("n", 1), "another list is open");
    owner.at_hand.clear();
    assert_eq!(owner.one_step(5, &[], &[]).await.unwrap().unwrap().claims.len(), 3);
}

#[tokio::test]
async fn a_turn_ends_by_itself() {
    let mut stage = Stage::new(&["a"]).await;
    let all = messages("m", 3);
    stage.push("a", &all).await;
    let (mut one, mut two) = (stage.owner("one").await, stage.owner("two").await);
    let late = look(&mut one).await;
    let mut reply = look(&mut two).await;
    while let Some(turn) = reply.turn {
        assert!(reply.looked.is_empty());
        tokio::time::sleep(Duration::from_millis(turn)).await;
        reply = look(&mut two).await;
    }
    assert_eq!(seen(&reply), [("a", 3)]);
    // The first was only slow: both file, and it happens once.
    one.one_step(0, &[], &filings(&one, late)).await.unwrap();
    stage.push("a", &messages("n", 2)).await;
    two.one_step(0, &[], &filings(&two, reply)).await.unwrap();
    let mut born = all.clone();
    born.extend(messages("n", 2));
    let census = stage.census().await;
    census.assert_one_place(&born);
    assert_eq!((census.waiting("a", "t:m"), census.list("a")), (all, messages("n", 2)));
}

#[tokio::test]
async fn what_a_stock_worker_does_meanwhile_makes_a_filing_do_nothing() {
    let meddling: [&[&str]; 4] =
        [&["BRPOP", "q", "1"], &["RPUSH", "q", r#"{"id": "restored-0"}"#], &["RPOP", "q", "5"], &["DEL", "q"]];
    for command in meddling {
        let mut stage = Stage::new(&["q"]).await;
        stage.push("q", &messages("a", 3)).await;
        stage.push("q", &messages("b", 2)).await;
        let mut owner = stage.owner("o").await;
        let looked = look(&mut owner).await;
        let _: redis::Value = stage.ask(command).await;
        let left = stage.census().await.list("q");
        let reply = owner.one_step(0, &[], &filings(&owner, looked)).await.unwrap().unwrap();
        let census = stage.census().await;
        assert_eq!(census.list("q"), left, "nothing was filed after {command:?}");
        assert!(census.tenants().is_empty());
        census.assert_one_place(&left);
        // The same step has looked again, and now it works.
        owner.one_step(0, &[], &filings(&owner, reply)).await.unwrap();
        let census = stage.census().await;
        assert_eq!(census.all_waiting(), left.len());
        assert!(census.list("q").is_empty());
        census.assert_one_place(&left);
    }
}

/// What is at hand lies behind what could not be filed: it would never come to the front, and nor would what is shown
/// behind it.
#[tokio::test]
async fn after_a_filing_that_was_not_made_all_is_looked_at_from_the_front() {
    let mut stage = Stage::new(&["q"]).await;
    let all = messages("a", 9);
    stage.push("q", &all[..4]).await;
    let mut owner = stage.owner("o").await;
    let first = look(&mut owner).await;
    stage.push("q", &all[4..]).await;
    let _: redis::Value = stage.ask(&["RPOP", "q"]).await;
    owner.at_hand = vec![("q".into(), 2)];
    let reply = owner.one_step(0, &[], &filings(&owner, first)).await.unwrap().unwrap();
    assert_eq!((&reply.refused[..], &reply.looked[0].messages[..]), (&["q".to_owned()][..], &all[1..]));
    owner.at_hand.clear();
    let reply = owner.one_step(0, &[], &filings(&owner, reply)).await.unwrap().unwrap();
    assert!(reply.refused.is_empty());
    assert_eq!(stage.census().await.waiting("q", "t:a"), all[1..]);
}

/// Who was too slow takes nobody's turn away.
#[tokio::test]
async fn a_filing_that_was_not_made_leaves_the_turn_to_whose_it_is() {
    let mut stage = Stage::new(&["q"]).await;
    stage.push("q", &messages("a", 3)).await;
    let (mut one, mut two, mut three) =
        (stage.owner("one").await, stage.owner("two").await, stage.owner("three").await);
    let late = look(&mut one).await;
    let _: i64 = stage.ask(&["DEL", "fairstalk:intake"]).await; // its turn is over
    assert_eq!(seen(&look(&mut two).await), [("q", 3)]);
    let _: redis::Value = stage.ask(&["RPOP", "q"]).await;
    let reply = one.one_step(0, &[], &filings(&one, late)).await.unwrap().unwrap();
    assert_eq!((reply.refused.len(), reply.looked.len()), (1, 0));
    assert!(look(&mut three).await.looked.is_empty(), "the second one is looking");
}

/// What comes to the other end is no reason to begin again.
#[tokio::test]
async fn a_producer_meanwhile_hinders_nothing() {
    let mut stage = Stage::new(&["q"]).await;
    let all = messages("a", 5);
    stage.push("q", &all[..3]).await;
    let mut owner = stage.owner("o").await;
    let looked = look(&mut owner).await;
    stage.push("q", &all[3..]).await;
    let reply = owner.one_step(0, &[], &filings(&owner, looked)).await.unwrap().unwrap();
    assert_eq!(seen(&reply), [("q", 2)]);
    assert_eq!(stage.census().await.waiting("q", "t:a"), all);
}

/// A stock worker that has taken messages from the far end of what was seen, or whose message looks like another.
#[tokio::test]
async fn both_ends_of_what_was_seen_are_compared() {
    let mut stage = Stage::new(&["q"]).await;
    let all = messages("a", 4);
    stage.push("q", &all).await;
    let mut owner = stage.owner("o").await;
    let looked = look(&mut owner).await;
    let _: i64 = stage.ask(&["LREM", "q", "1", r#"{"id": "a-1"}"#]).await;
    owner.one_step(0, &[], &filings(&owner, looked)).await.unwrap();
    assert_eq!(stage.census().await.list("q").len(), 3);
    assert!(stage.census().await.tenants().is_empty());
}

#[tokio::test]
async fn filing_twice_is_harmless() {
    let mut stage = Stage::new(&["q"]).await;
    let all = messages("a", 4);
    stage.push("q", &all).await;
    let mut owner = stage.owner("o").await;
    let looked = look(&mut owner).await;
    let filings = filings(&owner, looked);
    for _ in 0..2 {
        owner.one_step(0, &[], &filings).await.unwrap();
        let census = stage.census().await;
        census.assert_one_place(&all);
        assert_eq!(census.waiting("q", "t:a"), all);
        stage.push("q", &messages("b", 1)).await;
        let _: i64 = stage.ask(&["DEL", "q"]).await;
    }
}

#[tokio::test]
async fn tenants_may_have_any_name() {
    let names =
        ["floor", "waiting", "a:b:c", "über ü€", "%s%d%z", "\\\"x\\\"", "x y", "{1}", "[]", "*", "'", "a.b", "q"];
    let mut stage = Stage::with_prefix("p%-:", &["q", "r%s"]).await;
    let all: Vec<Vec<u8>> = names.iter().flat_map(|name| messages(name, 4)).collect();
    for (at, message) in all.iter().enumerate() {
        stage.push(["q", "r%s"][at % 2], &[message]).await;
    }
    let mut owner = stage.owner("o").await;
    owner.file().await;
    let census = stage.census().await;
    census.assert_one_place(&all);
    assert_eq!(census.tenants().len(), names.len());
    let claims = owner.claim(2 * names.len()).await;
    let flows: std::collections::BTreeSet<_> = claims.iter().filter_map(|claim| claim.flow.clone()).collect();
    assert_eq!(flows.len(), names.len(), "each was served");
    assert_eq!(owner.held().await, claims);
    let now = stage.now().await;
    let settlements = claims.into_iter().rev().enumerate().map(|(at, claim)| match at % 3 {
        0 => front(claim),
        1 => settled(&claim, Action::Delay { message: claim.raw.clone(), due: now }),
        _ => settled(&claim, Action::Back(claim.raw.clone())),
    });
    owner.settle(&settlements.collect::<Vec<_>>()).await;
    stage.census().await.assert_one_place(&all);
    let claims = owner.claim(all.len()).await;
    let mut other = stage.owner("other").await;
    let seized = other.seize("o").await;
    assert_eq!(raws(&seized), raws(&claims));
    other.give_back("o", seized).await;
    stage.census().await.assert_one_place(&all);
    let claims = other.claim(3).await;
    other.settle(&claims.iter().map(ack).collect::<Vec<_>>()).await;
    assert!(other.seize("o").await.is_empty());
    other.leave().await;
    let census = stage.census().await;
    assert_eq!(census.lists.keys().collect::<Vec<_>>(), ["p%-:q", "p%-:r%s"]);
    assert_eq!(census.all_waiting(), all.len() - 3);
}

/// While one part is filed, the next is read and the one after it shown.
#[tokio::test]
async fn a_look_goes_on_behind_what_is_at_hand() {
    let mut stage = Stage::new(&["q"]).await;
    let mut owner = stage.owner("o").await;
    let all: Vec<_> = messages("u", 520);
    stage.push("q", &all).await;
    owner.unseen = false;
    let seen = |reply: StepReply| reply.looked.into_iter().map(|looked| looked.messages).collect::<Vec<_>>();
    let mut next = owner.one_step(0, &[], &[]).await.unwrap().unwrap();
    assert_eq!(next.looked[0].messages, all[..200]);
    let first = owner.filing(next.looked.remove(0)).unwrap();
    owner.at_hand = vec![("q".into(), 200)];
    let mut next = owner.one_step(0, &[], &[]).await.unwrap().unwrap();
    assert_eq!(next.looked[0].messages, all[200..400]);
    let second = owner.filing(next.looked.remove(0)).unwrap();
    // What is behind can't be filed before what is in front of it.
    owner.at_hand.clear();
    let again = owner.one_step(0, &[], std::slice::from_ref(&second)).await.unwrap().unwrap();
    assert_eq!(seen(again), [all[..200].to_vec()]);
    owner.at_hand = vec![("q".into(), 200)];
    let third = owner.one_step(0, &[], &[first]).await.unwrap().unwrap();
    assert_eq!(seen(third), [all[400..].to_vec()]);
    owner.at_hand = vec![("q".into(), 120)];
    let end = owner.one_step(0, &[], &[second]).await.unwrap().unwrap();
    assert!(end.looked.is_empty(), "there is nothing behind the last ones");
    // All that time nobody else looks.
    let mut other = stage.owner("other").await;
    assert!(seen(other.one_step(0, &[], &[]).await.unwrap().unwrap()).is_empty());
    owner.at_hand.clear();
    let mut claimed = Vec::new();
    while claimed.len() < all.len() {
        let claims = owner.claim(64).await;
        owner.settle(&claims.iter().map(ack).collect::<Vec<_>>()).await;
        claimed.extend(raws(&claims));
    }
    assert_eq!(claimed, all);
    stage.census().await.places();
}

#[test]
fn what_one_filing_should_not_touch_comes_back_unread() {
    let looked = |messages: Vec<Vec<u8>>| Looked { list: "q".into(), messages };
    let split = |messages: &[Vec<u8>]| {
        let mut read = 0;
        let kind = |list: &str, message: Vec<u8>| {
            read += 1;
            flow_of(list, &message)
        };
        let (_, rest) = Filing::new(looked(messages.to_vec()), &mut Room::default(), kind);
        (read, rest.messages)
    };
    let many: Vec<_> = (0..150).flat_map(|user| messages(&format!("u{user}"), 1)).collect();
    assert_eq!(split(&many), (25, many[24..].to_vec()), "24 kinds");
    let bulk = messages("u", 700);
    assert_eq!(split(&bulk), (200, bulk[200..].to_vec()));
    assert_eq!(split(&bulk[..200]), (200, Vec::new()));
    // The room is that of all lists of a step.
    let mut room = Room::default();
    let kind = |list: &str, message: Vec<u8>| flow_of(list, &message);
    let mut left = |messages: &[Vec<u8>]| Filing::new(looked(messages.to_vec()), &mut room, kind).1.messages.len();
    assert_eq!([left(&many[..20]), left(&many[..20]), left(&many[..20])], [0, 16, 20]);
    assert!(Filing::new(looked(Vec::new()), &mut Room::default(), kind).0.is_none());
}
