//! `[queues]` and `[delivery]`: what is consumed, and what becomes of it.

use super::load::Source;
use super::problem::Complaint;
use super::reader::Section;
use super::{Delivery, Mode, Queues};
use std::collections::BTreeMap;
use std::time::Duration;

pub(super) fn read(source: &mut Source<'_>) -> Queues {
    let mut section = source.section("queues");
    let prefix = section.take("prefix", |written| super::written::plain(written.string()?));
    let count = section.count("count", 1..=1000);
    let default = section.word("default");
    let names = section.list("names");
    let queues = if section.given("names") {
        if section.given("prefix") || section.given("count") {
            let reason = "names and prefix with count say the same thing in two ways";
            section.complain("names", Complaint::new(reason, "keep names, or keep prefix and count"));
        }
        let names = names.unwrap_or_default();
        let default = default.unwrap_or_else(|| names.first().cloned().unwrap_or_default());
        Queues { names, prefix: None, default }
    } else {
        let prefix = prefix.unwrap_or_else(|| "queue_".to_owned());
        let names: Vec<String> = (0..count.unwrap_or(20)).map(|number| format!("{prefix}{number}")).collect();
        let default = default.unwrap_or_else(|| names[0].clone());
        Queues { names, prefix: Some(prefix), default }
    };
    if !["prefix", "count", "names"].iter().any(|key| section.refused(key)) {
        check(&mut section, &queues);
    }
    section.finish();
    queues
}

fn check(section: &mut Section<'_>, queues: &Queues) {
    let key = if queues.prefix.is_some() { "prefix" } else { "names" };
    if queues.names.is_empty() {
        section.complain(key, Complaint::new("is no list of queues", "write at least one name"));
        return;
    }
    for (at, name) in queues.names.iter().enumerate() {
        if name.is_empty() {
            section.complain(key, Complaint::new("holds an empty name", "write a name, or take it out"));
        } else if queues.names[..at].contains(name) {
            section.complain(key, Complaint::new(format!("holds {name:?} twice"), "take one of them out"));
        } else if is_reserved(name) {
            let reason = format!("{name:?} is a key that Celery or fairstalk itself keeps in Redis");
            section.complain(key, Complaint::new(reason, "give the queue another name"));
        }
    }
    if !section.refused("default") && !queues.names.contains(&queues.default) {
        let reason = format!("{:?} is not one of the queues", queues.default);
        let remedy = match queues.names.as_slice() {
            [only] => format!("write {only:?}"),
            [first, .., last] if queues.prefix.is_some() => format!("write one of {first:?} … {last:?}"),
            all => format!("write one of {all:?}"),
        };
        section.complain("default", Complaint::new(reason, remedy));
    }
}

/// Names that are taken in the broker's database.
fn is_reserved(name: &str) -> bool {
    ["unacked", "unacked_index", "unacked_mutex"].contains(&name)
        || name.starts_with("_kombu.")
        || name.starts_with("fairstalk:")
}

/// The content type of a short name.
const SHORT: &[(&str, &str)] = &[
    ("json", "application/json"),
    ("pickle", "application/x-python-serialize"),
    ("yaml", "application/x-yaml"),
    ("msgpack", "application/x-msgpack"),
];

/// Words of `mode`, and of a task's own `delivery`.
pub(super) const MODES: [(&str, Mode); 3] =
    [("at-least-once", Mode::AtLeastOnce), ("at-most-once", Mode::AtMostOnce), ("declared", Mode::Declared)];

pub(super) fn read_delivery(source: &mut Source<'_>) -> Delivery {
    const YEARS: Duration = Duration::from_secs(3650 * 86_400);
    const MONTH: Duration = Duration::from_secs(30 * 86_400);
    let mut section = source.section("delivery");
    let accept = section.take("accept", |written| content_types(written.list()?));
    let delivery = Delivery {
        accept: accept.unwrap_or_else(|| vec![SHORT[0].1.to_owned()]),
        max_deliveries: section.count("max_deliveries", 1..=1000).unwrap_or(3),
        dead_letters_max: section.integer("dead_letters_max", 1..=100_000_000).unwrap_or(10_000),
        dead_letters_age: section.duration("dead_letters_age", Duration::from_secs(1)..=YEARS).unwrap_or(MONTH),
        max_message_size: section.size("max_message_size", 1 << 10..=512 << 20).unwrap_or(64 << 20),
        mode: section.choice("mode", &MODES).unwrap_or(Mode::AtLeastOnce),
        keep_failed: section.boolean("keep_failed").unwrap_or(false),
        tasks: BTreeMap::new(),
    };
    section.finish();
    delivery
}

fn content_types(words: Vec<String>) -> Result<Vec<String>, Complaint> {
    let known = || SHORT.iter().map(|(short, _)| *short);
    let remedy =
        || format!("write {} or a content type such as \"application/json\"", known().collect::<Vec<_>>().join(", "));
    let mut types: Vec<String> = Vec::new();
    for word in words {
        let full = match SHORT.iter().find(|(short, _)| *short == word) {
            Some((_, full)) => (*full).to_owned(),
            None if word.split('/').filter(|part| !part.is_empty()).count() == 2 => word,
            None => {
                let remedy = match super::keys::nearest(&word, known()) {
                    Some(nearest) => format!("did you mean {nearest:?}?"),
                    None => remedy(),
                };
                return Err(Complaint::new(format!("{word:?} is not a content type"), remedy));
            }
        };
        if !types.contains(&full) {
            types.push(full);
        }
    }
    if types.is_empty() {
        return Err(Complaint::new("is empty, so that nothing would ever run", remedy()));
    }
    Ok(types)
}
