//! What the benchmarks need of machine code of their own. Each prints one number: seconds, or nothing.
//!
//! ```text
//! probe publish CONFIG COUNT           pushes messages through the library
//! probe spawn COUNT LOOPS PROGRAM…     starts a program and waits for it, COUNT times, in LOOPS threads
//! probe work COUNT                     what a worker thinks about each message, without Redis; for callgrind
//! ```

#![allow(clippy::print_stdout, reason = "it is what it is for")]

mod publish;
mod spawn;
mod work;

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["publish", config, count] => println!("{}", publish::run(config.as_ref(), count.parse()?)?.as_secs_f64()),
        ["spawn", count, loops, ref command @ ..] if !command.is_empty() => {
            println!("{}", spawn::run(count.parse()?, loops.parse()?, command)?.as_secs_f64());
        }
        ["work", count] => work::run(count.parse()?)?,
        _ => return Err("usage: probe publish CONFIG COUNT | spawn COUNT LOOPS PROGRAM… | work COUNT".into()),
    }
    Ok(())
}
