//! Idle workers are told, and not by themselves.

use crate::stage::{Owner, Stage, ack, messages, settled};
use fairstalk::broker::Action;
use std::time::Duration;

/// Whether it rang. Whatever an earlier exchange of the same connection caused comes before its answer, so a
/// round trip is all the waiting that silence needs.
async fn rang(owner: &mut Owner) -> bool {
    for _ in 0..3 {
        owner.connection.query::<()>(&redis::cmd("PING")).await.unwrap();
        tokio::task::yield_now().await;
    }
    tokio::time::timeout(Duration::from_millis(20), owner.connection.wake.rung()).await.is_ok()
}

async fn watching(stage: &Stage, name: &str) -> Owner {
    let mut owner = stage.owner(name).await;
    owner.connection.watch(&stage.keys).await.unwrap();
    rang(&mut owner).await;
    owner
}

#[tokio::test]
async fn a_push_rings_and_own_commands_do_not() {
    let mut stage = Stage::new(&["q", "mail"]).await;
    let mut owner = watching(&stage, "a").await;
    assert!(!rang(&mut owner).await);
    stage.push("q", &messages("m", 1)).await;
    assert!(rang(&mut owner).await);
    assert!(!rang(&mut owner).await, "once for each push");
    // Its own commands.
    owner.connection.query::<()>(redis::cmd("LPUSH").arg("q").arg("own")).await.unwrap();
    assert!(!rang(&mut owner).await);
    // Its own steps may ring once (NOLOOP does not know the changes of a script), but only if a list has changed:
    // looks in vain, acks and beats end the ringing.
    let claims = owner.claim(2).await;
    rang(&mut owner).await;
    assert!(owner.claim(2).await.is_empty());
    assert!(!rang(&mut owner).await);
    owner.settle(&[ack(&claims[0]), ack(&claims[1])]).await;
    owner.beat(false).await;
    assert!(!rang(&mut owner).await);
    // Any priority of any queue; nothing but queues.
    stage.push_to("mail\x06\x169", &messages("n", 1)).await;
    assert!(rang(&mut owner).await);
    stage.push_to("other", &messages("o", 1)).await;
    let mut other = stage.owner("b").await;
    other.beat(false).await;
    assert!(!rang(&mut owner).await);
    assert!(!owner.connection.wake.connection_lost());
}

#[tokio::test]
async fn what_another_puts_back_rings_too() {
    let mut stage = Stage::with_prefix("p:", &["q"]).await;
    stage.push("q", &messages("m", 2)).await;
    let mut other = stage.owner("b").await;
    let claims = other.claim(2).await;
    let soon = stage.now().await;
    let mut owner = watching(&stage, "a").await;
    other.settle(&[settled(&claims[0], Action::Front(claims[0].raw.clone()))]).await;
    assert!(rang(&mut owner).await);
    other.settle(&[settled(&claims[1], Action::Delay { message: claims[1].raw.clone(), due: soon })]).await;
    assert!(rang(&mut owner).await, "it was due at once");
}

#[tokio::test]
async fn names_that_overlap_are_all_watched() {
    let names = ["queue_1", "queue_10", "queue_2", "queue_", "mails", "mail"];
    let mut stage = Stage::new(&names).await;
    let mut owner = watching(&stage, "a").await;
    for name in names {
        assert!(!rang(&mut owner).await);
        stage.push(name, &messages(name, 1)).await;
        assert!(rang(&mut owner).await, "{name}");
    }
}

#[tokio::test]
async fn under_a_backlog_nothing_rings() {
    let mut stage = Stage::new(&["q"]).await;
    let mut owner = watching(&stage, "a").await;
    owner.connection.unwatch().await.unwrap();
    stage.push("q", &messages("m", 1)).await;
    assert!(!rang(&mut owner).await);
    owner.connection.watch(&stage.keys).await.unwrap();
    stage.push("q", &messages("n", 1)).await;
    assert!(rang(&mut owner).await);
}

#[tokio::test]
async fn the_end_of_the_connection_rings() {
    let mut stage = Stage::new(&["q"]).await;
    let owner = watching(&stage, "a").await;
    let id: i64 = owner.connection.clone().query(redis::cmd("CLIENT").arg("ID")).await.unwrap();
    stage.ask::<()>(&["CLIENT", "KILL", "ID", &id.to_string()]).await;
    owner.connection.wake.rung().await;
    assert!(owner.connection.wake.connection_lost());
}
