//! The supervisor as a real process, with children that behave as each case needs, and a notification socket.
//!
//! No harness: signals and the count of threads belong to a process as a whole, so this executable starts itself
//! again as the supervisor, and that in turn as its workers and its zygote. Without a role it runs the cases:
//! all, or those whose name contains the argument.

/// A name and what it stands for.
type Case = (&'static str, fn());

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        /// All of them.
        pub const CASES: &[crate::Case] = &[$((stringify!($name), $name)),*];
    };
}

mod cases;
mod fake;
mod reloads;
mod stage;

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Cases at the same time. They mostly wait.
const AT_ONCE: usize = 4;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["supervise"] => return ExitCode::from(fake::supervise().code()),
        ["worker", number] => return fake::worker(number),
        ["zygote", listener] => return fake::zygote(listener),
        _ => {}
    }
    let filter = arguments.iter().find(|argument| !argument.starts_with('-')).copied().unwrap_or_default();
    let all = cases::CASES.iter().chain(reloads::CASES);
    let chosen: Vec<_> = all.filter(|(name, _)| name.contains(filter)).collect();
    if arguments.contains(&"--list") {
        chosen.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((name, case)) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let passed = std::panic::catch_unwind(case).is_ok();
                    println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
                    if !passed {
                        failed.lock().expect("no case holds it").push(*name);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("no case holds it");
    println!("\n{} cases, failed: {failed:?}", chosen.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
