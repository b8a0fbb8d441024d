//! The yardstick of command tasks: nothing but starting the program and waiting for it, without a shell or a pipe.

use std::io;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Starts `command` and waits for it, `count` times in all, in `loops` threads at once.
pub fn run(count: u32, loops: u32, command: &[&str]) -> io::Result<Duration> {
    let each = count / loops;
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..loops).map(|_| scope.spawn(|| (0..each).try_for_each(|_| once(command)))).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|_| Err(io::Error::other("it panicked"))))
    })?;
    Ok(begin.elapsed())
}

fn once(command: &[&str]) -> io::Result<()> {
    let mut wanted = Command::new(command[0]);
    wanted.args(&command[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = wanted.status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("{}: {status}", command[0]))) }
}
