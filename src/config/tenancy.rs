//! `[tenancy]`: whose task a message is, and what the operator grants whom.

use super::load::Source;
use super::problem::Complaint;
use super::units::rate;
use super::written::{Written, kind};
use super::{Fallback, Tenancy};
use std::collections::BTreeMap;
use toml::Value;

/// Smallest and largest weight: the largest share of one is a million times the smallest.
const WEIGHTS: std::ops::RangeInclusive<f64> = 0.001..=1000.0;

/// Words of `fallback`.
const FALLBACKS: &[(&str, Fallback)] =
    &[("queue", Fallback::Queue), ("group", Fallback::Group), ("root", Fallback::Root)];

pub(super) fn read(source: &mut Source<'_>) -> Tenancy {
    let mut section = source.section("tenancy");
    let tenancy = Tenancy {
        parameter: section.word("parameter"),
        header: section.word("header"),
        fallback: section.choice("fallback", FALLBACKS).unwrap_or_default(),
        weights: section.take("weights", |written| by_tenant(written, false, weight)).unwrap_or_default(),
        max_concurrency: section
            .take("max_concurrency", |written| by_tenant(written, true, tasks_at_once))
            .unwrap_or_default(),
        rate_limit: section.take("rate_limit", |written| by_tenant(written, true, rate)).unwrap_or_default(),
        reserved_slots: section.count("reserved_slots", 0..=10_000).unwrap_or(0),
        stagger: section.boolean("stagger").unwrap_or(false),
    };
    section.finish();
    tenancy
}

/// A table from a tenant, or a pattern with `*`, to a value; one value alone is that of all tenants.
fn by_tenant<T>(
    written: Written,
    alone: bool,
    read: impl Fn(&Value) -> Result<T, Complaint>,
) -> Result<BTreeMap<String, T>, Complaint> {
    let table = match written.toml()? {
        Value::Table(table) => table,
        value if alone => return Ok(BTreeMap::from([("*".to_owned(), read(&value)?)])),
        value => {
            let reason = format!("is {}, not a table", kind(&value));
            return Err(Complaint::new(reason, "write it by tenant: { \"42\" = 4, \"trial-*\" = 0.5 }"));
        }
    };
    let entry = |(tenant, value): (String, Value)| match read(&value) {
        Ok(value) => Ok((tenant, value)),
        Err(Complaint { reason, remedy }) => Err(Complaint::new(format!("the value of {tenant:?} {reason}"), remedy)),
    };
    table.into_iter().map(entry).collect()
}

fn weight(value: &Value) -> Result<f64, Complaint> {
    let number = match value {
        Value::Integer(number) => i32::try_from(*number).ok().map(f64::from),
        Value::Float(number) => Some(*number),
        _ => None,
    };
    number.filter(|number| WEIGHTS.contains(number)).ok_or_else(|| {
        let remedy =
            format!("write a number from {} to {}; 1 is the weight of all others", WEIGHTS.start(), WEIGHTS.end());
        Complaint::new("is not a weight", remedy)
    })
}

fn tasks_at_once(value: &Value) -> Result<u32, Complaint> {
    let number = value.as_integer().and_then(|number| u32::try_from(number).ok()).filter(|number| *number > 0);
    number.ok_or_else(|| {
        Complaint::new("is not a number of tasks", "write a number from 1, or leave it out for no limit")
    })
}
