//! Keeps a storm of like lines from flooding the log. Pure: time is a parameter.
//!
//! Lines are of one kind if they say the same of the same task name: its failures, its retries, what it logs at one
//! level. Of each kind so many pass in a window that begins with the first; how many more there were is told
//! when it ends.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// What a line is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Kind {
    /// Name of the task; empty for lines of no task.
    pub task: String,
    /// What it says of it: an outcome, or the level of the task's own lines.
    pub about: String,
    /// A line the task itself wrote.
    pub output: bool,
}

/// How many lines pass. Zero lets all of them pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Length of a window.
    pub window: Duration,
    /// Lines of one kind that fairstalk writes.
    pub lines: u32,
    /// Lines of one kind that tasks write.
    pub output: u32,
}

/// Lines that did not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suppressed {
    /// Which.
    pub kind: Kind,
    /// How many.
    pub count: u64,
    /// In what time.
    pub window: Duration,
}

/// Lets a bounded number of lines pass.
#[derive(Debug)]
pub struct Storm {
    limits: Limits,
    windows: HashMap<Kind, Window>,
    /// The earliest end of a window.
    due: Option<Instant>,
}

#[derive(Debug)]
struct Window {
    ends: Instant,
    passed: u32,
    suppressed: u64,
}

impl Storm {
    /// Nothing has been said yet.
    pub fn new(limits: Limits) -> Storm {
        Storm { limits, windows: HashMap::new(), due: None }
    }

    /// Whether a line of this kind passes. A window whose end was not looked for with [`Storm::ended`] goes on.
    pub fn admit(&mut self, kind: Kind, now: Instant) -> bool {
        let most = if kind.output { self.limits.output } else { self.limits.lines };
        if most == 0 {
            return true;
        }
        let ends = now + self.limits.window;
        let window = self.windows.entry(kind).or_insert(Window { ends, passed: 0, suppressed: 0 });
        self.due = Some(self.due.map_or(window.ends, |due| due.min(window.ends)));
        if window.passed < most {
            window.passed += 1;
            return true;
        }
        window.suppressed += 1;
        false
    }

    /// Closes the windows that have ended by now and says what did not pass in them, in the order of names.
    pub fn ended(&mut self, now: Instant) -> Vec<Suppressed> {
        if self.due.is_none_or(|due| now < due) {
            return Vec::new();
        }
        self.close(|window| window.ends <= now)
    }

    /// Closes all windows.
    pub fn all(&mut self) -> Vec<Suppressed> {
        self.close(|_| true)
    }

    fn close(&mut self, over: impl Fn(&Window) -> bool) -> Vec<Suppressed> {
        let window = self.limits.window;
        let closed = self.windows.extract_if(|_, window| over(window));
        let mut suppressed: Vec<Suppressed> = closed
            .filter(|(_, window)| window.suppressed > 0)
            .map(|(kind, closed)| Suppressed { kind, count: closed.suppressed, window })
            .collect();
        suppressed.sort_by(|a, b| (&a.kind.task, &a.kind.about).cmp(&(&b.kind.task, &b.kind.about)));
        self.due = self.windows.values().map(|window| window.ends).min();
        suppressed
    }
}

/// A number as people read it: `1,234`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { window: Duration::from_secs(10), lines: 3, output: 5 };

    fn kind(task: &str, about: &str, output: bool) -> Kind {
        Kind { task: task.to_owned(), about: about.to_owned(), output }
    }

    #[test]
    fn so_many_pass_and_the_rest_is_counted() {
        let start = Instant::now();
        let mut storm = Storm::new(LIMITS);
        let passed = (0..1237).filter(|_| storm.admit(kind("a", "failed", false), start)).count();
        assert_eq!(passed, 3);
        assert!(storm.admit(kind("b", "failed", false), start), "another task is another kind");
        assert!(storm.admit(kind("a", "lost", false), start), "another outcome too");
        let output = (0..9).filter(|_| storm.admit(kind("a", "info", true), start)).count();
        assert_eq!(output, 5);
        assert_eq!(storm.ended(start + Duration::from_millis(9_999)), []);
        let said = storm.ended(start + LIMITS.window);
        let said: Vec<_> = said.iter().map(|s| (s.kind.about.as_str(), s.count)).collect();
        assert_eq!(said, [("failed", 1234), ("info", 4)]);
        assert!(storm.admit(kind("a", "failed", false), start + LIMITS.window), "a new window");
        assert_eq!(storm.all(), [], "and nothing of it is suppressed");
    }

    #[test]
    fn zero_lets_everything_pass() {
        let mut storm = Storm::new(Limits { lines: 0, ..LIMITS });
        let now = Instant::now();
        assert!((0..1000).all(|_| storm.admit(kind("a", "failed", false), now)));
        assert_eq!(storm.all(), []);
    }

    /// Whatever comes when: every line either passed or is counted, and no window of the limit's length sees more
    /// than twice the limit.
    #[test]
    fn nothing_is_uncounted() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..50 {
            let mut storm = Storm::new(LIMITS);
            let (mut now, mut said, mut passed, mut told) = (Instant::now(), 0, Vec::new(), 0);
            for _ in 0..2000 {
                now += Duration::from_millis(random.u64(0..200));
                told += storm.ended(now).iter().map(|s| s.count).sum::<u64>();
                for task in ["a", "b"] {
                    said += 1;
                    if storm.admit(kind(task, "failed", false), now) {
                        passed.push((task, now));
                    }
                }
            }
            told += storm.all().iter().map(|s| s.count).sum::<u64>();
            assert_eq!(passed.len() as u64 + told, said);
            for (task, at) in &passed {
                let near =
                    passed.iter().filter(|(t, other)| t == task && *other >= *at && *other < *at + LIMITS.window);
                assert!(near.count() <= 2 * 3);
            }
        }
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 12, 1234, 1_234_567].map(grouped), ["0", "12", "1,234", "1,234,567"]);
    }
}
