//! Frames between a worker and a Python runner. The Python half is `frames.py`.
//!
//! Every frame is a 32-bit length (big endian), a kind, the number of the claim it is about, and parts. To the runner: the
//! lengths of headers, properties, content type and note, then these and the body. From the runner: see `decode` below.

use crate::broker::Store;
use crate::message::{Malformed, Message};
use crate::runner::{Detail, Ended, Outcome, Said};
use std::time::Duration;

/// Larger frames from a runner are refused: a length that large is a defect, not a result.
const MAX_FRAME: usize = 1 << 30;

/// What the runner is to do with a message.
#[derive(Debug)]
pub enum Task<'a> {
    /// Run it.
    Run {
        /// Say what it has returned.
        show_result: bool,
    },
    /// Record its end without running it; the note is JSON (`why`, `text`).
    Record(&'a str),
}

/// A frame for the runner, of the claim with this number.
///
/// # Errors
/// [`Malformed`] if the body can't be taken out of its base64.
pub fn encode(sequence: u64, message: &Message, task: &Task) -> Result<Vec<u8>, Malformed> {
    let (kind, note) = match task {
        Task::Run { show_result } => (b'R', if *show_result { "result" } else { "" }),
        Task::Record(note) => (b'F', *note),
    };
    let types = format!("{}\0{}", message.content_type, message.content_encoding);
    let parts: [&[u8]; 4] =
        [message.headers_json().as_bytes(), message.properties_json().as_bytes(), types.as_bytes(), note.as_bytes()];
    let head = 29 + parts.iter().map(|part| part.len()).sum::<usize>();
    let mut frame = Vec::with_capacity(head + message.body_len());
    push_length(&mut frame, 0); // known when the body is there
    frame.push(kind);
    frame.extend_from_slice(&sequence.to_be_bytes());
    for part in parts {
        push_length(&mut frame, part.len());
    }
    for part in parts {
        frame.extend_from_slice(part);
    }
    match (message.append_body(&mut frame), task) {
        // A body that isn't base64 must still be recorded as lost, so a record does without.
        (Ok(()), _) | (Err(_), Task::Record(_)) => {}
        (Err(malformed), Task::Run { .. }) => return Err(malformed),
    }
    let length = u32::try_from(frame.len() - 4).unwrap_or(u32::MAX);
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame)
}

/// A frame that says: look whether there is a task in the inbox.
pub fn poke() -> Vec<u8> {
    let mut frame = Vec::with_capacity(29);
    push_length(&mut frame, 25);
    frame.push(b'P');
    frame.resize(29, 0);
    frame
}

/// Number of the claim a whole frame for the runner is about.
pub fn sequence_of(frame: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(frame.get(5..13)?.try_into().ok()?))
}

/// Messages are limited in size long before 4 GiB (`[delivery] max_message_size`).
fn push_length(frame: &mut Vec<u8>, length: usize) {
    frame.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
}

/// Takes the first whole frame off `buffer`, with the number of the claim it is about (0: none); `Ok(None)` if there is
/// none yet.
///
/// # Errors
/// A text for the log if the bytes are no frame; the runner can't be trusted any more then.
pub fn take(buffer: &mut Vec<u8>) -> Result<Option<(u64, Said)>, String> {
    let Some(head) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*head) as usize;
    if length == 0 || length > MAX_FRAME {
        return Err(format!("a frame of {length} bytes"));
    }
    if buffer.len() < 4 + length {
        return Ok(None);
    }
    let said = decode(&buffer[4..4 + length]).ok_or_else(|| format!("a bad frame of kind {}", buffer[4]))?;
    buffer.drain(..4 + length);
    Ok(Some(said))
}

fn decode(frame: &[u8]) -> Option<(u64, Said)> {
    let mut rest = Reader(frame);
    let kind = rest.bytes(1)?[0];
    Some((u64::from_be_bytes(rest.array()?), said(kind, rest)?))
}

fn said(kind: u8, mut rest: Reader<'_>) -> Option<Said> {
    match kind {
        b'U' => Some(Said::Ready),
        b'D' => {
            let outcome = outcome(rest.bytes(1)?[0])?;
            let runtime = f64::from_be_bytes(rest.array()?);
            let count = u32::from_be_bytes(rest.array()?);
            let stores = (0..count).map(|_| rest.store()).collect::<Option<_>>()?;
            let detail = if rest.0.is_empty() { Detail::default() } else { serde_json::from_slice(rest.0).ok()? };
            let runtime = Duration::try_from_secs_f64(runtime).unwrap_or_default();
            Some(Said::Ended(Ended { outcome, runtime, stores, detail }))
        }
        b'S' => Some(Said::Store(rest.store()?)),
        b'O' => {
            #[derive(serde::Deserialize)]
            struct Record {
                level: u32,
                logger: String,
                text: String,
            }
            let Record { level, logger, text } = serde_json::from_slice(rest.0).ok()?;
            Some(Said::Log { level, logger, text })
        }
        _ => None,
    }
}

/// In the order of `frames.py`.
fn outcome(number: u8) -> Option<Outcome> {
    use Outcome::{Failure, Ignored, Refused, Rejected, Requeued, Retry, Success};
    [Success, Failure, Retry, Ignored, Rejected, Requeued, Refused].get(usize::from(number)).copied()
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    fn store(&mut self) -> Option<Store> {
        let key = u32::from_be_bytes(self.array()?) as usize;
        let value = u32::from_be_bytes(self.array()?) as usize;
        let ttl_ms = i64::from_be_bytes(self.array()?);
        Some(Store { key: self.bytes(key)?.to_vec(), value: self.bytes(value)?.to_vec(), ttl_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        push_length(&mut frame, payload.len());
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn frames_are_taken_whole_and_one_by_one() {
        let mut done = b"D\x00\x00\x00\x00\x00\x00\x00\x07\x00".to_vec();
        done.extend(0.25f64.to_be_bytes());
        done.extend(1u32.to_be_bytes());
        done.extend(1u32.to_be_bytes());
        done.extend(2u32.to_be_bytes());
        done.extend(1000i64.to_be_bytes());
        done.extend(b"kvv");
        let whole = [frame(&done), frame(b"U\0\0\0\0\0\0\0\0")].concat();
        let mut buffer = Vec::new();
        let mut said = Vec::new();
        for byte in whole {
            buffer.push(byte);
            said.extend(take(&mut buffer).unwrap());
        }
        let (7, Said::Ended(ended)) = &said[0] else { panic!("{said:?}") };
        assert_eq!((ended.outcome, ended.runtime), (Outcome::Success, Duration::from_millis(250)));
        assert_eq!(ended.stores, [Store { key: b"k".into(), value: b"vv".into(), ttl_ms: 1000 }]);
        assert!(matches!(said[1], (0, Said::Ready)));
        assert!(buffer.is_empty());
    }

    #[test]
    fn nonsense_is_an_error_and_never_a_panic() {
        for (kind, parts) in
            [("D", &b""[..]), ("D", b"\x09"), ("S", b"\x00\x00\x00\x09"), ("O", b"{}"), ("?", b""), ("D", b"\x00\x00")]
        {
            let payload = [kind.as_bytes(), &[0; 8], parts].concat();
            assert!(take(&mut frame(&payload)).is_err(), "{payload:?}");
        }
        assert!(take(&mut frame(b"U")).is_err(), "of no claim");
        assert!(take(&mut vec![0xff; 8]).is_err());
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..20_000 {
            let payload: Vec<u8> = (0..random.usize(1..60)).map(|_| random.u8(..)).collect();
            let _ = take(&mut frame(&payload));
        }
    }
}
