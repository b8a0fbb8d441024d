//! A list of operations that fails, made short.

use std::fmt;
use std::future::Future;
use std::str::FromStr;

/// Most attempts to make it shorter.
const ATTEMPTS: usize = 120;

/// One operation: what it does, and the seed of all it chooses. It chooses the same whatever goes before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    pub kind: u8,
    pub seed: u32,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.seed)
    }
}

impl FromStr for Operation {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Operation, Self::Err> {
        let (kind, seed) = text.split_once(':').unwrap_or((text, "0"));
        Ok(Operation { kind: kind.parse()?, seed: seed.parse()? })
    }
}

/// As it is given by hand to be played again.
pub fn written(operations: &[Operation]) -> String {
    operations.iter().map(Operation::to_string).collect::<Vec<_>>().join(",")
}

/// Fewer operations that fail, too: leaves out halves, quarters, and so on.
pub async fn shrink<F: Future<Output = bool>>(
    operations: Vec<Operation>,
    mut fails: impl FnMut(Vec<Operation>) -> F,
) -> Vec<Operation> {
    let (mut left, mut attempts, mut size) = (operations, 0, usize::MAX);
    while size > 1 && attempts < ATTEMPTS {
        size = (size.min(left.len()) / 2).max(1);
        let mut at = 0;
        while at < left.len() && attempts < ATTEMPTS {
            let mut fewer = left.clone();
            fewer.drain(at..(at + size).min(left.len()));
            attempts += 1;
            if fails(fewer.clone()).await {
                left = fewer;
            } else {
                at += size;
            }
        }
    }
    left
}

#[tokio::test]
async fn what_is_not_needed_is_left_out() {
    let all: Vec<Operation> = (0..100).map(|seed| Operation { kind: 0, seed }).collect();
    let fails = |some: Vec<Operation>| {
        let has = |seed| some.iter().any(|operation| operation.seed == seed);
        std::future::ready(has(17) && has(60))
    };
    let short = shrink(all, fails).await;
    assert_eq!(written(&short), "0:17,0:60");
    assert_eq!("0:17".parse(), Ok(short[0]));
}
