//! What is wrong with a configuration, told all at once.
//!
//! Whoever edits a file on a server wants one answer, not one per attempt, so the loader goes on after
//! the first mistake and hands back a list. Each entry says where, what is written there, why it can't
//! be used and what to write instead. Values that may be secret are never put into a [`Problem`].

use std::fmt;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where: `workers.processes`, `tasks."x".command`, the name of a variable, or `line 3, column 7`.
    pub key: String,
    /// What is written there; none when nothing is, or when it may be secret.
    pub value: Option<String>,
    /// The environment variable the value came from; none when it came from the file.
    pub variable: Option<String>,
    /// Why it can't be used.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

impl Problem {
    /// A problem of a key without a value to show.
    pub fn new(key: impl Into<String>, reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Problem { key: key.into(), value: None, variable: None, reason: reason.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {}", self.key)?;
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        if let Some(variable) = &self.variable {
            write!(f, " (from {variable})")?;
        }
        write!(f, "\n    problem: {}\n    remedy:  {}", self.reason, self.remedy)
    }
}

/// Everything that is wrong with one configuration; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    /// What was read, for the first line: usually the path of the file.
    pub source: String,
    /// The problems, in the order of the sections.
    pub list: Vec<Problem>,
}

impl Problems {
    /// A list of one.
    pub fn one(source: impl Into<String>, problem: Problem) -> Self {
        Problems { source: source.into(), list: vec![problem] }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.list.len() {
            1 => write!(f, "1 problem in {}", self.source)?,
            n => write!(f, "{n} problems in {}", self.source)?,
        }
        for problem in &self.list {
            write!(f, "\n\n{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Why a value can't be used, before it is known which key it stands at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) reason: String,
    pub(super) remedy: String,
}

impl Complaint {
    pub(super) fn new(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Complaint { reason: reason.into(), remedy: remedy.into() }
    }
}
