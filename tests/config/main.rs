//! The loader: what a file becomes, and every problem of a bad one, word for word.

#![allow(clippy::unwrap_used, reason = "a test may panic, outside its #[test] functions too")]

mod nodes;
mod secure;
mod slots;
mod tasks;

use fairstalk::config::{self, Config, Environment, Level, Mode, Problems, SECTIONS, Surroundings, TaskLines};
use std::path::{Path, PathBuf};
use std::time::Duration;

const FILE: &str = "/etc/fairstalk/fairstalk.toml";

fn surroundings(variables: &[(&str, &str)]) -> Surroundings {
    Surroundings { environment: variables.iter().copied().collect::<Environment>(), cores: 6 }
}

fn parse_with(text: &str, variables: &[(&str, &str)]) -> Result<Config, Problems> {
    config::parse(text, Path::new(FILE), &surroundings(variables))
}

fn good_with(text: &str, variables: &[(&str, &str)]) -> Config {
    parse_with(text, variables).unwrap_or_else(|problems| panic!("{problems}"))
}

fn good(text: &str) -> Config {
    good_with(text, &[])
}

/// What is said about a bad configuration.
fn said_with(text: &str, variables: &[(&str, &str)]) -> String {
    match parse_with(text, variables) {
        Ok(config) => panic!("accepted: {config:?}"),
        Err(problems) => problems.to_string(),
    }
}

fn said(text: &str) -> String {
    said_with(text, &[])
}

/// Keys of the problems, in their order.
fn keys(text: &str) -> Vec<String> {
    parse_with(text, &[]).err().map_or(Vec::new(), |problems| problems.list.into_iter().map(|p| p.key).collect())
}

#[test]
fn an_empty_file_gives_the_defaults() {
    let config = good("");
    assert_eq!(config.broker.url, "redis://127.0.0.1:6379/0");
    assert_eq!(config.results.url, config.broker.url);
    assert_eq!(config.broker.timeout, Duration::from_secs(5));
    assert_eq!(config.broker.visibility_timeout, Duration::from_secs(3600));
    assert_eq!(config.queues.names.len(), 20);
    assert_eq!((config.queues.names[0].as_str(), config.queues.names[19].as_str()), ("queue_0", "queue_19"));
    assert_eq!(config.queues.default, "queue_0");
    assert_eq!((config.workers.processes, config.workers.concurrency.max), (2, 4));
    assert_eq!(config.workers.drain_timeout, Duration::from_secs(60));
    assert_eq!(config.python, None);
    assert_eq!(config.delivery.accept, ["application/json"]);
    assert_eq!((config.delivery.mode, config.delivery.keep_failed), (Mode::AtLeastOnce, false));
    assert_eq!(config.delivery.max_message_size, 64 << 20);
    assert_eq!(config.delivery.dead_letters_age, Duration::from_secs(30 * 86_400));
    assert_eq!((config.log.level, config.log.tasks), (Level::Info, TaskLines::Failures));
}

#[test]
fn without_anything_to_run_only_reading_commands_work() {
    let problems = good("").runnable().unwrap_err().to_string();
    assert!(problems.contains("neither [python] nor any [tasks.\"name\"]"), "{problems}");
    assert!(good("[python]\napp = \"shop\"").runnable().is_ok());
    assert!(good("[tasks.x]\ncommand = [\"true\"]").runnable().is_ok());
}

#[test]
fn a_whole_application_is_read() {
    let config = good(
        r#"
        [queues]
        prefix = "q"
        count = 3
        default = "q2"
        [python]
        app = "shop.celery:app"
        directory = "../../srv/shop"
        interpreter = "venv/bin/python"
        env = { DJANGO_SETTINGS_MODULE = "shop.settings" }
        [tasks."thumbnails.render"]
        command = ["render", "a\nb"]
        retry_jitter = false
        time_limit = "90s"
        "#,
    );
    assert_eq!(config.queues.names, ["q0", "q1", "q2"]);
    let python = config.python.unwrap();
    assert_eq!(python.directory, PathBuf::from("/etc/fairstalk/../../srv/shop"));
    assert_eq!(python.interpreter, PathBuf::from("/etc/fairstalk/venv/bin/python"));
    assert_eq!(python.env["DJANGO_SETTINGS_MODULE"], "shop.settings");
    assert_eq!(good("[python]\napp = \"shop\"").python.unwrap().directory, PathBuf::from("/etc/fairstalk"));
    let task = &config.tasks["thumbnails.render"];
    assert_eq!(task.command, ["render", "a\nb"]);
    assert_eq!((task.retry_jitter, task.max_retries, task.time_limit), (false, 3, Some(Duration::from_secs(90))));
    assert_eq!(task.directory, PathBuf::from("/"));
}

