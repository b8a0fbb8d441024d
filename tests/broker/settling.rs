//! What becomes of a claim: every kind of settlement moves it to one place.

use crate::stage::{Stage, ack, front, messages, raws, settled};
use fairstalk::broker::{Action, Claim, Settlement};

/// Settlements of every kind, in turn.
fn of_every_kind(claims: &[Claim], due: i64) -> Vec<Settlement> {
    let kinds = |claim: &Claim| {
        let message = claim.raw.clone();
        match claim.sequence % 6 {
            0 => Action::Ack,
            1 => Action::Front(message),
            2 => Action::Back(message),
            3 => Action::Delay { message, due },
            4 => Action::Dead { message, entry: format!(r#"{{"of": {}}}"#, claim.sequence) },
            _ => Action::Store,
        }
    };
    claims.iter().map(|claim| settled(claim, kinds(claim))).collect()
}

#[tokio::test]
async fn every_settlement_moves_its_message_to_one_place() {
    let mut stage = Stage::new(&["q"]).await;
    let all = messages("m", 6);
    stage.push("q", &all).await;
    let mut owner = stage.owner("a").await;
    let claims = owner.claim(6).await;
    let due = stage.now().await + 60_000;
    for (at, settlement) in of_every_kind(&claims, due).iter().enumerate() {
        assert!(owner.settle(std::slice::from_ref(settlement)).await.is_empty());
        stage.census().await.assert_one_place(if at < 5 { &all } else { &all[..5] });
    }
    let census = stage.census().await;
    assert_eq!(census.waiting("q", "t:m"), all[..2], "front, then back");
    assert_eq!(census.delayed()["a:3"], due as f64);
    assert_eq!(census.dead()["a:4"], all[3]);
    assert_eq!(census.dead_entries()["a:4"], br#"{"of": 4}"#);
    assert_eq!(census.held().into_keys().collect::<Vec<_>>(), ["a:5"], "only results were stored: it is still held");
}

#[tokio::test]
async fn settlements_of_every_kind_go_in_one_step() {
    let mut stage = Stage::new(&["a", "b"]).await;
    let all = messages("m", 120);
    stage.push("a", &all[..60]).await;
    stage.push("b", &all[60..]).await;
    let mut owner = stage.owner("o").await;
    let claims = owner.claim(120).await;
    let due = stage.now().await + 60_000;
    let acked: Vec<_> = claims.iter().filter(|claim| claim.sequence % 6 == 0).map(|claim| claim.raw.clone()).collect();
    assert!(owner.settle(&of_every_kind(&claims, due)).await.is_empty());
    let left: Vec<_> = all.iter().filter(|message| !acked.contains(message)).collect();
    stage.census().await.assert_one_place(&left);
}

#[tokio::test]
async fn a_settlement_sent_twice_is_harmless() {
    let mut stage = Stage::new(&["q"]).await;
    let all = messages("m", 6);
    stage.push("q", &all).await;
    let mut owner = stage.owner("a").await;
    let claims = owner.claim(6).await;
    let due = stage.now().await + 60_000;
    let settlements = of_every_kind(&claims, due);
    assert!(owner.settle(&settlements).await.is_empty());
    let before = stage.census().await.places();
    // As after a connection that broke before the answer came: all but the one that is still held are lost.
    assert_eq!(owner.settle(&settlements).await, [1, 2, 3, 4, 6]);
    assert_eq!(stage.census().await.places(), before);
    // In one and the same step too.
    let claim = owner.claim(1).await.remove(0);
    let twice = [front(claim.clone()), front(claim)];
    assert_eq!(owner.settle(&twice).await, [7]);
    assert_eq!(stage.census().await.places(), before);
}

#[tokio::test]
async fn claims_and_settlements_of_one_step_do_not_meet() {
    let mut stage = Stage::new(&["q"]).await;
    let all = messages("m", 50);
    stage.push("q", &all).await;
    let mut owner = stage.owner("a").await;
    let (mut held, mut seen) = (Vec::new(), Vec::new());
    loop {
        let settlements: Vec<_> = held.iter().map(ack).collect();
        let reply = owner.step(4, &settlements).await;
        assert!(reply.lost.is_empty());
        held = reply.claims;
        if held.is_empty() {
            break;
        }
        seen.extend(raws(&held));
        stage.census().await.assert_one_place(&all[seen.len() - held.len()..]);
    }
    assert_eq!(seen, all);
}

/// All the places and back again, for messages that are no text or very long.
async fn round_trip(all: &[Vec<u8>]) {
    let mut stage = Stage::new(&["q", "mail"]).await;
    stage.push("q", all).await;
    let mut owner = stage.owner("a").await;
    let mut claims = owner.claim(all.len()).await;
    for round in 0..3 {
        assert_eq!(raws(&claims), all, "round {round}");
        stage.census().await.assert_one_place(all);
        let now = stage.now().await;
        let moved = claims.iter().rev().map(|claim| {
            let message = claim.raw.clone();
            settled(claim, if round == 0 { Action::Front(message) } else { Action::Delay { message, due: now } })
        });
        let mut moved: Vec<_> = moved.collect();
        if round == 2 {
            moved.iter_mut().zip(claims.iter().rev()).for_each(|(settlement, claim)| {
                settlement.action = Action::Back(claim.raw.clone());
            });
            moved.reverse();
        }
        owner.settle(&moved).await;
        stage.census().await.assert_one_place(all);
        claims = owner.claim(all.len()).await;
        claims.sort_by_key(|claim| all.iter().position(|message| *message == claim.raw));
    }
    // Read back from `unacked`, by the owner itself and by another.
    let held = owner.held().await;
    let mut other = stage.owner("b").await;
    let seized = other.seize("a").await;
    assert_eq!(held, seized);
    let mut found = raws(&seized);
    found.sort_by_key(|raw| all.iter().position(|message| message == raw));
    assert_eq!(found, all);
    other.give_back("a", seized).await;
    let dead: Vec<_> = other.claim(all.len()).await;
    let buried: Vec<_> = dead
        .iter()
        .map(|claim| settled(claim, Action::Dead { message: claim.raw.clone(), entry: "{}".into() }))
        .collect();
    other.settle(&buried).await;
    let census = stage.census().await;
    census.assert_one_place(all);
    assert_eq!(census.dead().len(), all.len());
}

#[tokio::test]
async fn what_is_no_text_survives_every_move() {
    let every_byte: Vec<u8> = (0..=255).collect();
    let tails = [&b"\xff\xfe\0\x80"[..], b"", b"\0", b", \"\", \"q\"]", b"\r\n$5\r\n", &every_byte];
    round_trip(&tails.map(<[u8]>::to_vec)).await;
}

#[tokio::test]
async fn what_is_long_survives_every_move() {
    let long = |letter: &str| format!(r#"{{"body": "{}"}}"#, letter.repeat(200 * 1024)).into_bytes();
    round_trip(&["x", "é", "\\\\"].map(long)).await;
}
