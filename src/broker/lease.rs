//! Leases: who lives, who is dead, and what the dead still hold.
//!
//! An owner (one worker process) renews its lease with every beat. When the supervisor reports a worker's death
//! its claims are recovered at once; when a whole host is gone, another host's beat finds the lease run out.

use super::connection::unexpected;
use super::reply::flow_of;
use super::script::{POUR, call, script};
use super::{BrokerError, Claim, Connection, Keys};
use crate::config::Delivery;
use redis::Script;
use std::time::Duration;

/// How long an owner may be silent before others take what it holds.
pub const LEASE: Duration = Duration::from_millis(7000);

/// It shows itself at least as often. Lease + beat bound the recovery of a lost host at 10 s.
pub const BEAT: Duration = Duration::from_millis(2500);

/// Kombu's default `visibility_timeout`.
pub const VISIBILITY: Duration = Duration::from_secs(3600);

/// Claims looked at in one go: more than a worker has, since others may claim between two of what the first has put back, and
/// what comes with the second would be too late for its order.
const BATCH: usize = 500;

/// A sign of life.
#[derive(Debug)]
pub struct Beat<'a> {
    /// Who lives.
    pub owner: &'a str,
    /// Its figures, JSON.
    pub figures: &'a str,
    /// Its slots.
    pub slots: u32,
    /// It takes out its lease.
    pub first: bool,
    /// Number of its connection, counting up from 1.
    pub connection: u64,
}

/// Answer to a beat.
#[derive(Debug, PartialEq)]
pub struct Pulse {
    /// Messages in all lists and lanes.
    pub waiting: u64,
    /// Tenants that wait in lanes and may run.
    pub tenants: u64,
    /// Milliseconds until the next delayed message is due. Whoever put it aside may be gone by then.
    pub due_in: Option<u64>,
    /// Claims nobody has renewed for longer than stock workers may hold one.
    pub stale: u64,
    /// Owners whose lease is over.
    pub expired: Vec<String>,
}

/// The scripts around leases.
pub struct Leases {
    beat: Script,
    seize: Script,
    leave: Script,
    keys: Keys,
    visibility: Duration,
}

impl Leases {
    /// Scripts for these keys.
    pub fn new(keys: Keys) -> Leases {
        Leases {
            beat: script!("scripts/beat.lua"),
            seize: script!("scripts/seize.lua"),
            leave: script!("scripts/pour.lua", "scripts/leave.lua"),
            keys,
            visibility: VISIBILITY,
        }
    }

    /// The same with another `visibility_timeout` of the application than kombu's default.
    pub fn with_visibility(self, visibility: Duration) -> Leases {
        Leases { visibility, ..self }
    }

    /// Renews a lease, or takes it out with the first beat. `None`: it was taken away for good.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn beat(
        &self,
        connection: &mut Connection,
        beat: &Beat<'_>,
        delivery: &Delivery,
    ) -> Result<Option<Pulse>, BrokerError> {
        let keys = &self.keys;
        let mut invocation = call(&self.beat, keys, beat.owner);
        for queue in &keys.queues {
            for list in keys.lists(queue) {
                invocation.key(list);
            }
        }
        invocation.arg(millis(LEASE)).arg(beat.figures).arg(i32::from(beat.first));
        invocation.arg(delivery.dead_letters_max).arg(millis(delivery.dead_letters_age)).arg(beat.connection);
        invocation.arg(beat.slots).arg(self.visibility.as_secs());
        let mut redis = connection.redis.clone();
        let reply: Vec<redis::Value> = connection.sorted(invocation.invoke_async(&mut redis)).await?;
        let mut parts = reply.into_iter();
        let bad = || unexpected(&connection.address, "beat");
        let alive: i64 = redis::from_redis_value(parts.next().ok_or_else(bad)?).map_err(|_| bad())?;
        if alive == 0 {
            return Ok(None);
        }
        let waiting = redis::from_redis_value(parts.next().ok_or_else(bad)?).map_err(|_| bad())?;
        let due_in: i64 = redis::from_redis_value(parts.next().ok_or_else(bad)?).map_err(|_| bad())?;
        let tenants = redis::from_redis_value(parts.next().ok_or_else(bad)?).map_err(|_| bad())?;
        let stale = redis::from_redis_value(parts.next().ok_or_else(bad)?).map_err(|_| bad())?;
        let expired: Result<Vec<String>, _> = parts.map(redis::from_redis_value).collect();
        let (due_in, expired) = (u64::try_from(due_in).ok(), expired.map_err(|_| bad())?);
        Ok(Some(Pulse { waiting, tenants, due_in, stale, expired }))
    }

    /// Takes the lease of a dead owner away for good and returns some of what it held, the earliest first.
    /// Empty: nothing is left and the owner is forgotten.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn seize(&self, connection: &mut Connection, owner: &str) -> Result<Vec<Claim>, BrokerError> {
        let mut invocation = call(&self.seize, &self.keys, owner);
        invocation.arg(BATCH);
        let mut redis = connection.redis.clone();
        let reply: Vec<Vec<u8>> = connection.sorted(invocation.invoke_async(&mut redis)).await?;
        let mut claims: Vec<Claim> = reply
            .chunks_exact(5)
            .filter_map(|part| {
                let [sequence, list, flow, number] = [0, 1, 2, 3].map(|at| String::from_utf8_lossy(&part[at]));
                let place = Place { list: &list, flow: &flow, number: number.parse().ok()?, started: None };
                Some(claim(&self.keys, sequence.parse().ok()?, &place, &part[4]))
            })
            .collect();
        claims.sort_by_key(|claim| claim.sequence);
        Ok(claims)
    }

    /// Everything `owner` holds: asked by itself after a lost connection, when it doesn't know whether its last
    /// step was made. A message that a stock worker has restored is empty here.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn held(&self, connection: &mut Connection, owner: &str) -> Result<Vec<Claim>, BrokerError> {
        let held: Vec<(String, Vec<u8>)> = connection.query(redis::cmd("HGETALL").arg(self.keys.claims(owner))).await?;
        let mut claims = Vec::with_capacity(held.len());
        for (sequence, noted) in held {
            let (Ok(sequence), Some(place)) = (sequence.parse(), Place::parse(&noted)) else { continue }; // the lease
            if let Some(message) = place.started {
                claims.push(claim(&self.keys, sequence, &place, message));
                continue;
            }
            let kept: Option<Vec<u8>> = connection
                .query(redis::cmd("HGET").arg(self.keys.unacked()).arg(format!("{owner}:{sequence}")))
                .await?;
            // What a stock worker has restored after its visibility timeout has nothing left but its number.
            claims.push(claim(&self.keys, sequence, &place, &kept.unwrap_or_default()));
        }
        claims.sort_by_key(|claim| claim.sequence);
        Ok(claims)
    }

    /// All owners, living and dead. Nothing is changed.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn others(&self, connection: &mut Connection) -> Result<Others, BrokerError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("TIME").cmd("ZRANGE").arg(self.keys.owners()).arg(0).arg(-1).arg("WITHSCORES");
        let ((seconds, micros), leases): ((i64, i64), Vec<(String, f64)>) = connection.pipeline(&pipeline).await?;
        let leases = leases.into_iter().map(|(owner, end)| (owner, end as i64)).collect();
        Ok(Others { now: seconds * 1000 + micros / 1000, leases })
    }

    /// Says goodbye; the last of all owners pours delayed messages back for stock Celery. Returns who is left.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn leave(&self, connection: &mut Connection, owner: &str) -> Result<Others, BrokerError> {
        self.pour(connection, owner, false).await
    }

    /// Pours back what waits in lanes and what is delayed, as the last owner does, though owners are left. They have
    /// to be dead, and their leases taken away ([`Leases::seize`]).
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn pour_for_the_dead(&self, connection: &mut Connection, owner: &str) -> Result<(), BrokerError> {
        self.pour(connection, owner, true).await.map(drop)
    }

    async fn pour(&self, connection: &mut Connection, owner: &str, dead: bool) -> Result<Others, BrokerError> {
        loop {
            let mut invocation = call(&self.leave, &self.keys, owner);
            invocation.arg(POUR).arg(u8::from(dead));
            let mut redis = connection.redis.clone();
            let (left, now, leases): (i64, i64, Vec<(String, f64)>) =
                connection.sorted(invocation.invoke_async(&mut redis)).await?;
            if left == 0 {
                return Ok(Others {
                    now,
                    leases: leases.into_iter().map(|(owner, end)| (owner, end as i64)).collect(),
                });
            }
        }
    }
}

