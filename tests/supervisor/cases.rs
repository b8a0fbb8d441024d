//! The cases, each a promise of the supervisor.

use crate::stage::{Stage, WATCHDOG, await_gone, await_reaped, config, python, send};
use nix::sys::signal::Signal;
use serde_json::json;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::Duration;

cases![
    silent_worker_gets_abort_then_kill_and_pings_go_on,
    deaf_worker_is_killed_when_its_time_is_over,
    standing_still_blames_nobody,
    crash_loop_waits_grow,
    ready_only_after_every_worker,
    children_inherit_nothing,
    killed_worker_is_replaced_and_its_claims_recovered,
    configuration_error_before_ready_stops_the_daemon,
    configuration_error_after_ready_halts_the_slot,
    term_drains,
    second_term_hands_back,
    crash_during_drain_is_recovered_and_not_restarted,
    children_do_not_outlive_the_supervisor,
    signal_to_a_child_is_not_ours,
    zygote_is_replaced_and_connections_wait,
    zygote_ends_after_the_workers,
    stubborn_zygote_is_killed,
    stopping_without_a_zygote_does_not_spin,
    application_that_cannot_be_imported_stops_the_daemon,
    application_broken_later_is_tried_again,
    missing_interpreter_stops_the_daemon,
    pause_and_resume_reach_everybody,
    second_thread_is_refused,
];

fn ready_only_after_every_worker() {
    let mut stage = Stage::new(json!({ "worker 2": ["slow"] }), &config());
    stage.note("STATUS=starting: 1 of 2 workers ready; worker 2: Redis at nowhere: connection refused");
    assert_eq!(stage.notes.count(|note| note == "READY=1"), 0);
    send(stage.event("worker 2", "start").pid, Signal::SIGUSR2);
    stage.note("READY=1");
    stage.note("STATUS=2/8 slots busy, 1,204 waiting, 0 tasks/s");
    stage.passes();
    assert_eq!(stage.notes.count(|note| note == "READY=1"), 1);
}

fn children_inherit_nothing() {
    let mut stage = Stage::new(json!({}), &python()).ready();
    for number in 1..=2 {
        let start = stage.event(&format!("worker {number}"), "start").detail;
        assert_eq!((&start["sockets"], &start["variables"]), (&json!([]), &json!([])));
        assert_eq!(start["arguments"], format!("fairstalk: worker {number} "));
        let (owner, node) = (start["owner"].as_str().unwrap_or(""), start["node"].as_str().unwrap_or(""));
        let host = node.strip_prefix(&format!("worker{number}@")).unwrap_or("?");
        assert!(owner.starts_with(&format!("{host}:{}:", stage.pid())) && owner.ends_with(&format!(":{number}.1")));
    }
}

fn silent_worker_gets_abort_then_kill_and_pings_go_on() {
    let mut config = config();
    config.workers.liveness_timeout = Duration::from_secs(1);
    let mut stage = Stage::new(json!({ "worker 1": ["hang", "work"] }), &config).ready();
    let first = stage.event("worker 1", "start");
    send(first.pid, Signal::SIGUSR2);
    let (hung, _) = stage.event_at("worker 1", "cue");
    let (aborted, _) = stage.event_at("worker 1", "abort");
    let (replaced, second) = stage.event_at("worker 1", "start");
    assert!(aborted - hung >= Duration::from_millis(850), "{:?}", aborted - hung);
    assert!(replaced - aborted >= Duration::from_millis(1_900), "{:?}", replaced - aborted);
    assert!(first.pid != second.pid && stage.count("worker 2", "start") == 1);
    stage.passes();
    let pings: Vec<_> = stage.notes.all.iter().filter(|(_, note)| note == "WATCHDOG=1").map(|(at, _)| *at).collect();
    assert!(pings.windows(2).all(|pair| pair[1] - pair[0] < WATCHDOG));
    assert!(pings.iter().filter(|at| **at > hung && **at < replaced).count() >= 4);
    assert!(stage.log().contains("SIGKILL"), "{}", stage.log());
}

