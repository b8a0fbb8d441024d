//! Reload: each case a promise of it.

use crate::stage::{Event, Stage, config, python, send};
use fairstalk::config::Config;
use nix::sys::signal::Signal;
use serde_json::json;
use std::time::Duration;

cases![
    workers_move_over_one_by_one,
    broken_file_changes_nothing,
    application_that_no_longer_imports_changes_nothing,
    new_worker_that_cannot_work_takes_everybody_back,
    new_worker_that_is_not_ready_in_time_takes_everybody_back,
    keys_that_need_no_new_worker,
    more_and_fewer_workers,
    hangups_during_a_reload_are_one_more,
    hangup_before_ready_is_kept,
    term_during_a_reload_drains_everybody,
    killed_new_worker_is_tried_again,
    killed_old_worker_is_buried_after_its_zygote,
    old_worker_that_does_not_end_is_killed,
    reload_while_paused,
];

/// What children lived through, without what every process does.
fn story(stage: &mut Stage) -> Vec<Event> {
    stage.events.count(|_| true);
    let told = |event: &Event| matches!(event.what.as_str(), "start" | "drain" | "eof" | "recover");
    stage.events.all.iter().map(|(_, event)| event.clone()).filter(told).collect()
}

fn with_concurrency(config: &Config, concurrency: u32) -> Config {
    let mut config = config.clone();
    config.workers.concurrency.max = concurrency;
    config
}

fn workers_move_over_one_by_one() {
    let mut stage = Stage::new(json!({ "worker 2": ["work", "slow"] }), &python()).ready();
    let before = ["zygote", "worker 1", "worker 2"].map(|who| stage.event(who, "start"));
    stage.configure(&serde_json::to_string(&with_concurrency(&python(), 7)).expect("encodes"));
    stage.signal(Signal::SIGHUP);
    stage.note("STATUS=reloading: worker 2 of 2; worker 2: Redis at nowhere: connection refused");
    // The loop goes on meanwhile.
    stage.passes();
    let new = ["zygote", "worker 1", "worker 2"].map(|who| stage.event(who, "start"));
    send(new[2].pid, Signal::SIGUSR2);
    stage.reloaded();
    stage.note("STATUS=2/8 slots busy");
    let order: Vec<_> = story(&mut stage).into_iter().skip(3).map(|event| (event.who, event.what, event.pid)).collect();
    let at = |index: usize, who: &str, what: &str, pid| {
        assert_eq!(order[index], (who.to_owned(), what.to_owned(), pid), "{order:#?}");
    };
    at(0, "zygote", "start", new[0].pid);
    at(1, "worker 1", "start", new[1].pid);
    at(2, "worker 1", "drain", before[1].pid);
    at(3, "worker 2", "start", new[2].pid);
    at(4, "worker 2", "drain", before[2].pid);
    at(5, "zygote", "eof", before[0].pid);
    assert_eq!(order.len(), 6);
    for (old, new) in before.iter().zip(&new).skip(1) {
        assert_eq!((&old.detail["concurrency"], &new.detail["concurrency"]), (&json!(4), &json!(7)));
        assert_ne!(old.detail["owner"], new.detail["owner"]);
        assert_eq!(old.detail["node"], new.detail["node"]);
        assert_ne!(old.detail["zygote"], new.detail["zygote"]);
        assert_eq!(new.detail["sockets"], json!([]));
    }
    let told = stage.event("worker 1", "drain").detail;
    assert_eq!(told, json!({ "order": "drain", "within_ms": 30_000, "replaced": true, "succeeded": true }));
    assert_eq!(stage.notes.count(|note| note.starts_with("RELOADING=1")), 1);
}

fn broken_file_changes_nothing() {
    let mut stage = Stage::new(json!({}), &python()).ready();
    stage.configure("nonsense");
    stage.signal(Signal::SIGHUP);
    stage.reloaded();
    stage.note("; reload failed: 1 problem in ");
    stage.passes();
    assert!(stage.log().contains("reload failed, nothing has changed: 1 problem in "), "{}", stage.log());
    assert_eq!((stage.count("worker 1", "start"), stage.count("zygote", "start")), (1, 1));
    stage.reload(&python());
    stage.note("STATUS=2/8 slots busy, 1,204 waiting, 0 tasks/s");
    assert_eq!(stage.count("worker 2", "start"), 2);
}

