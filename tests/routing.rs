//! `fairstalk route` against the function of the Python side, over ids of every kind.

#![allow(clippy::unwrap_used, reason = "a test may panic, outside its #[test] functions too")]

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Output, Stdio};

/// The rule as producers have it: one JSON list of ids in, one queue number a line out.
const PYTHON: &str = "
import hashlib, json, sys
ids, count = json.load(sys.stdin)
for user_id in ids:
    print(int(hashlib.md5(str(user_id).encode()).hexdigest(), 16) % count)
";

/// The real binary, with an empty configuration and no environment of the machine's own.
fn route(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fairstalk"));
    command
        .arg("route")
        .args(arguments)
        .env_clear()
        .env("FAIRSTALK_CONFIG", "/dev/null")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn feed(mut command: Command, input: Vec<u8>) -> Output {
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // In a thread of its own: the answer may fill its pipe before the question is out.
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join().unwrap();
    output
}

fn lines(output: &Output) -> Vec<String> {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap().lines().map(str::to_owned).collect()
}

/// What Python says about these ids.
fn python(ids: &[String], count: u32) -> Vec<String> {
    let mut command = Command::new("python3");
    command.args(["-c", PYTHON]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let input = serde_json::to_vec(&(ids, count)).unwrap();
    lines(&feed(command, input)).iter().map(|number| format!("queue_{number}")).collect()
}

fn ids() -> Vec<String> {
    let mut random = fastrand::Rng::with_seed(20);
    let mut ids: Vec<String> = (-500..3000).map(|number: i32| number.to_string()).collect();
    ids.extend((0..1000).map(|_| random.u128(..).to_string()));
    ids.extend((0..1000).map(|_| {
        let hex = format!("{:032x}", random.u128(..));
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }));
    ids.extend((0..1000).map(|_| {
        let length = random.usize(0..40);
        (0..length).map(|_| random.char(..)).filter(|c| *c != '\n').collect()
    }));
    let odd = [
        "",
        " ",
        " 1",
        "1 ",
        "1.0",
        "1e3",
        "None",
        "-",
        "--",
        "zoë",
        "用户7",
        "🦀",
        "\t",
        "\r",
        "a\rb",
        "\0",
        "\u{feff}1",
        "'; --",
    ];
    ids.extend(odd.map(str::to_owned));
    ids.extend([1000, 65_535, 1_000_000].map(|length| "x".repeat(length)));
    ids
}

#[test]
fn thousands_of_ids_go_where_python_sends_them() {
    let ids = ids();
    let output = feed(route(&["-"]), (ids.join("\n") + "\n").into_bytes());
    let (ours, theirs) = (lines(&output), python(&ids, 20));
    assert_eq!(ours.len(), ids.len());
    for ((id, ours), theirs) in ids.iter().zip(&ours).zip(&theirs) {
        assert_eq!(ours, theirs, "{id:?}");
    }
}

#[test]
fn the_count_of_the_configuration_is_used() {
    let ids: Vec<String> = (0..500).map(|number| number.to_string()).collect();
    for count in [1, 7, 64, 1000] {
        let mut command = route(&[]);
        command.env("FAIRSTALK_QUEUES__COUNT", count.to_string());
        let output = feed(command, ids.join("\n").into_bytes());
        assert_eq!(lines(&output), python(&ids, count), "count {count}");
    }
}

#[test]
fn ids_are_taken_from_arguments_too_newlines_and_all() {
    let ids = ["1", "-5", "-1.5", "", "a\nb", "zoë", "two words", "\n"].map(str::to_owned);
    let arguments: Vec<&str> = ids.iter().map(String::as_str).collect();
    assert_eq!(lines(&feed(route(&arguments), Vec::new())), python(&ids, 20));
    let dashed = ["-x", "--json"].map(str::to_owned);
    assert_eq!(lines(&feed(route(&["--", "-x", "--json"]), Vec::new())), python(&dashed, 20));
}

#[test]
fn a_dash_among_the_arguments_is_the_standard_input() {
    let ids = ["1", "2", "3", "4"].map(str::to_owned);
    assert_eq!(lines(&feed(route(&["1", "-", "4"]), b"2\n3".to_vec())), python(&ids, 20));
    assert_eq!(lines(&feed(route(&[]), Vec::new())), Vec::<String>::new());
}

#[test]
fn an_id_is_the_bytes_of_its_line() {
    // Not UTF-8, so Python's str() never makes it; it still goes to one queue, by its bytes.
    let output = feed(route(&["-"]), b"\xff\xfe\n\n".to_vec());
    let expected = [b"\xff\xfe".as_slice(), b""].map(|id| format!("queue_{}", fairstalk::routing::queue_index(id, 20)));
    assert_eq!(lines(&output), expected);
}

#[test]
fn json_is_one_object_per_line() {
    let output = feed(route(&["--json", "42", "a\"\nb"]), Vec::new());
    let rows: Vec<serde_json::Value> = lines(&output).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows[0], serde_json::json!({"user": "42", "queue": "queue_14"}));
    assert_eq!(rows[1]["user"], "a\"\nb");
    assert_eq!(rows.len(), 2);
}

#[test]
fn an_answer_comes_before_the_next_question() {
    let mut child = route(&[]).spawn().unwrap();
    let (mut stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut stdout = BufReader::new(stdout);
    for _ in 0..3 {
        stdin.write_all(b"42\n").unwrap();
        let mut answer = String::new();
        stdout.read_line(&mut answer).unwrap();
        assert_eq!(answer, "queue_14\n");
    }
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_reader_that_has_enough_is_no_failure() {
    let mut child = route(&[]).spawn().unwrap();
    drop(child.stdout.take().unwrap());
    let mut stdin = child.stdin.take().unwrap();
    // It ends at its first write, so the pipe breaks here in turn.
    while stdin.write_all(&b"42\n".repeat(10_000)).is_ok() {}
    let mut complaints = String::new();
    child.stderr.take().unwrap().read_to_string(&mut complaints).unwrap();
    assert_eq!((child.wait().unwrap().code(), complaints.as_str()), (Some(0), ""));
}