fn standing_still_blames_nobody() {
    let mut config = config();
    config.workers.liveness_timeout = Duration::from_secs(1);
    let mut stage = Stage::new(json!({}), &config).ready();
    let workers = [stage.event("worker 1", "start").pid, stage.event("worker 2", "start").pid];
    workers.iter().for_each(|pid| send(*pid, Signal::SIGSTOP));
    stage.signal(Signal::SIGSTOP);
    // Not a wait for something: the time that passes is the case.
    std::thread::sleep(Duration::from_millis(2_600));
    let before = stage.notes.count(|note| note == "WATCHDOG=1");
    stage.signal(Signal::SIGCONT);
    while stage.notes.count(|note| note == "WATCHDOG=1") == before {
        stage.notes.take("WATCHDOG=1", |note| note == "WATCHDOG=1");
    }
    workers.iter().for_each(|pid| send(*pid, Signal::SIGCONT));
    stage.passes();
    assert_eq!((stage.count("worker 1", "abort"), stage.count("worker 2", "abort")), (0, 0), "{}", stage.log());
}

fn killed_worker_is_replaced_and_its_claims_recovered() {
    let mut stage = Stage::new(json!({ "worker 1": ["parent", "work"] }), &config()).ready();
    let (first, sibling) = (stage.event("worker 1", "start"), stage.event("worker 2", "start"));
    let owner = first.detail["owner"].clone();
    send(first.pid, Signal::SIGKILL);
    let told = stage.event("worker 2", "recover");
    assert_eq!((told.pid, &told.detail["owners"]), (sibling.pid, &json!([owner])));
    let second = stage.event("worker 1", "start");
    assert_eq!(second.detail["recover"], json!([owner]));
    assert_ne!(second.detail["owner"], owner);
    // What it had started itself is gone before its claims run elsewhere.
    await_gone(i32::try_from(first.detail["descendant"].as_i64().expect("a pid")).expect("a pid"));
    stage.passes();
    assert_eq!((stage.count("worker 1", "start"), stage.count("worker 2", "start")), (2, 1));
    // Once ready, a replacement has done its duty: the next one hears of the next owner only.
    send(second.pid, Signal::SIGKILL);
    assert_eq!(stage.event("worker 1", "start").detail["recover"], json!([second.detail["owner"]]));
}

fn crash_loop_waits_grow() {
    let mut stage = Stage::new(json!({ "worker 2": ["crash"] }), &config());
    let starts: Vec<_> = (0..8).map(|_| stage.event_at("worker 2", "start").0).collect();
    let gaps: Vec<_> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (gap, wait) in gaps.iter().zip([50, 75, 150, 300, 600, 600, 600]) {
        assert!(*gap >= Duration::from_millis(wait - 10), "{gaps:?}");
    }
    stage.note("1 of 2 workers ready; worker 2 restarting in 1 s: exit 1");
    assert_eq!((stage.notes.count(|note| note == "READY=1"), stage.count("worker 1", "start")), (0, 1));
}

fn configuration_error_before_ready_stops_the_daemon() {
    let mut stage = Stage::new(json!({ "worker 2": ["config"] }), &config());
    assert_eq!(stage.exit(), Some(78));
    stage.note("STOPPING=1");
    stage.note("worker 2 halted: no such database: 99");
    assert_eq!(stage.notes.count(|note| note == "READY=1"), 0);
    assert!(stage.log().contains("no such database: 99"));
    assert_eq!(stage.count("worker 2", "start"), 1);
}

fn configuration_error_after_ready_halts_the_slot() {
    let mut stage = Stage::new(json!({ "worker 2": ["work", "config"] }), &config()).ready();
    send(stage.event("worker 2", "start").pid, Signal::SIGKILL);
    stage.note("STATUS=1/4 slots busy, 1,204 waiting, 0 tasks/s; worker 2 halted: no such database: 99");
    stage.passes();
    assert_eq!((stage.count("worker 1", "start"), stage.count("worker 2", "start")), (1, 2));
    stage.signal(Signal::SIGTERM);
    assert_eq!(stage.exit(), Some(0));
}

