//! What an idle worker picks up with a script of its own: the same as with a step, and only where nothing else is to be
//! thought of.

use crate::stage::{Owner, Stage, ack, messages, raws};
use fairstalk::broker::pause::set_paused;
use fairstalk::broker::pickup::{PickUp, Picked, Picker};
use fairstalk::broker::{Claim, StepReply};

pub async fn pick(stage: &mut Stage, owner: &Owner, sequence: u64, slots: usize, list: &str) -> Picked {
    let wanted = PickUp { owner: &owner.name, connection: owner.number, sequence, slots, list };
    let keys = stage.keys.clone();
    Picker::default().call(&mut stage.admin, &keys, &wanted).await.unwrap()
}

fn done(picked: Picked) -> StepReply {
    match picked {
        Picked::Done(reply) => *reply,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_message_that_is_picked_up_is_claimed_as_by_a_step() {
    for prefix in ["", "p:"] {
        let mut records = Vec::new();
        for picks in [true, false] {
            let queue = "a \"strange\\ name";
            let mut stage = Stage::with_prefix(prefix, &["q", queue]).await;
            let (mut owner, all) = (stage.owner("o").await, messages("m", 3));
            stage.push(queue, &all).await;
            let list = stage.keys.list(queue);
            let claims: Vec<Claim> = if picks {
                let reply = done(pick(&mut stage, &owner, 1, 2, &list).await);
                assert_eq!((reply.behind, reply.cursor, reply.next_due, reply.lost.len()), (1, 0, None, 0));
                reply.claims
            } else {
                owner.claim(2).await
            };
            assert_eq!(raws(&claims), all[..2]);
            let census = stage.census().await;
            census.assert_one_place(&all);
            assert_eq!(census.index().len(), 2);
            let mut noted: Vec<Vec<u8>> = stage.ask(&["HVALS", &stage.keys.claims("o")]).await;
            noted.sort();
            records.push((claims, census.unacked(), noted));
            if picks {
                let rest = done(pick(&mut stage, &owner, 3, 2, &list).await);
                assert_eq!((raws(&rest.claims), rest.claims[0].number, rest.behind), (all[2..].to_vec(), 3, 0));
                let none = done(pick(&mut stage, &owner, 4, 2, &list).await);
                assert_eq!((none.claims.len(), none.behind), (0, 0));
                let claims: Vec<_> = records[0].0.iter().chain(&rest.claims).map(ack).collect();
                assert_eq!(owner.settle(&claims).await, [0; 0]);
                assert!(stage.census().await.unacked().is_empty());
            }
        }
        assert_eq!(records[0], records[1], "picked up, and claimed by a step");
    }
}

#[tokio::test]
async fn whatever_is_more_than_that_is_left_for_a_step() {
    let mut stage = Stage::new(&["q", "r"]).await;
    let (mut owner, all) = (stage.owner("o").await, messages("m", 4));
    let keys = stage.keys.clone();
    // Somebody waits in a lane.
    stage.push("q", &all[..1]).await;
    owner.file().await;
    stage.push("q", &all[1..2]).await;
    assert_eq!(pick(&mut stage, &owner, 9, 2, "q").await, Picked::Refused);
    assert_eq!(raws(&owner.claim(9).await), all[..2]);
    // Another looks at the list.
    let mut other = stage.owner("other").await;
    stage.push("q", &all[2..3]).await;
    let looked = other.one_step(0, &[], &[]).await.unwrap().unwrap().looked;
    assert_eq!(looked.len(), 1);
    assert_eq!(pick(&mut stage, &owner, 9, 2, "q").await, Picked::Refused);
    let _: i64 = stage.ask(&["DEL", &keys.intake()]).await;
    // A queue is paused, or a tenant.
    let queues = ["r".to_owned()];
    set_paused(&mut stage.admin, &keys, &[], &queues, true).await.unwrap();
    assert_eq!(pick(&mut stage, &owner, 9, 2, "q").await, Picked::Refused);
    set_paused(&mut stage.admin, &keys, &[], &queues, false).await.unwrap();
    let tenants = ["t:nobody".to_owned()];
    set_paused(&mut stage.admin, &keys, &tenants, &[], true).await.unwrap();
    assert_eq!(pick(&mut stage, &owner, 9, 2, "q").await, Picked::Refused);
    set_paused(&mut stage.admin, &keys, &tenants, &[], false).await.unwrap();
    assert_eq!(raws(&done(pick(&mut stage, &owner, 9, 2, "q").await).claims), all[2..3]);
}

#[tokio::test]
async fn who_has_no_lease_picks_nothing_up() {
    let mut stage = Stage::new(&["q"]).await;
    let (mut owner, stranger) = (stage.owner("o").await, stage.stranger("s").await);
    let all = messages("m", 1);
    stage.push("q", &all).await;
    assert_eq!(pick(&mut stage, &stranger, 1, 2, "q").await, Picked::LeaseLost);
    owner.number = 2; // of an earlier connection, so to say
    assert_eq!(pick(&mut stage, &owner, 1, 2, "q").await, Picked::LeaseLost);
    stage.census().await.assert_one_place(&all);
    assert_eq!(stage.census().await.list("q"), all);
}