#[test]
fn a_typo_at_each_level_is_an_error_with_a_suggestion() {
    let text = r#"
        concurency = 3
        [worker]
        processes = 2
        [queues]
        prefx = "queue_"
        processes = 3
        [log]
        zzz = 1
        [tasks."thumbnails.render"]
        command = ["true"]
        comand = ["false"]
        [tasks.mail.send]
        command = ["true"]
    "#;
    let expected = r#"8 problems in /etc/fairstalk/fairstalk.toml

  concurency
    problem: there is no such section
    remedy:  take it out; known are [broker], [queues], [workers], [python], [tenancy], [results], [delivery], [log], [tasks]

  worker
    problem: there is no such section
    remedy:  did you mean [workers]?

  queues.prefx
    problem: there is no such key
    remedy:  did you mean "prefix"?

  queues.processes
    problem: there is no such key
    remedy:  it belongs into [workers]

  tasks."mail".command
    problem: is missing
    remedy:  write the program and its arguments: command = ["/usr/local/bin/render", "--fast"]

  tasks."mail".send
    problem: there is no such key
    remedy:  a task's name with a dot stands in quotes: write [tasks."mail.send"]

  tasks."thumbnails.render".comand
    problem: there is no such key
    remedy:  did you mean "command"?

  log.zzz
    problem: there is no such key
    remedy:  take it out; known here are level, tasks, format, journal_socket, storm_window, storm_lines, storm_output, task_output"#;
    assert_eq!(said(text), expected);
    assert!(said("concurrency = 3").contains("it belongs into [workers]"));
}

#[test]
fn all_problems_are_told_at_once() {
    let text = r#"
        [broker]
        timeout = 5
        visibility_timeout = "200ms"
        [queues]
        count = 0
        [workers]
        processes = "two"
        concurrency = 1000
        liveness_timeout = "1s"
        reload_timeout = "2h"
        restart_min = "1m"
        [python]
        app = "my app"
        env = { A = 1 }
        [delivery]
        accept = ["jsn"]
        max_message_size = "10"
        [log]
        level = "warn"
    "#;
    let expected = r#"13 problems in /etc/fairstalk/fairstalk.toml

  broker.timeout = 5
    problem: is a number without a unit; units are ms, s, m, h, d
    remedy:  write for example "5s", in quotes

  broker.visibility_timeout = "200ms"
    problem: is not between 1s and 365d
    remedy:  write a value from "1s" to "365d"

  queues.count = 0
    problem: is not between 1 and 1000
    remedy:  write a number from 1 to 1000

  workers.processes = "two"
    problem: is not a whole number
    remedy:  write a number from 1 to 64, or "auto"

  workers.concurrency = 1000
    problem: is not between 1 and 256
    remedy:  write a number from 1 to 256, "auto", or { min = 2, max = 10 }

  workers.liveness_timeout = "1s"
    problem: is not between 3s and 1h
    remedy:  write a value from "3s" to "1h"

  workers.reload_timeout = "2h"
    problem: is not between 1s and 1h
    remedy:  write a value from "1s" to "1h"

  workers.restart_min = "1m"
    problem: restart_min, 1m, is longer than restart_max, 30s
    remedy:  let restart_min be the shorter one

  python.app = "my app"
    problem: is not the name of a Python module
    remedy:  write it as in `celery -A`: "imgbackend", "imgbackend.celery" or "imgbackend.celery:app"

  python.env
    problem: the value of A is a whole number, not a string
    remedy:  write a table of strings: { NAME = "value" }

  delivery.accept = ["jsn"]
    problem: "jsn" is not a content type
    remedy:  did you mean "json"?

  delivery.max_message_size = "10"
    problem: is a number without a unit; units are B, KB, MB, GB, KiB, MiB, GiB
    remedy:  write for example "10MiB", in quotes

  log.level = "warn"
    problem: is not a word known here
    remedy:  did you mean "warning"? Known are "debug", "info", "warning", "error""#;
    assert_eq!(said(text), expected);
}

