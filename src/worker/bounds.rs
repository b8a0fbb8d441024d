//! How much one step may do: as long as the script runs, nobody else gets anything out of Redis. Two milliseconds are too much.
//!
//! What takes time is of how many tenants the tasks are: each tenant has to be read and written, which costs several times
//! what one more of its tasks does. So a step has to do with few tenants, however many slots there are.

use crate::broker::{Claim, Settlement};
use std::collections::HashSet;

/// Claims in one step at most.
pub(super) const WANT_MAX: usize = 64;

/// Settlements in one step at most.
const SETTLEMENTS_MAX: usize = 64;

/// Of so many tenants tasks are settled in a step at most, and of about as many others claimed.
const TENANTS_MAX: usize = 24;

/// How many a step may claim, by how many of each tenant the one before has claimed.
#[derive(Debug)]
pub struct Bounds {
    want: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { want: TENANTS_MAX }
    }
}

impl Bounds {
    /// Most that the next step may claim.
    pub fn want(&self) -> usize {
        self.want
    }

    /// A step has claimed these.
    pub fn claimed(&mut self, claims: &[Claim]) {
        let tenants = claims.iter().map(|claim| &claim.flow).collect::<HashSet<_>>().len();
        if let Some(want) = (TENANTS_MAX * claims.len()).checked_div(tenants) {
            self.want = want.min(WANT_MAX);
        }
    }
}

/// How many of these one step settles.
pub fn batch(outbox: &[Settlement]) -> usize {
    let mut tenants = HashSet::new();
    let few = outbox.iter().take(SETTLEMENTS_MAX).take_while(|settlement| {
        tenants.insert(&settlement.flow);
        tenants.len() <= TENANTS_MAX
    });
    few.count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Action;

    fn claims(count: u64, tenants: u64) -> Vec<Claim> {
        let claim = |n: u64| Claim {
            sequence: n,
            list: "queue_0".into(),
            flow: Some(format!("t:{}", n % tenants).as_str().into()),
            number: n,
            raw: Vec::new(),
            in_turn: true,
            started: false,
        };
        (0..count).map(claim).collect()
    }

    #[test]
    fn fewer_are_claimed_where_each_is_of_another_tenant() {
        let mut bounds = Bounds::default();
        let mut after = |count, tenants| {
            bounds.claimed(&claims(count, tenants));
            bounds.want()
        };
        assert_eq!((after(24, 24), after(24, 12), after(48, 6), after(64, 64)), (24, 48, 64, 24));
        assert_eq!((after(3, 3), after(5, 1), after(0, 1)), (24, 64, 64));
    }

    #[test]
    fn no_step_settles_tasks_of_too_many_tenants() {
        let outbox = |count: u64, tenants: u64| -> Vec<Settlement> {
            let settlement =
                |n: u64| Settlement::new(n, format!("t:{}", n % tenants).as_str().into(), None, Action::Ack);
            (0..count).map(settlement).collect()
        };
        assert_eq!(batch(&outbox(100, 100)), TENANTS_MAX);
        assert_eq!(batch(&outbox(100, TENANTS_MAX as u64)), SETTLEMENTS_MAX);
        assert_eq!((batch(&outbox(10, 10)), batch(&[])), (10, 0));
    }
}