fn application_that_no_longer_imports_changes_nothing() {
    let mut stage = Stage::new(json!({ "zygote": ["import", "fail", "import"] }), &python()).ready();
    stage.reload(&with_concurrency(&python(), 7));
    stage.note("; reload failed: ImportError: no shop");
    stage.passes();
    assert_eq!((stage.count("worker 1", "start"), stage.count("zygote", "eof")), (1, 0));
    assert_eq!(stage.notes.count(|note| note == "STOPPING=1"), 0);
    stage.reload(&with_concurrency(&python(), 7));
    assert_eq!((stage.count("worker 1", "start"), stage.count("zygote", "start")), (2, 3));
}

/// Worker 1 has moved when worker 2 fails: it moves back, to the old application with the old configuration.
fn goes_back(stage: &mut Stage, why: &str) {
    let old = [stage.event("zygote", "start"), stage.event("worker 1", "start"), stage.event("worker 2", "start")];
    let mut new = with_concurrency(&python(), 7);
    new.workers.reload_timeout = Duration::from_secs(1);
    stage.reload(&new);
    stage.note(&format!("; reload failed: {why}"));
    let moved = stage.event("worker 1", "start");
    let back = stage.event("worker 1", "start");
    for (worker, concurrency, pid) in [(&moved, 7, old[1].pid), (&back, 4, moved.pid)] {
        assert_eq!(worker.detail["concurrency"], json!(concurrency));
        assert_eq!(stage.event("worker 1", "drain").pid, pid);
    }
    assert_eq!(back.detail["zygote"], old[1].detail["zygote"]);
    assert_ne!(back.detail["owner"], old[1].detail["owner"]);
    let owner = old[2].detail["owner"].clone();
    send(old[2].pid, Signal::SIGKILL);
    stage.events.take("a word of the old worker 2", |event| event.detail["owners"] == json!([owner]));
    let ended = stage.event("zygote", "eof");
    assert_ne!(ended.pid, old[0].pid);
    stage.passes();
    assert_eq!((stage.count("zygote", "start"), stage.count("zygote", "eof")), (2, 1));
}

fn new_worker_that_cannot_work_takes_everybody_back() {
    let mut stage = Stage::new(json!({ "worker 2": ["work", "config", "work"] }), &python()).ready();
    goes_back(&mut stage, "new worker 2: no such database: 99");
}

fn new_worker_that_is_not_ready_in_time_takes_everybody_back() {
    let mut stage = Stage::new(json!({ "worker 2": ["work", "unready", "work"] }), &python()).ready();
    goes_back(&mut stage, "new worker 2 was not ready within 1s: Redis at nowhere: connection refused");
}

fn keys_that_need_no_new_worker() {
    let mut stage = Stage::new(json!({}), &config()).ready();
    let mut new = config();
    new.workers.drain_timeout = Duration::from_secs(7);
    stage.reload(&new);
    stage.signal(Signal::SIGTERM);
    assert_eq!(stage.event("worker 2", "drain").detail["within_ms"], json!(7_000));
    assert_eq!(stage.exit(), Some(0));
    assert_eq!((stage.count("worker 1", "start"), stage.count("worker 2", "start")), (1, 1));
}

fn more_and_fewer_workers() {
    let mut stage = Stage::new(json!({}), &config()).ready();
    let mut new = config();
    new.workers.processes = 4;
    stage.reload(&new);
    let fourth = stage.event("worker 4", "start");
    new.workers.processes = 1;
    stage.reload(&new);
    assert_eq!(stage.event("worker 4", "drain").pid, fourth.pid);
    stage.note("STATUS=1/4 slots busy");
    assert_eq!((stage.count("worker 1", "start"), stage.count("worker 1", "drain")), (1, 0));
    assert_eq!((stage.count("worker 2", "start"), stage.count("worker 2", "drain")), (1, 1));
    new.workers.processes = 2;
    stage.reload(&new);
    stage.event("worker 2", "start");
    let owner = stage.event("worker 2", "start").detail["owner"].clone();
    assert!(owner.as_str().is_some_and(|owner| owner.ends_with(":2.2")), "{owner}");
}

fn hangups_during_a_reload_are_one_more() {
    let mut stage = Stage::new(json!({ "worker 1": ["work", "slow", "work"] }), &python()).ready();
    stage.event("worker 1", "start");
    stage.signal(Signal::SIGHUP);
    let new = stage.event("worker 1", "start");
    for _ in 0..20 {
        stage.signal(Signal::SIGHUP);
        stage.signal(Signal::SIGCHLD);
    }
    stage.passes();
    assert_eq!(stage.notes.count(|note| note.starts_with("RELOADING=1")), 1);
    send(new.pid, Signal::SIGUSR2);
    stage.reloaded();
    stage.reloaded();
    stage.passes();
    assert_eq!(stage.notes.count(|note| note.starts_with("RELOADING=1")), 2);
    assert_eq!((stage.count("worker 1", "start"), stage.count("zygote", "start")), (3, 3));
}