fn term_drains() {
    let mut stage = Stage::new(json!({ "worker 1": ["stay"] }), &config()).ready();
    stage.signal(Signal::SIGTERM);
    stage.note("STOPPING=1");
    for worker in ["worker 1", "worker 2"] {
        assert_eq!(
            stage.event(worker, "drain").detail,
            json!({ "order": "drain", "within_ms": 30_000, "replaced": false, "succeeded": false })
        );
    }
    stage.note("EXTEND_TIMEOUT_USEC=");
    stage.note("STATUS=draining: 1 task still runs, ");
    stage.passes();
    send(stage.event("worker 1", "start").pid, Signal::SIGUSR2);
    assert_eq!(stage.exit(), Some(0));
    assert_eq!((stage.count("worker 1", "start"), stage.count("worker 2", "start")), (1, 1));
    assert_eq!((stage.count("worker 1", "hand_back"), stage.count("worker 1", "recover")), (0, 0));
}

fn second_term_hands_back() {
    let mut stage = Stage::new(json!({ "worker 1": ["stay"] }), &config()).ready();
    stage.signal(Signal::SIGINT);
    stage.event("worker 1", "drain");
    stage.signal(Signal::SIGTERM);
    stage.event("worker 1", "hand_back");
    assert_eq!(stage.exit(), Some(75));
}

fn deaf_worker_is_killed_when_its_time_is_over() {
    let mut config = config();
    config.workers.drain_timeout = Duration::from_millis(100);
    let mut stage = Stage::new(json!({ "worker 1": ["deaf"] }), &config).ready();
    stage.signal(Signal::SIGTERM);
    let (told, event) = stage.event_at("worker 1", "drain");
    assert_eq!(stage.exit(), Some(70));
    assert!(told.elapsed() >= Duration::from_secs(5));
    await_gone(event.pid);
}

fn crash_during_drain_is_recovered_and_not_restarted() {
    let mut stage = Stage::new(json!({ "worker 1": ["stay"], "worker 2": ["stay"] }), &config()).ready();
    let (first, second) = (stage.event("worker 1", "start"), stage.event("worker 2", "start"));
    stage.signal(Signal::SIGTERM);
    stage.event("worker 2", "drain");
    send(first.pid, Signal::SIGKILL);
    assert_eq!(stage.event("worker 2", "recover").detail["owners"], json!([first.detail["owner"]]));
    stage.passes();
    send(second.pid, Signal::SIGKILL);
    assert_eq!(stage.exit(), Some(70));
    assert_eq!((stage.count("worker 1", "start"), stage.count("worker 2", "start")), (1, 1));
    assert!(stage.log().contains("its claims return when its lease in Redis ends"), "{}", stage.log());
}

fn children_do_not_outlive_the_supervisor() {
    let mut stage = Stage::new(json!({}), &python()).ready();
    let children = ["worker 1", "worker 2", "zygote"].map(|who| (who, stage.event(who, "start").pid));
    stage.signal(Signal::SIGKILL);
    for (who, pid) in children {
        stage.event(who, "eof");
        await_gone(pid);
    }
}

fn signal_to_a_child_is_not_ours() {
    let mut stage = Stage::new(json!({}), &config()).ready();
    let pid = stage.event("worker 1", "start").pid;
    send(pid, Signal::SIGTERM);
    assert_eq!(stage.event("worker 1", "term").pid, pid);
    stage.passes();
    assert_eq!(stage.notes.count(|note| note == "STOPPING=1"), 0);
    assert_eq!((stage.count("worker 1", "drain"), stage.count("worker 1", "start")), (0, 1));
}

fn zygote_is_replaced_and_connections_wait() {
    let mut stage = Stage::new(json!({}), &python()).ready();
    let (first, worker) = (stage.event("zygote", "start"), stage.event("worker 1", "start"));
    assert!(first.detail["listener"].as_i64().is_some_and(|number| number > 2));
    stage.event("zygote", "accepted");
    stage.event("zygote", "accepted");
    let name: Vec<u8> = serde_json::from_value(worker.detail["zygote"].clone()).expect("a name");
    let address = SocketAddr::from_abstract_name(name).expect("a name");
    send(first.pid, Signal::SIGSTOP);
    send(first.pid, Signal::SIGKILL);
    // Reaped, and not only a zombie: a thread of it that dies later could still take the connection with it.
    await_reaped(first.pid);
    // Whether the next one is up yet or not: somebody listens at all times.
    let _waits = UnixStream::connect_addr(&address).expect("somebody listens");
    assert_ne!(stage.event("zygote", "start").pid, first.pid);
    stage.event("zygote", "accepted");
    assert_eq!((stage.count("worker 1", "start"), stage.count("worker 2", "start")), (1, 1));
}