#[test]
fn what_bounds_the_log_is_checked() {
    let text = r#"
        [log]
        format = "jurnal"
        journal_socket = "run/socket"
        storm_window = "1ms"
        storm_lines = -1
        storm_output = "many"
        task_output = 9999999999
    "#;
    let expected = r#"6 problems in /etc/fairstalk/fairstalk.toml

  log.format = "jurnal"
    problem: is not a word known here
    remedy:  did you mean "journal"? Known are "auto", "text", "json", "journal"

  log.journal_socket = "run/socket"
    problem: is not an absolute path
    remedy:  write the whole path, from / on

  log.storm_window = "1ms"
    problem: is not between 1s and 1h
    remedy:  write a value from "1s" to "1h"

  log.storm_lines = -1
    problem: is not between 0 and 1000000
    remedy:  write a number from 0 to 1000000

  log.storm_output = "many"
    problem: is not a whole number
    remedy:  write a number from 0 to 1000000

  log.task_output = 9999999999
    problem: is not between 0 and 1000000000
    remedy:  write a number from 0 to 1000000000"#;
    assert_eq!(said(text), expected);
}

#[test]
fn a_syntax_error_has_its_place_and_not_its_line() {
    let problems = said("[broker]\nurl = \"redis://:s3cret@h/0\n[queues]\n");
    assert!(problems.contains("  line 2, column "), "{problems}");
    assert!(problems.contains("this is not TOML: "), "{problems}");
    assert!(!problems.contains("s3cret"), "{problems}");
    let problems = said("[broker]\nkey_prefix = \"\"\nkey_prefix = \"zoë\"\n");
    assert!(problems.contains("  line 3, column 1\n"), "{problems}");
}

#[test]
fn time_limits_of_python_tasks() {
    let python = |keys: &str| parse_with(&format!("[python]\napp = \"a\"\n{keys}"), &[]);
    let limits = |keys| python(keys).unwrap().python.map(|python| (python.time_limit, python.soft_time_limit)).unwrap();
    assert_eq!(limits(""), (None, None));
    let expected = (Some(Duration::from_secs(60)), Some(Duration::from_millis(500)));
    assert_eq!(limits("time_limit = \"1m\"\nsoft_time_limit = \"500ms\""), expected);
    let problems = python("time_limit = \"1m\"\nsoft_time_limit = \"60s\"").unwrap_err().to_string();
    assert!(problems.contains("python.soft_time_limit = \"60s\""), "{problems}");
    assert!(problems.contains("is not before time_limit, 1m"), "{problems}");
    for bad in ["\"0s\"", "\"31d\"", "30", "\"soon\""] {
        for key in ["time_limit", "soft_time_limit"] {
            let problems = python(&format!("{key} = {bad}")).unwrap_err().to_string();
            assert!(problems.contains(&format!("python.{key}")), "{problems}");
        }
    }
}

#[test]
fn values_of_the_wrong_kind_are_problems_and_never_panics() {
    let values = [
        "1",
        "-1",
        "9223372036854775807",
        "1.5",
        "true",
        "\"\"",
        "\"\\u0000\"",
        "\"-\"",
        "[]",
        "[1]",
        "[\"\"]",
        "{}",
        "1979-05-27",
    ];
    for (section, section_keys) in SECTIONS {
        for value in values {
            let _ = parse_with(&format!("{section} = {value}"), &[]);
            for key in *section_keys {
                let header = if *section == "tasks" { "tasks.x" } else { section };
                let _ = parse_with(&format!("[{header}]\n{key} = {value}"), &[]);
                let variable = config::variable(section, key);
                let _ = parse_with("", &[(&variable, value), (&variable, "")]);
            }
        }
    }
    assert!(said("broker = 5").contains("broker\n    problem: is a whole number, not a section"));
    assert!(said("tasks = 5").contains("tasks\n    problem: is not a section"));
    assert!(said("[tasks]\nx = 5").contains("tasks.\"x\"\n    problem: is not a table"));
}

