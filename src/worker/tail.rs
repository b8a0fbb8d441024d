//! The last lines of what a task said, for its dead letter. Pure.

use serde::Serialize;
use std::collections::VecDeque;

/// So many lines are kept.
const LINES: usize = 20;
/// Bytes of a line that are kept.
const LINE: usize = 200;

/// A few lines: at most 4 KiB for each running task.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct Tail(VecDeque<String>);

impl Tail {
    /// Adds a text, of which only the last lines matter.
    pub fn push(&mut self, text: &str) {
        let mut last: Vec<&str> = text.lines().rev().take(LINES).collect();
        last.reverse();
        for line in last {
            if self.0.len() == LINES {
                self.0.pop_front();
            }
            self.0.push_back(line[..line.floor_char_boundary(LINE)].to_owned());
        }
    }

    /// Nothing was said.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_each_cut() {
        let mut tail = Tail::default();
        tail.push("");
        assert!(tail.is_empty());
        tail.push("one\ntwo");
        let long = "é".repeat(LINE);
        tail.push(&long);
        assert_eq!(tail.0, ["one", "two", &long[..LINE]]);
        let many: Vec<String> = (0..50).map(|number| number.to_string()).collect();
        tail.push(&many.join("\n"));
        tail.push("last");
        assert_eq!((tail.0.len(), tail.0[0].as_str(), tail.0[LINES - 1].as_str()), (LINES, "31", "last"));
    }
}