/// Owners that are left when one goes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Others {
    now: i64,
    leases: Vec<(String, i64)>,
}

impl Others {
    /// The server's clock when they were asked for, milliseconds since 1970.
    pub fn now(&self) -> i64 {
        self.now
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// Those whose lease is over.
    pub fn expired(&self) -> impl Iterator<Item = &str> {
        self.leases.iter().filter(|(_, end)| *end < self.now).map(|(owner, _)| owner.as_str())
    }

    /// Those whose lease is in force.
    pub fn alive(&self) -> impl Iterator<Item = &str> {
        self.leases.iter().filter(|(_, end)| *end >= self.now).map(|(owner, _)| owner.as_str())
    }

    /// All of them.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.leases.iter().map(|(owner, _)| owner.as_str())
    }

    /// One of them has shown itself since `before`.
    pub fn renewed_since(&self, before: &Others) -> bool {
        self.leases.iter().any(|lease| !before.leases.contains(lease))
    }
}

/// What is noted of a claim in its owner's hash (`scripts/tenants.lua`, `parts_of`).
struct Place<'a> {
    list: &'a str,
    flow: &'a str,
    number: u64,
    /// NUL and the message, if its task was started for good.
    started: Option<&'a [u8]>,
}

impl Place<'_> {
    fn parse(noted: &[u8]) -> Option<Place<'_>> {
        let mut ends = (0..noted.len()).filter(|&at| noted[at] == 0);
        let [line, flow, charge] = [ends.next()?, ends.next()?, ends.next()?];
        let number = ends.next().unwrap_or(noted.len());
        let text = |range: std::ops::Range<usize>| std::str::from_utf8(&noted[range]).ok();
        Some(Place {
            list: text(0..line)?.split('\u{1f}').next()?,
            flow: text(line + 1..flow)?,
            number: text(charge + 1..number)?.parse().ok()?,
            started: (number < noted.len()).then(|| &noted[number..]),
        })
    }
}

/// A claim read back: from `unacked`, whose values are `[message, "", "queue"]`, or, behind a NUL, from the claim itself.
fn claim(keys: &Keys, sequence: u64, place: &Place<'_>, kept: &[u8]) -> Claim {
    let (list, flow, number) = (place.list.into(), flow_of(place.flow.to_owned()), place.number);
    if let Some(raw) = kept.strip_prefix(b"\0") {
        return Claim { sequence, list, flow, number, raw: raw.to_vec(), in_turn: false, started: true };
    }
    let queue = keys.queue_of(place.list);
    let escapes = queue.matches(['"', '\\']).count();
    let tail = queue.len() + escapes + r#", "", ""]"#.len();
    let raw = kept.get(1..kept.len().saturating_sub(tail)).unwrap_or_default().to_vec();
    Claim { sequence, list, flow, number, raw, in_turn: false, started: false }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
