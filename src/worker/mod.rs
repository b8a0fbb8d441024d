//! One worker process: claims messages, has them run in its slots, settles them.
//!
//! One task owns all state and does one thing at a time ([`engine`]); readers of sockets and pipes send it
//! [`engine::Event`]s. What it does with Redis is in [`exchange`], with a claimed message in [`dispatch`], with
//! runners in [`runners`], with an ended task in [`settle`], with what others ask of it in `control`, what it tells them in
//! [`events`], on the way out in [`drain`].

mod ahead;
mod bounds;
mod builtin;
mod control;
pub mod dispatch;
pub mod drain;
pub mod engine;
pub mod events;
pub mod exchange;
mod flight;
mod health;
pub mod intake;
mod lanes;
mod loss;
pub mod letter;
pub mod link;
pub mod memory;
mod minute;
mod naming;
mod pickup;
pub mod rates;
mod recall;
mod recovery;
mod ring;
pub mod rules;
pub mod runners;
mod scale;
pub mod settle;
pub mod slots;
mod stagger;
pub mod starts;
mod stepping;
pub mod story;
pub mod tail;
pub mod work;

use crate::channel::{Exit, Order, Report};
use nix::sys::prctl;
use nix::sys::signal::Signal;

/// The process: everything from `exec` to `exit`. Its standard input is its channel to the supervisor.
pub fn main() -> Exit {
    // The supervisor is one thread that lives as long as its process, so this fires when that dies, and only
    // then. Should it have died before this line, its end of the channel is closed, which ends us too.
    if let Err(error) = prctl::set_pdeathsig(Signal::SIGKILL) {
        eprintln!("fairstalk worker: prctl: {error}");
        return Exit::Internal;
    }
    crate::pace::begin();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("fairstalk worker: can't start a runtime: {error}");
            return Exit::Internal;
        }
    };
    tokio::task::LocalSet::new().block_on(&runtime, run())
}

async fn run() -> Exit {
    let (mut orders, reports) = match link::open() {
        Ok(link) => link,
        Err(error) => {
            eprintln!("fairstalk worker: standard input is not a supervisor's channel ({error}); use `fairstalk run`");
            return Exit::Usage;
        }
    };
    let Some(Order::Start(start)) = orders.next().await else { return Exit::Internal };
    let name = format!("worker {}", start.worker);
    if let Ok(short) = std::ffi::CString::new(format!("fairstalk-w{}", start.worker)) {
        // Executed through /proc/self/exe, it would be "exe" to ps and top. Cosmetic, so failure is ignored.
        let _ = prctl::set_name(&short);
    }
    crate::telemetry::init(&name, &start.config.log);
    if health::speaks(&start) {
        tokio::task::spawn_local(health::warn(start.config.clone()));
    }
    let exit = match engine::Engine::new(*start, orders, reports.clone()) {
        Ok(mut engine) => engine.run().await,
        Err(failure) => Err(failure),
    };
    let exit = exit.unwrap_or_else(|engine::Failure { exit, message }| {
        tracing::error!("{message}");
        reports.send(Report::Failed { exit, message });
        exit
    });
    crate::telemetry::tell_all_suppressed();
    reports.flush().await;
    exit
}