fn hangup_before_ready_is_kept() {
    let mut stage = Stage::new(json!({ "worker 2": ["slow", "work"] }), &config());
    let first = stage.event("worker 2", "start");
    stage.signal(Signal::SIGHUP);
    stage.configure(&serde_json::to_string(&with_concurrency(&config(), 7)).expect("encodes"));
    stage.passes();
    assert_eq!(stage.notes.count(|note| note.starts_with("RELOADING=1")), 0);
    send(first.pid, Signal::SIGUSR2);
    stage.note("READY=1");
    stage.reloaded();
    assert_eq!(stage.event("worker 2", "start").detail["concurrency"], json!(7));
}

fn term_during_a_reload_drains_everybody() {
    let mut stage = Stage::new(json!({ "worker 1": ["stay", "slow"], "worker 2": ["work"] }), &python()).ready();
    let old = stage.event("worker 1", "start");
    stage.signal(Signal::SIGHUP);
    let new = stage.event("worker 1", "start");
    stage.signal(Signal::SIGTERM);
    stage.note("STOPPING=1");
    let drained = [stage.event("worker 1", "drain").pid, stage.event("worker 1", "drain").pid];
    assert!(drained.contains(&old.pid) && drained.contains(&new.pid));
    // The new one, not ready yet, ends with the cue; the old one goes on for as long as it takes.
    stage.event("worker 2", "drain");
    send(old.pid, Signal::SIGUSR2);
    send(new.pid, Signal::SIGKILL);
    assert_eq!(stage.exit(), Some(70));
    assert_eq!((stage.count("worker 1", "start"), stage.count("zygote", "eof")), (2, 2));
    assert_eq!(stage.notes.count(|note| note == "READY=1"), 1);
}

fn killed_new_worker_is_tried_again() {
    let mut stage = Stage::new(json!({ "worker 1": ["work", "slow", "work"] }), &python()).ready();
    let old = stage.event("worker 1", "start");
    stage.signal(Signal::SIGHUP);
    let new = stage.event("worker 1", "start");
    send(new.pid, Signal::SIGKILL);
    let again = stage.event("worker 1", "start");
    assert_eq!(again.detail["recover"], json!([new.detail["owner"]]));
    assert_eq!(again.detail["zygote"], new.detail["zygote"]);
    stage.reloaded();
    assert_eq!((stage.event("worker 1", "drain").pid, stage.count("worker 1", "drain")), (old.pid, 1));
    stage.note("STATUS=2/8 slots busy");
}

fn killed_old_worker_is_buried_after_its_zygote() {
    let mut one = python();
    one.workers.processes = 1;
    let mut stage = Stage::new(json!({ "worker 1": ["stay", "work"] }), &one).ready();
    let (zygote, old) = (stage.event("zygote", "start"), stage.event("worker 1", "start"));
    stage.signal(Signal::SIGHUP);
    let new = stage.event("worker 1", "start");
    stage.event("worker 1", "drain");
    send(old.pid, Signal::SIGKILL);
    let told = stage.event("worker 1", "recover");
    assert_eq!((told.pid, &told.detail["owners"]), (new.pid, &json!([old.detail["owner"]])));
    stage.reloaded();
    let story = story(&mut stage);
    let at = |what: &str, pid| story.iter().position(|event| event.what == what && event.pid == pid);
    assert!(at("eof", zygote.pid).is_some_and(|end| Some(end) < at("recover", new.pid)), "{story:#?}");
    assert_eq!(stage.count("worker 1", "start"), 2);
}

fn old_worker_that_does_not_end_is_killed() {
    let mut stage = Stage::new(json!({ "worker 1": ["deaf", "work"] }), &config()).ready();
    let old = stage.event("worker 1", "start");
    let mut new = with_concurrency(&config(), 7);
    new.workers.drain_timeout = Duration::from_millis(100);
    stage.reload(&new);
    let owners = json!([old.detail["owner"]]);
    stage.events.take("a word of the old worker", |event| event.what == "recover" && event.detail["owners"] == owners);
    assert_eq!((stage.count("worker 1", "start"), stage.count("worker 2", "start")), (2, 2));
    assert!(stage.log().contains("old worker 1 has not ended in time: KILL"), "{}", stage.log());
}

fn reload_while_paused() {
    let mut stage = Stage::new(json!({}), &python()).ready();
    stage.signal(Signal::SIGTSTP);
    stage.note("STATUS=paused");
    stage.event("worker 1", "pause");
    stage.reload(&python());
    stage.event("worker 1", "pause");
    stage.note("STATUS=paused");
}
