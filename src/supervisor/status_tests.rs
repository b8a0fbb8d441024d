use super::*;

fn part<'a>(name: &str, state: &'a State, note: Option<&'a str>, beat: Option<Beat>) -> Part<'a> {
    Part { name: name.to_owned(), state, note, beat }
}

fn beat(busy: u32) -> Option<Beat> {
    Some(Beat { busy, slots: 4, ..Beat::default() })
}

fn view<'a>() -> View<'a> {
    View {
        doing: Doing::Running,
        workers: vec![],
        zygotes: vec![],
        waiting: 1_204,
        tenants: None,
        rate: 96.4,
        reload_failure: None,
    }
}

#[test]
fn tenants_and_a_failed_reload_are_told() {
    let (now, ready) = (Instant::now(), State::Ready);
    let workers = || vec![part("worker 1", &ready, None, beat(4))];
    let told = |view| text(&view, now);
    let with = View { workers: workers(), tenants: Some(37), ..view() };
    assert_eq!(told(with), "4/4 slots busy, 1,204 waiting, 37 tenants, 96 tasks/s");
    let with = View { workers: workers(), reload_failure: Some("x.toml: no\n"), tenants: Some(1), ..view() };
    assert_eq!(told(with), "4/4 slots busy, 1,204 waiting, 1 tenant, 96 tasks/s; reload failed: x.toml: no");
    let with = View { doing: Doing::Reloading { what: "x" }, reload_failure: Some("before"), ..view() };
    assert_eq!(told(with), "reloading: x");
}

#[test]
fn says_what_the_daemon_does() {
    let now = Instant::now();
    let (ready, starting, draining) = (State::Ready, State::Starting, State::Draining);
    let until = State::Waiting { until: now + Duration::from_millis(3_400) };
    let halted = State::Halted { reason: "exit 78: no such app".to_owned() };
    let stopped = State::Halted { reason: String::new() };
    let deadline = now + Duration::from_secs(54);
    let redis = Some("Redis at 127.0.0.1:6379: connection refused");
    let trace = "Traceback (most recent call last):\n  File \"x.py\"\nImportError: no\tway\n\n";
    let table = [
        (
            Doing::Running,
            vec![part("worker 1", &ready, None, beat(4)), part("worker 2", &ready, None, beat(4))],
            vec![],
            "8/8 slots busy, 1,204 waiting, 96 tasks/s",
        ),
        (
            Doing::Running,
            vec![part("worker 1", &ready, None, beat(1)), part("worker 2", &until, Some("SIGKILL"), None)],
            vec![],
            "1/4 slots busy, 1,204 waiting, 96 tasks/s; worker 2 restarting in 4 s: SIGKILL",
        ),
        (
            Doing::Running,
            vec![part("worker 1", &ready, redis, beat(0)), part("worker 2", &starting, None, None)],
            vec![],
            "0/4 slots busy, 1,204 waiting, 96 tasks/s; worker 1: Redis at 127.0.0.1:6379: connection refused; worker 2 starting",
        ),
        (
            Doing::Running,
            vec![part("worker 1", &ready, None, beat(0)), part("worker 2", &halted, None, None)],
            vec![],
            "0/4 slots busy, 1,204 waiting, 96 tasks/s; worker 2 halted: exit 78: no such app",
        ),
        (
            Doing::Starting,
            vec![part("worker 1", &ready, None, beat(0)), part("worker 2", &starting, redis, None)],
            vec![part("application", &starting, None, None)],
            "starting: 1 of 2 workers ready; worker 2: Redis at 127.0.0.1:6379: connection refused",
        ),
        (
            Doing::Running,
            vec![part("worker 1", &ready, None, beat(0))],
            vec![part("application", &until, Some(trace), None)],
            "0/4 slots busy, 1,204 waiting, 96 tasks/s; application restarting in 4 s: ImportError: no way",
        ),
        (Doing::Paused, vec![part("worker 1", &ready, None, beat(2))], vec![], "paused: 2/4 slots busy, 1,204 waiting"),
        (
            Doing::Stopping { deadline },
            vec![part("worker 1", &draining, None, beat(3)), part("worker 2", &stopped, None, None)],
            vec![],
            "draining: 3 tasks still run, 54 s left",
        ),
        (
            Doing::Stopping { deadline: now },
            vec![part("worker 1", &draining, None, beat(1))],
            vec![],
            "draining: 1 task handed back",
        ),
        (
            Doing::Stopping { deadline },
            vec![part("worker 1", &draining, None, beat(0))],
            vec![],
            "draining: no task runs any more",
        ),
        (
            Doing::Reloading { what: "worker 2 of 4" },
            vec![part("worker 2", &ready, None, beat(0)), part("worker 2", &starting, redis, None)],
            vec![],
            "reloading: worker 2 of 4; worker 2: Redis at 127.0.0.1:6379: connection refused",
        ),
    ];
    for (doing, workers, zygotes, expected) in table {
        assert_eq!(text(&View { doing, workers, zygotes, ..view() }, now), expected);
    }
}

#[test]
fn a_long_text_is_cut_at_a_character() {
    let (now, ready, long) = (Instant::now(), State::Ready, "ü".repeat(1_000));
    let workers = vec![part("worker 1", &ready, Some(&long), None)];
    let text = text(&View { workers, ..view() }, now);
    assert!(text.len() <= LONGEST && text.ends_with("ü…"), "{text}");
}

#[test]
fn figures_are_readable() {
    let groups: Vec<String> = [0, 999, 1_000, 1_234_567].into_iter().map(grouped).collect();
    assert_eq!(groups, ["0", "999", "1,000", "1,234,567"]);
    let rates: Vec<String> = [0.0, 0.41, 9.9, 9.96, 1234.4].into_iter().map(rate).collect();
    assert_eq!(rates, ["0", "0.4", "9.9", "10", "1234"]);
}

#[test]
fn throughput_is_that_of_the_last_seconds() {
    let (start, second) = (Instant::now(), Duration::from_secs(1));
    let mut throughput = Throughput::default();
    assert_eq!(throughput.rate(start), 0.0);
    for tick in 0..10 {
        throughput.add(if tick == 0 { 0 } else { 100 }, start + tick * second);
    }
    assert!((throughput.rate(start + 9 * second) - 100.0).abs() < 1.0);
    assert!(throughput.rate(start + 12 * second) < 70.0);
    assert_eq!(throughput.rate(start + 60 * second), 0.0);
    assert!(throughput.samples.len() <= 2);
}
