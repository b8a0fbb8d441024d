//! A server that has lost its data, and what a worker that lives through it puts back.
//!
//! A worker whose lease is gone must stop if others took it away: they run its tasks again. It may go on if the data of
//! the server are gone as a whole, for then nobody has its messages but itself. [`Lineage`] tells whether that is so;
//! [`again`] takes out the lease anew.

use super::lease::LEASE;
use super::script::{call, script};
use super::{BrokerError, Connection, Keys, Kind};
use std::collections::HashMap;

/// Which server it is, and where its data came from: from `INFO`, sections `server`, `persistence` and `replication`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lineage {
    /// Random name of the server's process.
    run: String,
    /// Random name of its history; another one after each change between master and replica.
    history: String,
    /// It takes writes.
    master: bool,
    /// It had no other history before this one.
    original: bool,
    /// It began with no data at all.
    began_empty: bool,
}

impl Lineage {
    /// Asks the server; `None` where `INFO` is forbidden to this user, or renamed.
    ///
    /// # Errors
    /// [`BrokerError`], if it goes away meanwhile.
    pub async fn read(connection: &mut Connection) -> Result<Option<Lineage>, BrokerError> {
        match connection.query::<String>(&redis::cmd("INFO")).await {
            Ok(text) => Ok(Some(Lineage::parse(&text))),
            Err(error) if error.kind == Kind::Unavailable => Err(error),
            Err(_) => Ok(None),
        }
    }

    fn parse(info: &str) -> Lineage {
        let fields: HashMap<&str, &str> = info.lines().filter_map(|line| line.trim().split_once(':')).collect();
        let field = |name: &str| fields.get(name).copied().unwrap_or_default();
        Lineage {
            run: field("run_id").into(),
            history: field("master_replid").into(),
            master: field("role") == "master",
            original: field("second_repl_offset") == "-1",
            // An append-only file is read without being counted. Before Redis 7 snapshots are not counted either.
            began_empty: field("rdb_last_load_keys_loaded") == "0" && field("aof_enabled") == "0",
        }
    }

    /// Whether nothing of what was there `before` can be here: the same server, which some FLUSH has emptied, if what
    /// was there is missing now; or another one, which began with nothing. An older state of the data, from a snapshot or
    /// by way of a replica, is not nothing: messages that are running may wait in it.
    pub fn has_nothing_of(&self, before: &Lineage) -> bool {
        let known = self.master && !self.run.is_empty() && !self.history.is_empty();
        let same = self.run == before.run && self.history == before.history;
        known && (same || self.run != before.run && self.original && self.began_empty)
    }
}

/// A claim as its owner knows it.
#[derive(Debug)]
pub struct Remembered<'a> {
    /// Its number.
    pub sequence: u64,
    /// List the message came from; empty where nobody will ask.
    pub list: &'a str,
    /// Whose task it is.
    pub flow: &'a str,
    /// The message; none if the claim has only to be settled.
    pub message: Option<&'a [u8]>,
    /// Its task was started for good.
    pub started: bool,
}

/// Takes out the lease anew with everything that is held, in one go. False: something of this owner is left, so the data are
/// not lost, and nothing was done. `number` is that of the owner's connection.
///
/// # Errors
/// [`BrokerError`]; it is then unknown whether it was done.
pub async fn again(
    connection: &mut Connection,
    keys: &Keys,
    owner: &str,
    number: u64,
    held: &[Remembered<'_>],
) -> Result<bool, BrokerError> {
    let script = script!("scripts/anew.lua");
    let mut invocation = call(&script, keys, owner);
    invocation.arg(u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX)).arg(number);
    for claim in held {
        let message = claim.message.unwrap_or_default();
        let (mut kept, mut started) = (Vec::new(), &b""[..]);
        if claim.started {
            started = message;
        } else if claim.message.is_some() {
            kept.push(b'[');
            kept.extend_from_slice(message);
            kept.extend_from_slice(keys.record_end(claim.list).as_bytes());
        }
        invocation.arg(claim.sequence).arg(claim.list).arg(claim.flow).arg(kept).arg(started);
    }
    let mut redis = connection.redis.clone();
    let done: i64 = connection.sorted(invocation.invoke_async(&mut redis)).await?;
    Ok(done == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(run: &str, history: &str, rest: &str) -> Lineage {
        let rest = rest.replace(' ', "\r\n");
        Lineage::parse(&format!("# Server\r\nrun_id:{run}\r\nmaster_replid:{history}\r\n{rest}\r\n"))
    }

    const EMPTY: &str = "rdb_last_load_keys_loaded:0 aof_enabled:0 role:master second_repl_offset:-1";

    #[test]
    fn nothing_is_left_after_a_flush_or_an_empty_start() {
        let before = server("a", "h", EMPTY);
        assert!(server("a", "h", EMPTY).has_nothing_of(&before));
        assert!(server("b", "i", EMPTY).has_nothing_of(&before));
    }

    #[test]
    fn older_data_are_not_nothing() {
        let before = server("a", "h", EMPTY);
        for (run, history, rest) in [
            ("b", "i", EMPTY.replace("loaded:0", "loaded:1")),   // a snapshot
            ("b", "i", EMPTY.replace("enabled:0", "enabled:1")), // an append-only file
            ("b", "i", EMPTY.replace("rdb_last_load_keys_loaded:0 ", "")), // Redis 6.2 does not say
            ("b", "i", EMPTY.replace("offset:-1", "offset:900")), // promoted
            ("b", "i", EMPTY.replace("master", "slave")),
            ("a", "i", EMPTY.into()), // it was a replica for a while
            ("", "", String::new()),
        ] {
            assert!(!server(run, history, &rest).has_nothing_of(&before), "{run} {history} {rest}");
        }
    }
}
