//! The connection is cut after every single byte of a claim, a filing and a settlement, of request and of reply:
//! each message is still in one place, is run, and is settled.
//!
//! After a cut an owner does what a worker does (`src/worker/exchange.rs`): a connection with the next number, a beat, a look
//! at what it holds; what it does not know goes back; what it has not had confirmed is sent again.

use crate::proxy::{Proxy, Way};
use crate::stage::{Owner, Stage, ack, front, messages, raws, result, stored};
use fairstalk::broker::{Action, Claim, Connection, Kind, Settlement};
use redis::Value;

const WAYS: [Way; 2] = [Way::Request, Way::Reply];

/// A server, a proxy, and what has to be counted.
struct Cuts {
    stage: Stage,
    proxy: Proxy,
}

impl Cuts {
    async fn new() -> Cuts {
        let stage = Stage::new(&["q"]).await;
        let path = stage.broker.url.strip_prefix("unix://").unwrap();
        let proxy = Proxy::start(path.split_once('?').unwrap().0.to_owned());
        // Each script is known to the server, so that an exchange is one request and one reply.
        let mut owner = stage.owner("first").await;
        owner.claim(1).await;
        owner.leave().await;
        Cuts { stage, proxy }
    }

    /// An empty server with these messages, and an owner that speaks through the proxy.
    async fn begin(&mut self, all: &[Vec<u8>]) -> Owner {
        self.stage.ask::<()>(&["FLUSHALL"]).await;
        self.stage.push("q", all).await;
        let mut owner = self.stage.stranger("o").await;
        owner.connection = Connection::open(&self.proxy.broker(&self.stage.broker)).await.unwrap();
        assert!(owner.beat(true).await.is_some());
        owner
    }

    /// As a worker after a lost connection; returns what it holds and does not know.
    async fn again(&mut self, owner: &mut Owner, known: &[Claim]) -> Vec<Claim> {
        owner.connection = Connection::open(&self.proxy.broker(&self.stage.broker)).await.unwrap();
        owner.number += 1;
        assert!(owner.beat(false).await.is_some(), "the lease is still held");
        let mut held = owner.held().await;
        held.retain(|claim| !known.iter().any(|known| known.sequence == claim.sequence));
        owner.skip(held.last().map_or(0, |claim| claim.sequence));
        held
    }

    /// Claims and settles the rest; all of it in order.
    async fn run_all(&mut self, owner: &mut Owner) -> Vec<Vec<u8>> {
        let claims = owner.claim(10).await;
        owner.settle(&claims.iter().map(ack).collect::<Vec<_>>()).await;
        raws(&claims)
    }

    /// Nothing is left of it, neither message nor key.
    async fn end(&mut self, mut owner: Owner) {
        self.stage.census().await.assert_one_place::<&[u8]>(&[]);
        owner.leave().await;
        assert!(self.stage.ask::<Vec<String>>(&["KEYS", "*"]).await.is_empty());
    }
}

#[tokio::test]
async fn a_claim_cut_anywhere() {
    let mut cuts = Cuts::new().await;
    let all = messages("m", 3);
    for way in WAYS {
        let mut adopted = 0;
        for bytes in 0.. {
            let mut owner = cuts.begin(&all).await;
            cuts.proxy.cut_after(way, bytes);
            let claimed = owner.one_step(2, &[], &[]).await;
            let whole = cuts.proxy.disarm();
            let claims = match claimed {
                Ok(reply) => reply.unwrap().claims,
                Err(error) => {
                    assert_eq!(error.kind, Kind::Unavailable, "{error}");
                    Vec::new()
                }
            };
            if !whole {
                let unknown = cuts.again(&mut owner, &claims).await;
                cuts.stage.census().await.assert_one_place(&all);
                adopted += unknown.len();
                owner.settle(&unknown.into_iter().rev().map(front).collect::<Vec<_>>()).await;
            }
            owner.settle(&claims.iter().map(ack).collect::<Vec<_>>()).await;
            let mut ran = raws(&claims);
            ran.extend(cuts.run_all(&mut owner).await);
            assert_eq!(ran, all, "{way:?} cut after {bytes} bytes");
            cuts.end(owner).await;
            if whole {
                assert!(bytes > 100, "the exchange has some bytes");
                break;
            }
        }
        assert_eq!(
            adopted > 2,
            way == Way::Reply,
            "two claims are made without an answer: behind each byte of the answer"
        );
    }
}

