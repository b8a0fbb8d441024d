//! What a worker says of itself.

use super::super::engine::Engine;
use super::tasks::failed;
use super::{Answer, Asked};
use crate::broker::{connection, revoked};
use crate::celery::python;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde_json::{Map, Value, json};

/// Samples of the memory in use kept at most.
const SAMPLES_MAX: usize = 1000;
/// Of these told at most, where nobody says how many.
const SAMPLES_TOLD: f64 = 10.0;

pub(super) fn ping(_: &mut Engine, _: &Asked) -> Answer {
    json!({"ok": "pong"}).into()
}

pub(super) fn clock(_: &mut Engine, asked: &Asked) -> Answer {
    json!({"clock": asked.clock}).into()
}

/// Nobody is elected here. A stock worker that is alone crashes over this command (Celery 5.7.0).
pub(super) fn election(_: &mut Engine, _: &Asked) -> Answer {
    Value::Null.into()
}

/// A worker of Celery's starts: it tells what it knows to be revoked, and wants to know what we do.
pub(super) fn hello(engine: &mut Engine, asked: &Asked) -> Answer {
    if asked.get("from_node").and_then(Value::as_str) == Some(engine.start.node.as_str()) {
        return Value::Null.into();
    }
    let theirs: Vec<String> = match asked.get("revoked") {
        Some(Value::Array(ids)) => ids.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Some(Value::Object(ids)) => ids.keys().cloned().collect(), // Celery before 5.7
        _ => Vec::new(),
    };
    let (mut connection, keys) = (asked.connection.clone(), engine.exchange.keys.clone());
    let clock = asked.clock + 1;
    Answer::later(async move {
        revoked::revoke(&mut connection, &keys, &theirs).await.map_err(|error| failed(&error))?;
        let ids = revoked::ids(&mut connection, &keys).await.map_err(|error| failed(&error))?;
        Ok(json!({"revoked": ids, "clock": clock}))
    })
}

pub(super) fn stats(engine: &mut Engine, asked: &Asked) -> Answer {
    let config = &engine.start.config;
    let runners: Vec<u32> = engine.slots.iter_mut().filter_map(|slot| slot.runner.process()?.pid).collect();
    let python = config.python.as_ref();
    let seconds = |limit: Option<std::time::Duration>| limit.map_or(0.0, |limit| limit.as_secs_f64());
    let per_runner = python.and_then(|python| python.max_tasks_per_runner);
    let done = engine.reports.figures().done;
    let mut stats = json!({
        "total": engine.remote.started,
        "pid": std::process::id(),
        "clock": asked.clock.to_string(),
        "uptime": engine.remote.began.elapsed().as_secs(),
        "pool": {
            "implementation": "fairstalk",
            "max-concurrency": engine.scale.most(),
            "processes": runners,
            "max-tasks-per-child": per_runner.map_or(json!("N/A"), |tasks| json!(tasks)),
            "put-guarded-by-semaphore": true,
            "timeouts": [seconds(python.and_then(|python| python.soft_time_limit)),
                seconds(python.and_then(|python| python.time_limit))],
            "writes": {"total": done, "avg": "", "all": "", "raw": "", "strategy": "fair",
                "inqueues": {"total": 0, "active": 0}},
        },
        "broker": connection::described(&config.broker),
        "prefetch_count": engine.open(),
        "rusage": usage(),
    });
    if engine.scale.is_automatic() {
        stats["autoscaler"] = json!({"max": engine.scale.most(), "min": engine.scale.least(),
            "current": engine.open(), "qty": engine.busy()});
    }
    stats.into()
}

/// Of the worker itself, without its runners, as Celery's parent process tells it.
fn usage() -> Value {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return json!("N/A") };
    let seconds = |time: nix::sys::time::TimeVal| time.num_microseconds() as f64 / 1e6;
    let mut told: Map<String, Value> = Map::new();
    told.insert("utime".to_owned(), json!(seconds(usage.user_time())));
    told.insert("stime".to_owned(), json!(seconds(usage.system_time())));
    for (name, value) in [
        ("maxrss", usage.max_rss()),
        ("ixrss", usage.shared_integral()),
        ("idrss", usage.unshared_data_integral()),
        ("isrss", usage.unshared_stack_integral()),
        ("minflt", usage.minor_page_faults()),
        ("majflt", usage.major_page_faults()),
        ("nswap", usage.full_swaps()),
        ("inblock", usage.block_reads()),
        ("oublock", usage.block_writes()),
        ("msgsnd", usage.ipc_sends()),
        ("msgrcv", usage.ipc_receives()),
        ("nsignals", usage.signals()),
        ("nvcsw", usage.voluntary_context_switches()),
        ("nivcsw", usage.involuntary_context_switches()),
    ] {
        told.insert(name.to_owned(), json!(value));
    }
    Value::Object(told)
}

/// Memory of the worker, where Celery tells that of its parent process if the application has psutil.
pub(super) fn memsample(engine: &mut Engine, _: &Asked) -> Answer {
    let used = python::bytes(engine.memory.resident(std::process::id()));
    if engine.remote.samples.len() < SAMPLES_MAX {
        engine.remote.samples.push(used.clone());
    }
    json!(used).into()
}

pub(super) fn memdump(engine: &mut Engine, asked: &Asked) -> Answer {
    let most = match asked.number("samples") {
        Ok(most) => most.unwrap_or(SAMPLES_TOLD).max(1.0) as usize,
        Err(error) => return Err(error).into(),
    };
    let samples = std::mem::take(&mut engine.remote.samples);
    let step = samples.len().div_ceil(most).max(1);
    let mut told = String::new();
    if !samples.is_empty() {
        told.push_str("- rss (sample):\n");
    }
    for sample in samples.iter().step_by(step) {
        told.push_str(&format!("-    > {sample},\n"));
    }
    let used = python::bytes(engine.memory.resident(std::process::id()));
    json!(format!("{told}- rss (end): {used}.\n")).into()
}
