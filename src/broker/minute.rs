//! What tenants have had in the last minute. Each worker sends it with its beat, and it goes with the worker.

use super::{BrokerError, Connection, Keys};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Steps to each doubling of a wait: neighbours differ by 9 %.
const STEPS: f64 = 8.0;

/// One worker's minute, or that of all together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Minute {
    /// Milliseconds that tasks of all tenants have run.
    pub ran: f64,
    /// By flow: those that have run longest, or all.
    pub tenants: BTreeMap<String, Had>,
}

/// What one tenant has had.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Had {
    /// Milliseconds its tasks have run.
    pub ran: f64,
    /// Its tasks under way that were claimed unseen, and so are not counted with the tenant in Redis.
    pub unseen: u64,
    /// How long its tasks have waited: step of a logarithmic scale → how many.
    pub waits: BTreeMap<u16, u64>,
}

impl Had {
    /// A task has waited so many milliseconds.
    pub fn waited(&mut self, milliseconds: f64) {
        // A float has 1024 doublings, so this fits.
        let step = (STEPS * (milliseconds.max(0.0) + 1.0).log2()).round() as u16;
        *self.waits.entry(step).or_default() += 1;
    }

    /// Milliseconds that this part of its tasks (0 to 1) have waited at most, within 5 %.
    pub fn wait(&self, part: f64) -> Option<f64> {
        let all: u64 = self.waits.values().sum();
        let rank = ((part * all as f64).ceil() as u64).max(1);
        let mut counted = 0;
        let step = self.waits.iter().find(|(_, count)| {
            counted += **count;
            counted >= rank
        });
        step.map(|(step, _)| (f64::from(*step) / STEPS).exp2() - 1.0)
    }

    /// Adds what another worker, or another part of the minute, has seen.
    pub fn add(&mut self, other: &Had) {
        self.ran += other.ran;
        self.unseen += other.unseen;
        for (step, count) in &other.waits {
            *self.waits.entry(*step).or_default() += count;
        }
    }
}

/// The last minute of the fleet's workers of all hosts, as of their last beats.
///
/// # Errors
/// [`BrokerError`].
pub async fn minute(connection: &mut Connection, keys: &Keys) -> Result<Minute, BrokerError> {
    #[derive(Deserialize)]
    struct Figures {
        minute: Minute,
    }
    let figures: Vec<(String, String)> = connection.query(redis::cmd("HGETALL").arg(keys.figures())).await?;
    let own = figures.iter().filter(|(owner, _)| !keys.is_foreign(owner));
    let mut all = Minute::default();
    for Figures { minute } in own.filter_map(|(_, json)| serde_json::from_str(json).ok()) {
        all.ran += minute.ran;
        for (flow, had) in &minute.tenants {
            all.tenants.entry(flow.clone()).or_default().add(had);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_what_several_workers_saw() {
        let (mut one, mut other) = (Had::default(), Had::default());
        assert_eq!(one.wait(0.5), None);
        one.waited(0.0);
        assert_eq!(one.wait(0.99), Some(0.0));
        (1..=50).for_each(|wait| one.waited(f64::from(wait)));
        (51..=100).for_each(|wait| other.waited(f64::from(wait)));
        one.add(&other);
        for (part, expected) in [(0.5, 50.0), (0.99, 99.0), (1.0, 100.0)] {
            let wait = one.wait(part).unwrap();
            assert!((wait / expected - 1.0_f64).abs() < 0.06, "{part}: {wait}");
        }
        one.waited(f64::MAX);
        assert!(one.wait(1.0).unwrap() > 1e300);
    }
}
