//! Base64 as bodies are written in it, with the processor's vector instructions where it has them: of a large message it is
//! what costs most here.

use base64::engine::general_purpose::STANDARD;
use base64::{DecodeError, Engine};
use base64_simd::STANDARD as FAST;

/// Puts what `text` stands for behind what is in `to`.
///
/// # Errors
/// Where it is not base64, and why; nothing is appended then.
pub fn append(text: &[u8], to: &mut Vec<u8>) -> Result<(), DecodeError> {
    let before = to.len();
    if FAST.decode_append(text, to).is_ok() {
        return Ok(());
    }
    to.truncate(before);
    // It can't say what is wrong, and this one can.
    to.extend(STANDARD.decode(text)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What one accepts the other accepts, too, and makes the same of it.
    #[test]
    fn both_ways_come_to_the_same() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let mut refused = 0;
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..random.usize(..100)).map(|_| random.u8(..)).collect();
            let mut text = STANDARD.encode(&bytes).into_bytes();
            match random.u8(..6) {
                0 => drop(text.pop()),
                1 if !text.is_empty() => {
                    let at = random.usize(..text.len());
                    text[at] = random.choice(*b"=-_AQw \n\xff").unwrap();
                }
                _ => {}
            }
            let expected = STANDARD.decode(&text);
            refused += usize::from(expected.is_err());
            let fast = FAST.decode_to_vec(&text);
            assert_eq!(fast.ok().as_ref(), expected.as_ref().ok(), "{:?}", text.escape_ascii().to_string());
            let mut to = b"before".to_vec();
            let appended = append(&text, &mut to);
            assert_eq!(appended, expected.clone().map(drop));
            assert_eq!(to, [&b"before"[..], &expected.unwrap_or_default()].concat());
        }
        assert!(refused > 1000, "{refused}");
    }
}