#[test]
fn secrets_are_never_shown() {
    let texts = [
        "[broker]\nurl = \"http://:s3cret@h\"",
        "[broker]\nurl = \"redis://:s3cret/@h\"",
        "[broker]\nurl = [\"s3cret\"]",
        "[broker]\nurll = \"s3cret\"",
        "[brokr]\nurl = \"s3cret\"",
        "broker = \"redis://:s3cret@h\"",
        "[broker]\nurl = \"rediss://:s3cret@h/0?ssl_ca_certs=/nowhere\"",
        "[broker]\nurl = \"sentinel://:s3cret@h/0\"",
        "[results]\nurl = \"redis://:s3cret@elsewhere/0\"",
        "[python]\napp = \"a\"\nenv = { KEY = [\"s3cret\"] }",
        "[python]\napp = \"a\"\nenv = \"s3cret\"",
        "[tasks.x]\ncommand = [\"a\"]\nenv = { KEY = [\"s3cret\"] }",
    ];
    for text in texts {
        let problems = said(text);
        assert!(!problems.contains("s3cret"), "{problems}");
    }
    for name in ["BROKER__URL", "BROKER__URLL", "RESULTS__URL", "PYTHON__ENV", "PASS__WORD"] {
        let problems = said_with("", &[(&format!("FAIRSTALK_{name}"), "redis+x://:s3cret@h")]);
        assert!(!problems.contains("s3cret"), "{problems}");
    }
    assert!(!format!("{:?}", good("[broker]\nurl = \"redis://:s3cret@h\"")).contains("s3cret"));
}

#[test]
fn results_live_on_the_brokers_server() {
    let urls = |text: &str| {
        let config = good(text);
        (config.broker.url, config.results.url)
    };
    let pair = |broker: &str, results: &str| (broker.to_owned(), results.to_owned());
    let text =
        "[broker]\nurl = \"redis+socket:///run/r.sock?virtual_host=3\"\n[results]\nurl = \"unix:///run/r.sock?db=4\"";
    assert_eq!(urls(text), pair("unix:///run/r.sock?db=3", "unix:///run/r.sock?db=4"));
    let text = "[broker]\nurl = \"redis://u:p%23@localhost\"\n[results]\nurl = \"redis://127.0.0.1/1\"";
    assert_eq!(urls(text), pair("redis://u:p%23@localhost:6379/0", "redis://u:p%23@127.0.0.1:6379/1"));
    let text = "[broker]\nurl = \"redis://u:p@h\"\n[results]\nurl = \"redis://v:q@h/1\"";
    assert_eq!(urls(text), pair("redis://u:p@h:6379/0", "redis://v:q@h:6379/1"));
    let expected = "1 problem in /etc/fairstalk/fairstalk.toml

  results.url
    problem: b:6379 is not the broker's server, a:6379
    remedy:  results live on the broker's server; only the number of the database may differ";
    assert_eq!(said("[broker]\nurl = \"redis://a/0\"\n[results]\nurl = \"redis://b/0\""), expected);
    assert_eq!(
        keys("[broker]\nurl = \"x\"\n[results]\nurl = \"redis://b/0\""),
        ["broker.url"],
        "nothing to compare with"
    );
}

#[test]
fn a_password_comes_from_a_file_or_a_credential() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("redis");
    let place = path.to_str().unwrap();
    let urls = |text: &str, variables: &[(&str, &str)]| {
        let config = good_with(text, variables);
        (config.broker.url, config.results.url)
    };
    std::fs::write(&path, "p@ss %#+\n").unwrap();
    let merged = "redis://:p%40ss%20%25%23%2B@127.0.0.1:6379/";
    let text = format!("[broker]\npassword_file = \"{place}\"\n[results]\nurl = \"redis://127.0.0.1/1\"");
    assert_eq!(urls(&text, &[]), (format!("{merged}0"), format!("{merged}1")));
    let directory = ("CREDENTIALS_DIRECTORY", folder.path().to_str().unwrap());
    assert_eq!(urls("[broker]\npassword_file = \"redis\"", &[directory]).0, format!("{merged}0"));
    let socket = "[broker]\nurl = \"unix:///r.sock\"\npassword_file = \"redis\"";
    assert_eq!(urls(socket, &[directory]).0, "unix:///r.sock?db=0&pass=p%40ss%20%25%23%2B");
    // The crate that connects must read the same password.
    let info: redis::ConnectionInfo = urls(socket, &[directory]).0.parse().unwrap();
    assert_eq!(info.redis_settings().password(), Some("p@ss %#+"));

    let problems = said("[broker]\npassword_file = \"redis\"");
    assert!(
        problems.contains("broker.password_file = \"redis\"\n    problem: is the name of a systemd credential"),
        "{problems}"
    );
    assert!(said("[broker]\npassword_file = \"./redis\"").contains("is neither an absolute path nor a bare name"));
    assert!(said("[broker]\npassword_file = \"/nowhere/redis\"").contains("can't be read: No such file"));
    assert!(said("[broker]\npassword_file = \"/dev/zero\"").contains("too large"));
    let twice = format!("[broker]\nurl = \"redis://:x@h\"\npassword_file = \"{place}\"");
    assert!(said(&twice).contains("broker.url has a password already"));
    for (content, reason) in [("", "is empty"), ("\n", "is empty"), ("s3cret\nmore\n", "more than one line")] {
        std::fs::write(&path, content).unwrap();
        let problems = said(&format!("[broker]\npassword_file = \"{place}\""));
        assert!(problems.contains(reason) && !problems.contains("s3cret"), "{problems}");
    }
}