fn zygote_ends_after_the_workers() {
    let mut stage = Stage::new(json!({ "worker 1": ["stay"] }), &python()).ready();
    stage.signal(Signal::SIGTERM);
    stage.event("worker 1", "drain");
    stage.passes();
    assert_eq!(stage.count("zygote", "eof"), 0);
    send(stage.event("worker 1", "start").pid, Signal::SIGUSR2);
    stage.event("zygote", "eof");
    assert_eq!(stage.exit(), Some(0));
}

fn stubborn_zygote_is_killed() {
    let mut stage = Stage::new(json!({ "zygote": ["stubborn"] }), &python()).ready();
    stage.signal(Signal::SIGTERM);
    let (told, event) = stage.event_at("zygote", "eof");
    assert_eq!(stage.exit(), Some(0));
    assert!(told.elapsed() >= Duration::from_millis(4_900));
    await_gone(event.pid);
}

fn stopping_without_a_zygote_does_not_spin() {
    let mut config = python();
    (config.workers.restart_min, config.workers.restart_max) = (Duration::from_secs(2), Duration::from_secs(2));
    let mut stage = Stage::new(json!({ "worker 1": ["stay"] }), &config).ready();
    send(stage.event("zygote", "start").pid, Signal::SIGKILL);
    stage.note("; application restarting in ");
    stage.signal(Signal::SIGTERM);
    stage.note("STOPPING=1");
    stage.passes();
    let before = stage.cpu_ticks();
    stage.passes();
    assert!(stage.cpu_ticks() - before < 20);
    assert_eq!(stage.count("zygote", "start"), 1);
}

fn application_that_cannot_be_imported_stops_the_daemon() {
    let mut stage = Stage::new(json!({ "zygote": ["fail"] }), &python());
    assert_eq!(stage.exit(), Some(78));
    stage.note("application halted: ImportError: no shop");
    assert!(stage.log().contains("Traceback (most recent call last):\n    ImportError: no shop"), "{}", stage.log());
}

fn application_broken_later_is_tried_again() {
    let mut stage = Stage::new(json!({ "zygote": ["import", "fail", "fail", "import"] }), &python()).ready();
    send(stage.event("zygote", "start").pid, Signal::SIGKILL);
    for _ in 0..3 {
        stage.event("zygote", "start");
    }
    stage.event("zygote", "accepted");
    stage.passes();
    assert_eq!(stage.notes.count(|note| note == "STOPPING=1"), 0);
    assert_eq!((stage.count("zygote", "start"), stage.count("worker 1", "start")), (4, 1));
}

fn missing_interpreter_stops_the_daemon() {
    let mut config = python();
    config.python = config.python.map(|python| fairstalk::config::Python { interpreter: "/no/such".into(), ..python });
    let mut stage = Stage::new(json!({}), &config);
    assert_eq!(stage.exit(), Some(78));
    stage.note("application halted: can't start the interpreter: No such file");
}

fn pause_and_resume_reach_everybody() {
    let mut stage = Stage::new(json!({}), &config()).ready();
    stage.signal(Signal::SIGTSTP);
    stage.event("worker 1", "pause");
    stage.event("worker 2", "pause");
    stage.note("STATUS=paused: 2/8 slots busy");
    send(stage.event("worker 1", "start").pid, Signal::SIGKILL);
    stage.event("worker 1", "start");
    stage.event("worker 1", "pause");
    stage.signal(Signal::SIGCONT);
    stage.event("worker 1", "resume");
    stage.event("worker 2", "resume");
    stage.note("STATUS=2/8 slots busy");
}

fn second_thread_is_refused() {
    let mut stage = Stage::with(json!({}), &config(), &[("FAKE_THREAD", "1")]);
    assert_eq!(stage.exit(), Some(70));
    assert!(stage.log().contains("2 threads"), "{}", stage.log());
}
