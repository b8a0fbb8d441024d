//! What the operator grants a tenant. Pure.

use super::flow;
use crate::config::Tenancy;
use std::collections::BTreeMap;

/// What one tenant is granted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// Running time relative to others.
    pub weight: f64,
    /// Most tasks running at once over the whole fleet; 0: any number.
    pub max_concurrency: u32,
    /// Least time between two starts over the whole fleet, milliseconds; 0: none.
    pub interval: f64,
}

/// The grants of `[tenancy]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Policy {
    tenancy: Tenancy,
}

impl Policy {
    /// Those of a configuration.
    pub fn new(tenancy: &Tenancy) -> Policy {
        Policy { tenancy: tenancy.clone() }
    }

    /// What a flow is granted. Patterns speak of tenants; messages that name none have no limits.
    pub fn share(&self, flow: &str) -> Share {
        let Some(tenant) = flow::tenant_of(flow) else {
            return Share { weight: 1.0, max_concurrency: 0, interval: 0.0 };
        };
        Share {
            weight: most_specific(&self.tenancy.weights, tenant).unwrap_or(1.0),
            max_concurrency: most_specific(&self.tenancy.max_concurrency, tenant).unwrap_or(0),
            interval: most_specific(&self.tenancy.rate_limit, tenant).map_or(0.0, |rate| 1000.0 / rate),
        }
    }

    /// Slots of the fleet that are kept for tenants that run nothing.
    pub fn reserved_slots(&self) -> u32 {
        self.tenancy.reserved_slots
    }

    /// Whether a message may be claimed before it is known whose it is: only where nobody is limited.
    pub fn allows_unseen(&self) -> bool {
        let tenancy = &self.tenancy;
        tenancy.max_concurrency.is_empty() && tenancy.rate_limit.is_empty() && tenancy.reserved_slots == 0
    }
}

/// The value of the tenant itself, else of the longest pattern that fits.
fn most_specific<T: Copy>(values: &BTreeMap<String, T>, tenant: &str) -> Option<T> {
    values.get(tenant).copied().or_else(|| {
        let fitting = values.iter().filter(|(pattern, _)| fits(pattern, tenant));
        fitting.max_by_key(|(pattern, _)| pattern.len()).map(|(_, value)| *value)
    })
}

/// Whether a pattern, in which `*` stands for any text, is that of the whole of `text`.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(start) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    text.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_pattern_counts() {
        let weights = [("*", 1.0), ("trial-*", 0.5), ("trial-*-vip", 3.0), ("7", 4.0)];
        let weights = weights.map(|(pattern, weight)| (pattern.to_owned(), weight)).into();
        let rate_limit = BTreeMap::from([("7".to_owned(), 4.0)]);
        let policy = Policy::new(&Tenancy { weights, rate_limit, ..Tenancy::default() });
        let weight = |tenant: &str| policy.share(&flow::of_tenant(tenant)).weight;
        assert_eq!([weight("7"), weight("77"), weight("trial-3"), weight("trial-3-vip")], [4.0, 1.0, 0.5, 3.0]);
        assert_eq!(policy.share("t:7").interval, 250.0);
        assert_eq!(policy.share("q:7"), Share { weight: 1.0, max_concurrency: 0, interval: 0.0 });
        assert!(!policy.allows_unseen());
        assert!(Policy::default().allows_unseen());
    }

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*b", "ab", true),
            ("*", "", true),
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("a*c", "abcd", false),
            ("ab*ba", "aba", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }
}