#[test]
fn queues_may_have_names() {
    let queues = good("[queues]\nnames = [\"celery\", \"mail\"]").queues;
    assert_eq!((queues.default.as_str(), &queues.prefix), ("celery", &None));
    assert_eq!(good("[queues]\nnames = [\"celery\", \"mail\"]\ndefault = \"mail\"").queues.default, "mail");
    let reasons = [
        ("names = [\"a\"]\ncount = 3", "names and prefix with count say the same thing in two ways"),
        ("names = []", "is no list of queues"),
        ("names = [\"a\", \"a\"]", "holds \"a\" twice"),
        ("names = [\"a\", \"\"]", "holds an empty name"),
        ("names = [\"a\\u0006\"]", "holds the control character"),
        ("names = [\"unacked\"]", "is a key that Celery or fairstalk itself keeps in Redis"),
        ("names = \"a\"", "is a string, not a list"),
        ("names = [\"a\", \"b\"]\ndefault = \"c\"", "\"c\" is not one of the queues"),
        ("default = \"queue_20\"", "remedy:  write one of \"queue_0\" … \"queue_19\""),
        ("count = 1001", "is not between 1 and 1000"),
    ];
    for (text, reason) in reasons {
        let problems = said(&format!("[queues]\n{text}"));
        assert!(problems.contains(reason), "{text}: {problems}");
        assert!(problems.starts_with("1 problem in"), "{text}: {problems}");
    }
}

#[test]
fn auto_follows_the_cores() {
    let auto = |text: &str| {
        let workers = good(&format!("[workers]\n{text}")).workers;
        (workers.processes, workers.concurrency.max)
    };
    assert_eq!(auto("processes = \"auto\""), (6, 4));
    assert_eq!(auto("concurrency = \"auto\""), (2, 6));
    assert_eq!(auto("processes = \"auto\"\nconcurrency = \"auto\""), (6, 2));
    assert_eq!(auto("processes = 64\nconcurrency = \"auto\""), (64, 1));
}