#[tokio::test]
async fn a_filing_cut_anywhere() {
    let mut cuts = Cuts::new().await;
    let all = messages("m", 3);
    for way in WAYS {
        for bytes in 0.. {
            let mut owner = cuts.begin(&all).await;
            let looked = owner.one_step(0, &[], &[]).await.unwrap().unwrap().looked;
            let filings: Vec<_> = looked.into_iter().filter_map(|looked| owner.filing(looked)).collect();
            assert_eq!(filings.len(), 1);
            cuts.proxy.cut_after(way, bytes);
            let filed = owner.one_step(0, &[], &filings).await;
            let whole = cuts.proxy.disarm();
            if !whole {
                assert!(cuts.again(&mut owner, &[]).await.is_empty());
                cuts.stage.census().await.assert_one_place(&all);
                // The worker does not know that they are filed, and sends them again.
                if filed.is_err() {
                    owner.one_step(0, &[], &filings).await.unwrap();
                }
            }
            cuts.stage.census().await.assert_one_place(&all);
            assert_eq!(cuts.run_all(&mut owner).await, all, "{way:?} cut after {bytes} bytes");
            cuts.end(owner).await;
            if whole {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_settlement_cut_anywhere() {
    let mut cuts = Cuts::new().await;
    let all = messages("m", 3);
    for way in WAYS {
        let mut repeated = 0;
        for bytes in 0.. {
            let mut owner = cuts.begin(&all).await;
            let claims = owner.claim(3).await;
            let settlements =
                [stored(&claims[0], Action::Ack, &[result("t", "SUCCESS")]), ack(&claims[1]), front(claims[2].clone())];
            cuts.proxy.cut_after(way, bytes);
            let settled = owner.one_step(0, &settlements, &[]).await;
            let whole = cuts.proxy.disarm();
            if !whole {
                assert!(cuts.again(&mut owner, &claims).await.is_empty(), "nothing it does not know");
            }
            if settled.is_err() {
                repeated += settle_again(&mut cuts.stage, &mut owner, &settlements, &all).await;
            }
            cuts.stage.census().await.assert_one_place(&all[2..]);
            assert!(cuts.stored("t").await, "{way:?} cut after {bytes} bytes: no result");
            assert_eq!(cuts.run_all(&mut owner).await, all[2..], "{way:?} cut after {bytes} bytes");
            cuts.end(owner).await;
            if whole {
                break;
            }
        }
        assert_eq!(repeated > 1, way == Way::Reply, "sent twice in vain: behind each byte of the answer");
    }
}

/// The outbox is sent again; 1 if everything had been settled before.
async fn settle_again(stage: &mut Stage, owner: &mut Owner, settlements: &[Settlement], all: &[Vec<u8>]) -> usize {
    let places = stage.census().await.places().len();
    assert!(places == all.len() || places == 1, "all of a step or nothing of it");
    let lost = owner.one_step(0, settlements, &[]).await.unwrap().unwrap().lost;
    assert_eq!(lost.len(), if places == 1 { settlements.len() } else { 0 });
    usize::from(places == 1)
}

impl Cuts {
    /// Whether this result is stored.
    async fn stored(&mut self, task: &str) -> bool {
        let mut results = Connection::open(&self.stage.results).await.unwrap();
        let key = format!("celery-task-meta-{task}");
        results.query::<Value>(redis::cmd("GETDEL").arg(key)).await.unwrap() != Value::Nil
    }
}
