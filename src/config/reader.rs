//! Takes keys out of one section with the type they must have, and remembers what was wrong.
//!
//! A method that answers `None` has either found no such key or has recorded a problem; the caller goes
//! on with the default either way, because a configuration with problems is never handed out. What
//! is left in a section after the last key was taken is unknown.

use super::environment::Environment;
use super::keys;
use super::problem::{Complaint, Problem};
use super::units;
use super::written::{Written, plain, within};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;
use toml::Table;

/// A number, or what fairstalk makes of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Amount {
    Auto,
    Exactly(u32),
}

/// What was written at a key.
#[derive(Default)]
struct Taken {
    /// Its text, if it may be shown.
    value: Option<String>,
    /// The variable it came from.
    variable: Option<String>,
    /// It can't be used, and a problem says so.
    refused: bool,
}

/// One table of the file together with the variables that override it.
pub(super) struct Section<'a> {
    /// As shown before a key: `workers`, `tasks."thumbnails.render"`.
    path: String,
    /// Name in [`keys::SECTIONS`].
    name: &'static str,
    table: Table,
    environment: &'a Environment,
    problems: &'a mut Vec<Problem>,
    /// What was written at each key taken.
    taken: BTreeMap<&'static str, Taken>,
}

impl<'a> Section<'a> {
    pub(super) fn new(
        path: String,
        name: &'static str,
        table: Table,
        environment: &'a Environment,
        problems: &'a mut Vec<Problem>,
    ) -> Self {
        Section { path, name, table, environment, problems, taken: BTreeMap::new() }
    }

    /// Whether the key was written anywhere; true also if its value was refused.
    pub(super) fn given(&self, key: &str) -> bool {
        self.taken.contains_key(key)
    }

    /// Whether the key was refused, so that a comparison with its stand-in would say something untrue.
    pub(super) fn refused(&self, key: &str) -> bool {
        self.taken.get(key).is_some_and(|taken| taken.refused)
    }

    /// Records a problem of a key of this section, with what was written there.
    pub(super) fn complain(&mut self, key: &str, complaint: Complaint) {
        let (value, variable) = match self.taken.get_mut(key) {
            Some(taken) => {
                taken.refused = true;
                (taken.value.clone(), taken.variable.clone())
            }
            None => (None, None),
        };
        let Complaint { reason, remedy } = complaint;
        self.problems.push(Problem { key: format!("{}.{key}", self.path), value, variable, reason, remedy });
    }

    /// Records a problem if the key was not written anywhere.
    pub(super) fn require(&mut self, key: &str, remedy: &str) {
        if !self.given(key) {
            self.complain(key, Complaint::new("is missing", remedy));
        }
    }

    /// Takes a key and has `convert` make something of it. A variable wins over the file; its text is a string.
    pub(super) fn take<T>(
        &mut self,
        key: &'static str,
        convert: impl FnOnce(Written) -> Result<T, Complaint>,
    ) -> Option<T> {
        debug_assert!(keys::of(self.name).contains(&key), "{key} is in keys::SECTIONS");
        let from_file = self.table.remove(key);
        let variable = (self.name != keys::TASKS).then(|| keys::variable(self.name, key));
        let from_variable = variable.as_deref().and_then(|name| self.environment.get(name));
        let (written, variable) = match from_variable {
            Some(text) => (Written::Text(text.to_owned()), variable),
            None => (Written::Value(from_file?), None),
        };
        let value = keys::may_be_shown(key).then(|| written.shown());
        self.taken.insert(key, Taken { value, variable, refused: false });
        convert(written).map_err(|complaint| self.complain(key, complaint)).ok()
    }

    pub(super) fn string(&mut self, key: &'static str) -> Option<String> {
        self.take(key, Written::string)
    }

    /// A string that holds at least one character and no control characters.
    pub(super) fn word(&mut self, key: &'static str) -> Option<String> {
        self.take(key, |written| {
            let text = written.string()?;
            if text.is_empty() {
                return Err(Complaint::new("is empty", "write a value, or leave the key out for its default"));
            }
            plain(text)
        })
    }

    pub(super) fn integer(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let remedy = format!("write a number from {} to {}", range.start(), range.end());
        self.take(key, |written| written.integer(&range, &remedy))
    }

    /// As [`Section::integer`], for a range that fits 32 bits.
    pub(super) fn count(&mut self, key: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        let number = self.integer(key, u64::from(*range.start())..=u64::from(*range.end()))?;
        u32::try_from(number).ok()
    }

    pub(super) fn amount(&mut self, key: &'static str, range: RangeInclusive<u32>) -> Option<Amount> {
        let remedy = format!("write a number from {} to {}, or \"auto\"", range.start(), range.end());
        let wide = u64::from(*range.start())..=u64::from(*range.end());
        self.take(key, |written| {
            if written.is_text("auto") {
                return Ok(Amount::Auto);
            }
            let number = written.integer(&wide, &remedy)?;
            Ok(Amount::Exactly(u32::try_from(number).unwrap_or(u32::MAX)))
        })
    }

    pub(super) fn boolean(&mut self, key: &'static str) -> Option<bool> {
        self.take(key, Written::boolean)
    }

    pub(super) fn duration(&mut self, key: &'static str, range: RangeInclusive<Duration>) -> Option<Duration> {
        self.take(key, |written| {
            if let Some(number) = written.bare_number() {
                return Err(units::bare_duration(number));
            }
            let duration = units::duration(&written.string()?)?;
            within(duration, &range, units::show_duration)
        })
    }

    pub(super) fn size(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        self.take(key, |written| {
            if let Some(number) = written.bare_number() {
                return Err(units::bare_size(number));
            }
            let bytes = units::size(&written.string()?)?;
            within(bytes, &range, units::show_size)
        })
    }

    pub(super) fn list(&mut self, key: &'static str) -> Option<Vec<String>> {
        self.take(key, Written::list)
    }

    /// Variables for a process: names and values that `execve` can carry.
    pub(super) fn variables(&mut self, key: &'static str) -> Option<BTreeMap<String, String>> {
        self.take(key, Written::variables)
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        self.take(key, |written| {
            let text = written.string()?;
            words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
                let all = words.iter().map(|(word, _)| format!("{word:?}")).collect::<Vec<_>>().join(", ");
                let remedy = match keys::nearest(&text, words.iter().map(|(word, _)| *word)) {
                    Some(nearest) => format!("did you mean {nearest:?}? Known are {all}"),
                    None => format!("write one of {all}"),
                };
                Complaint::new("is not a word known here", remedy)
            })
        })
    }

    /// Reports what is left.
    pub(super) fn finish(self) {
        for (key, value) in &self.table {
            let path = format!("{}.{key}", self.path);
            let known = keys::of(self.name);
            let remedy = if self.name == keys::TASKS && value.is_table() && !known.contains(&key.as_str()) {
                let task = self.path.trim_start_matches("tasks.").trim_matches('"');
                format!("a task's name with a dot stands in quotes: write [tasks.\"{task}.{key}\"]")
            } else if let Some(nearest) = keys::nearest(key, known.iter().copied()) {
                format!("did you mean {nearest:?}?")
            } else if let Some(owner) = keys::owner_of(key, self.name) {
                format!("it belongs into [{owner}]")
            } else {
                format!("take it out; known here are {}", known.join(", "))
            };
            self.problems.push(Problem::new(path, "there is no such key", remedy));
        }
    }
}
