//! A tenant as the scripts keep it: MessagePack values one after the other (`scripts/tenants.lua`, `read`).

use rmp_serde::Deserializer;
use rmp_serde::decode::{Error, ReadRefReader};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The fields of `scripts/tenants.lua`, by the names they have there.
#[derive(Debug, Serialize)]
pub struct Kept {
    /// Virtual time, milliseconds.
    pub v: f64,
    /// The floor when it began to wait, as long as that is more than its virtual time.
    pub e: Option<f64>,
    /// Tasks that run.
    pub r: u64,
    /// Messages that wait.
    pub n: u64,
    /// What a task takes, milliseconds.
    pub c: Option<f64>,
    /// Weight, if it is not 1.
    pub w: Option<f64>,
    /// Most tasks at once.
    pub m: Option<u64>,
    /// Least time between two starts, milliseconds.
    pub i: Option<f64>,
    /// When the next one may start, milliseconds since 1970.
    pub z: Option<f64>,
    /// Paused.
    pub p: Option<bool>,
    /// Owner that has claimed some ahead of its slots.
    pub h: Option<String>,
    /// Line that was served last.
    pub o: Option<String>,
    /// Its lines by name.
    pub l: BTreeMap<String, KeptLine>,
}

/// What waits of a tenant in one list of a queue.
#[derive(Debug, Serialize)]
pub struct KeptLine {
    /// Messages.
    pub n: u64,
    /// Claim numbers of those at its front that came back.
    pub f: Option<Vec<u64>>,
    /// Numbers of messages and since when they wait, milliseconds since 1970, in turn, from the front.
    pub t: Option<Vec<i64>>,
}

impl Kept {
    /// Reads what a script wrote.
    ///
    /// # Errors
    /// It is something else.
    pub fn read(value: &[u8]) -> Result<Kept, Error> {
        let values = &mut Deserializer::from_read_ref(value);
        let mut kept = Kept {
            v: next(values)?,
            e: next(values)?,
            r: next(values)?,
            n: next(values)?,
            c: next(values)?,
            w: next(values)?,
            m: next(values)?,
            i: next(values)?,
            z: next(values)?,
            p: next(values)?,
            h: next(values)?,
            o: next(values)?,
            l: BTreeMap::new(),
        };
        for _ in 0..next::<u64>(values)? {
            let name = next(values)?;
            kept.l.insert(name, KeptLine { n: next(values)?, f: next(values)?, t: next(values)? });
        }
        Ok(kept)
    }
}

fn next<'a, T: Deserialize<'a>>(values: &mut Deserializer<ReadRefReader<'a, [u8]>>) -> Result<T, Error> {
    T::deserialize(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a script wrote is read in tests/broker on a real server; here, what none has written.
    #[test]
    fn only_what_a_script_writes() {
        let whole =
            b"\xcb\x40\x00\0\0\0\0\0\0\xc0\x01\x02\xc0\xc0\xc0\xc0\xc0\xc3\xa1o\xc0\x01\xa1q\x02\xc0\x92\x02\x07";
        let kept = Kept::read(whole).unwrap();
        assert_eq!(
            (kept.v, kept.r, kept.n, kept.c, kept.p, kept.h.as_deref()),
            (2.0, 1, 2, None, Some(true), Some("o"))
        );
        assert_eq!((kept.l["q"].n, kept.l["q"].t.as_deref()), (2, Some(&[2, 7][..])));
        for end in 0..whole.len() {
            assert!(Kept::read(&whole[..end]).is_err(), "{end}");
        }
        assert!(Kept::read(b"{\"v\":1}").is_err());
    }
}