#[test]
fn every_key_can_come_from_the_environment() {
    let text = "[workers]\nprocesses = 3\n[delivery]\naccept = [\"json\"]\n[broker]\ntimeout = 5";
    let config = good_with(
        text,
        &[
            ("FAIRSTALK_BROKER__TIMEOUT", "250ms"),
            ("FAIRSTALK_BROKER__URL", "redis://h/7"),
            ("FAIRSTALK_WORKERS__PROCESSES", "auto"),
            ("FAIRSTALK_WORKERS__CONCURRENCY", "8"),
            ("FAIRSTALK_QUEUES__NAMES", "celery, mail"),
            ("FAIRSTALK_DELIVERY__ACCEPT", "[\"pickle\", \"json\"]"),
            ("FAIRSTALK_PYTHON__APP", "shop"),
            ("FAIRSTALK_PYTHON__ENV", "{ A = \"b\" }"),
            ("FAIRSTALK_LOG__LEVEL", "debug"),
            ("FAIRSTALK_BIN", "/usr/bin/fairstalk"),
            ("UNRELATED__KEY", "x"),
        ],
    );
    assert_eq!((config.broker.timeout, config.broker.url.as_str()), (Duration::from_millis(250), "redis://h:6379/7"));
    assert_eq!((config.workers.processes, config.workers.concurrency.max), (6, 8));
    assert_eq!(config.queues.names, ["celery", "mail"]);
    assert_eq!(config.delivery.accept, ["application/x-python-serialize", "application/json"]);
    let python = config.python.unwrap();
    assert_eq!((python.app.as_str(), python.env["A"].as_str()), ("shop", "b"));
    assert_eq!(config.log.level, Level::Debug);
    let expected = r#"3 problems in /etc/fairstalk/fairstalk.toml

  workers.concurrency = "many" (from FAIRSTALK_WORKERS__CONCURRENCY)
    problem: is not a whole number
    remedy:  write a number from 1 to 256, "auto", or { min = 2, max = 10 }

  FAIRSTALK_TASKS__X
    problem: tasks can't be described by environment variables
    remedy:  describe the task in the file under [tasks."name"] and unset the variable

  FAIRSTALK_WORKER__CONCURRENCY
    problem: no key of the configuration belongs to this variable
    remedy:  did you mean FAIRSTALK_WORKERS__CONCURRENCY?"#;
    let variables = [
        ("FAIRSTALK_WORKERS__CONCURRENCY", "many"),
        ("FAIRSTALK_WORKER__CONCURRENCY", "4"),
        ("FAIRSTALK_TASKS__X", "y"),
    ];
    assert_eq!(said_with("", &variables), expected);
}

#[test]
fn a_command_is_a_program_and_its_arguments() {
    let reasons = [
        ("command = \"render --fast\"", "there is no shell"),
        ("command = []", "names no program"),
        ("command = [\"\"]", "names no program"),
        ("command = [\"./render\"]", "\"./render\" is a relative path"),
        ("command = [\"a\", 1]", "item 2 is a whole number, not a string"),
        ("command = [\"a\"]\nretry_backoff = \"1h\"", "retry_backoff, 1h, is longer than retry_backoff_max, 10m"),
        ("command = [\"a\"]\nretry_jitter = \"yes\"", "is neither true nor false"),
    ];
    for (text, reason) in reasons {
        let problems = said(&format!("[tasks.x]\n{text}"));
        assert!(problems.contains(reason) && problems.starts_with("1 problem in"), "{text}: {problems}");
    }
}

#[test]
fn a_file_that_cannot_be_read_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fairstalk.toml");
    let load =
        || config::load(&path, &surroundings(&[])).err().map(|problems| problems.to_string()).unwrap_or_default();
    let missing = load();
    assert!(missing.contains("can't be read: No such file or directory"), "{missing}");
    assert!(missing.contains("--config FILE"), "{missing}");
    std::fs::write(&path, b"[log]\nlevel = \"\xff\"").unwrap();
    assert!(load().contains("line 2 is not UTF-8"), "{}", load());
    std::fs::write(&path, "[log]\n").unwrap();
    assert_eq!(load(), "");
}

#[test]
fn routing_needs_only_its_own_section() {
    let text = "[broker]\npassword_file = \"/nowhere/redis\"\n[queues]\ncount = 3";
    let queues = |text: &str| config::parse_queues(text, Path::new(FILE), &surroundings(&[]));
    assert_eq!(queues(text).unwrap().names.len(), 3);
    assert!(queues("[queues]\ncont = 3").unwrap_err().to_string().contains("did you mean \"count\"?"));
}

#[test]
fn what_stands_for_nobody_is_one_of_three_words() {
    use fairstalk::config::Fallback;
    for (text, expected) in
        [("", Fallback::Queue), ("queue", Fallback::Queue), ("group", Fallback::Group), ("root", Fallback::Root)]
    {
        let text = if text.is_empty() { String::new() } else { format!("[tenancy]\nfallback = \"{text}\"") };
        assert_eq!(good(&text).tenancy.fallback, expected);
    }
    let expected = "1 problem in /etc/fairstalk/fairstalk.toml

  tenancy.fallback = \"groups\"
    problem: is not a word known here
    remedy:  did you mean \"group\"? Known are \"queue\", \"group\", \"root\"";
    assert_eq!(said("[tenancy]\nfallback = \"groups\""), expected);
    assert_eq!(keys("[tenancy]\nfallback = 3"), ["tenancy.fallback"]);
}
