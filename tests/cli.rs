//! Exit codes and messages of the command line, through the real binary.

#![allow(clippy::unwrap_used, reason = "a test may panic, outside its #[test] functions too")]

use std::process::{Command, Output};

/// Runs `fairstalk` with these arguments, an empty configuration and nothing on its standard input.
fn fairstalk(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fairstalk"));
    command.args(arguments).env_clear().env("FAIRSTALK_CONFIG", "/dev/null").stdin(std::process::Stdio::null());
    command.output().unwrap()
}

/// Exit code, standard output, standard error.
fn answer(arguments: &[&str]) -> (i32, String, String) {
    let output = fairstalk(arguments);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_wrong_command_line_is_64() {
    for arguments in [&[][..], &["rout"], &["--nonsense"], &["route", "--nonsense"], &["--config"]] {
        let (code, stdout, stderr) = answer(arguments);
        assert_eq!((code, stdout.as_str()), (64, ""), "{arguments:?}");
        assert!(!stderr.is_empty(), "{arguments:?}");
    }
    assert!(answer(&["rout"]).2.contains("route"), "a suggestion");
}

#[test]
fn help_and_version_are_no_errors() {
    for arguments in [&["--help"][..], &["--version"], &["route", "--help"], &["help"]] {
        let (code, stdout, stderr) = answer(arguments);
        assert_eq!((code, stderr.as_str()), (0, ""), "{arguments:?}");
        assert!(stdout.contains("fairstalk"), "{arguments:?}: {stdout}");
    }
}

#[test]
fn a_configuration_that_cannot_be_used_is_78_and_told_once() {
    let (code, stdout, stderr) = answer(&["--config", "/nowhere/fairstalk.toml", "route", "1"]);
    assert_eq!((code, stdout.as_str()), (78, ""));
    let expected = "fairstalk: 1 problem in /nowhere/fairstalk.toml

  configuration file
    problem: can't be read: No such file or directory (os error 2)
    remedy:  create it, or name another one with --config FILE or in FAIRSTALK_CONFIG; etc/fairstalk.toml is a commented example
";
    assert_eq!(stderr, expected);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fairstalk.toml");
    std::fs::write(&file, "[queues]\nnames = [\"celery\", \"mail\"]\n").unwrap();
    let (code, stdout, stderr) = answer(&["route", "1", "--config", file.to_str().unwrap()]);
    assert_eq!((code, stdout.as_str()), (78, ""));
    assert!(stderr.contains("route needs [queues] prefix and count"), "{stderr}");
}

#[test]
fn a_full_disk_is_told() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_fairstalk"));
    let output = command.args(["route", "1"]).env("FAIRSTALK_CONFIG", "/dev/null").stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(70));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.starts_with("fairstalk: can't write to the standard output: No space left"), "{stderr}");
}
