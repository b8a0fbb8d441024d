//! Frames of a runner: a task may write to its channel, so these may be anything.

use crate::{cases, mutator};
use fairstalk::runner::Said;
use fairstalk::runner::python::frames::take;
use fastrand::Rng;

fn frame(payload: &[u8]) -> Vec<u8> {
    [&u32::try_from(payload.len()).unwrap().to_be_bytes(), payload].concat()
}

fn store(random: &mut Rng) -> Vec<u8> {
    let (key, value) = (vec![b'k'; random.usize(..20)], vec![b'v'; random.usize(..200)]);
    let mut packed = Vec::new();
    for part in [&key, &value] {
        packed.extend(u32::try_from(part.len()).unwrap().to_be_bytes());
    }
    packed.extend(random.i64(..).to_be_bytes());
    [packed, key, value].concat()
}

/// A good frame of any kind, as `frames.py` packs it.
fn good(random: &mut Rng) -> Vec<u8> {
    let payload = match random.u8(..4) {
        0 => b"U".to_vec(),
        1 => [b"S".to_vec(), store(random)].concat(),
        2 => [&b"O"[..], br#"{"level": 20, "logger": "a.b", "text": "said"}"#].concat(),
        _ => {
            let mut done = vec![b'D', random.u8(..7)];
            done.extend(f64::from_bits(random.u64(..)).to_be_bytes());
            let stores = random.u32(..3);
            done.extend(stores.to_be_bytes());
            for _ in 0..stores {
                done.extend(store(random));
            }
            done.extend([&b""[..], br#"{"exception": "E()", "traceback": null}"#][random.usize(..2)]);
            done
        }
    };
    frame(&[&payload[..1], &random.u64(..).to_be_bytes(), &payload[1..]].concat())
}

/// Everything in a stream that comes in pieces, up to the first error.
fn said(stream: &[u8], piece: usize) -> (Vec<String>, Option<String>) {
    let (mut buffer, mut found) = (Vec::new(), Vec::new());
    for part in stream.chunks(piece) {
        buffer.extend_from_slice(part);
        loop {
            let before = buffer.len();
            match take(&mut buffer) {
                Ok(Some(said)) => {
                    assert!(buffer.len() < before, "a frame is taken off");
                    found.push(format!("{said:?}"));
                }
                Ok(None) => break,
                Err(error) => return (found, Some(error)),
            }
        }
    }
    (found, None)
}

#[test]
fn good_frames_are_read_in_whatever_pieces_they_come() {
    cases(5_000, |random| {
        let frames: Vec<_> = (0..random.usize(1..6)).map(|_| good(random)).collect();
        let (found, error) = said(&frames.concat(), random.usize(1..50));
        assert_eq!((found.len(), error), (frames.len(), None));
    });
}

#[test]
fn bad_frames_are_refused_and_the_pieces_don_t_matter() {
    cases(20_000, |random| {
        let frames: Vec<_> = (0..random.usize(1..4)).map(|_| good(random)).collect();
        let stream = mutator::bytes(frames.concat(), random);
        let whole = said(&stream, stream.len().max(1));
        assert_eq!(said(&stream, random.usize(1..50)), whole);
    });
}

#[test]
fn deep_json_is_an_error() {
    let deep = "[".repeat(100_000);
    let claim = "\0".repeat(8);
    for payload in [
        format!("O{claim}{deep}"),
        format!("O{claim}{{\"level\": {deep}"),
        format!("D{claim}\0{}\0\0\0\0{deep}", "\0".repeat(8)),
    ] {
        assert!(take(&mut frame(payload.as_bytes())).is_err());
    }
    assert!(matches!(take(&mut frame(format!("U{claim}").as_bytes())), Ok(Some((0, Said::Ready)))));
}
