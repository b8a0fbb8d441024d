//! Tasks that are not Python: any executable, started without a shell.
//!
//! The task goes in as JSON on standard input; the result comes out as JSON on standard output; a non-zero exit
//! status is a failure and standard error its explanation.

use super::Exception;
use super::leash::Program;
use crate::config::CommandTask;
use crate::memory::allocator;
use crate::memory::cgroup::Leaf;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{AccessFlags, access, pipe2};
use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, waitpid};
use serde_json::json;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::env;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::signal::unix::{SignalKind, signal};

/// A result larger than this is not one.
const MAX_RESULT: u64 = 16 << 20;
/// So much of standard error is kept for the traceback.
const KEPT_ERROR: usize = 16 << 10;
/// A line of output longer than this is cut into several.
const MAX_LINE: u64 = 16 << 10;

/// A command that runs.
#[derive(Debug)]
pub struct RunningCommand {
    /// Its pid, which is its process group too.
    pub pid: u32,
    /// The cgroup it is in, if it is in one of its own.
    pub leaf: Option<Leaf>,
}

impl RunningCommand {
    /// Kills it and everything it started. Only to be called before its end was told: after that the number
    /// may be somebody else's.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Sends a signal to it and everything it started. What is said of [`RunningCommand::kill`] holds here too.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(pid, signal);
        }
    }
}

/// How a command ended.
#[derive(Debug)]
pub struct CommandExit {
    /// Exit status; none if it could not be started.
    pub status: Option<ExitStatus>,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// The end of what it wrote to standard error, or why it could not be started.
    pub stderr: String,
    /// How long it ran.
    pub runtime: Duration,
}

/// Starts the command with `input` on its standard input, in the cgroup `leaf` if there is one. Lines of its standard error go
/// to `line` as they come, its end to `exit`.
///
/// # Errors
/// None: a command that can't be started has ended at once.
pub fn start(
    task: &CommandTask,
    input: Vec<u8>,
    leaf: Option<Leaf>,
    line: impl Fn(String) + 'static,
    exit: impl FnOnce(CommandExit) + 'static,
) -> Option<RunningCommand> {
    let started = Instant::now();
    match spawn(task, leaf.as_ref()) {
        Ok((pid, child)) => {
            tokio::task::spawn_local(async move {
                let (status, stdout, stderr) = attend(child, input, line).await;
                exit(CommandExit { status, stdout, stderr, runtime: started.elapsed() });
            });
            Some(RunningCommand { pid, leaf })
        }
        Err(error) => {
            let stderr = format!("{}: {error}", task.command[0]);
            exit(CommandExit { status: None, stdout: Vec::new(), stderr, runtime: Duration::ZERO });
            None
        }
    }
}

/// What there is of a command in this process.
struct Child {
    pid: Pid,
    /// Comes when it has ended, or another.
    end: tokio::signal::unix::Signal,
    stdin: Sender,
    stdout: Receiver,
    stderr: Receiver,
}

fn spawn(task: &CommandTask, leaf: Option<&Leaf>) -> io::Result<(u32, Child)> {
    let door = leaf.map(|leaf| File::options().write(true).open(leaf.door())).transpose()?;
    let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(io::Error::from);
    let ((input, stdin), (stdout, output), (stderr, errors)) = (pipe()?, pipe()?, pipe()?);
    let (stdin, stdout) = (Sender::from_owned_fd(stdin)?, Receiver::from_owned_fd(stdout)?);
    let stderr = Receiver::from_owned_fd(stderr)?;
    let own = env::vars_os().filter(|(name, value)| !allocator::is_ours(name, value));
    let mut environment: BTreeMap<OsString, OsString> = own.collect();
    environment.extend(task.env.iter().map(|(name, value)| (name.into(), value.into())));
    let path = found(&task.command[0], environment.get(&OsString::from("PATH")))?;
    let pairs = environment.into_iter().map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        text(name)
    });
    let program = Program {
        path: text(path)?,
        arguments: task.command.iter().map(text).collect::<io::Result<_>>()?,
        environment: pairs.collect::<io::Result<_>>()?,
        directory: text(&task.directory)?,
        standard: [input, output, errors],
        door,
    };
    // Before there is a child, so that none of its signals is missed.
    let end = signal(SignalKind::child())?;
    let pid = program.start()?;
    let number = pid.as_raw().unsigned_abs();
    let pid = Pid::from_raw(pid.as_raw()).ok_or(io::ErrorKind::InvalidData)?;
    Ok((number, Child { pid, end, stdin, stdout, stderr }))
}

/// The file of a program: a bare name is looked up in PATH, as execvp(3) does.
fn found(name: &str, path: Option<&OsString>) -> io::Result<OsString> {
    if name.contains('/') {
        return Ok(name.into());
    }
    let folders = path.map_or_else(|| "/bin:/usr/bin".into(), OsString::clone);
    let mut candidates = env::split_paths(&folders).map(|folder| folder.join(name));
    let file = candidates.find(|file| file.is_file() && access(file, AccessFlags::X_OK).is_ok());
    Ok(file.ok_or(Errno::ENOENT)?.into())
}

/// For C.
fn text(text: impl Into<OsString>) -> io::Result<CString> {
    CString::new(text.into().into_vec()).map_err(io::Error::from)
}

async fn attend(child: Child, input: Vec<u8>, line: impl Fn(String)) -> (Option<ExitStatus>, Vec<u8>, String) {
    let Child { pid, mut end, mut stdin, stdout, stderr } = child;
    let feed = async move {
        // A command need not read its input: a broken pipe is no failure.
        let _ = stdin.write_all(&input).await;
    };
    let read = async {
        let mut result = Vec::new();
        let mut stdout = stdout.take(MAX_RESULT + 1);
        let _ = stdout.read_to_end(&mut result).await;
        // The rest is read too, so that the command ends as it would and not of a broken pipe.
        let _ = tokio::io::copy(stdout.get_mut(), &mut tokio::io::sink()).await;
        result
    };
    let wait = async {
        loop {
            if let Some((_, status)) = waitpid(Some(pid), WaitOptions::NOHANG).ok()? {
                return Some(ExitStatus::from_raw(status.as_raw()));
            }
            end.recv().await?;
        }
    };
    let (status, (), result, errors) = tokio::join!(wait, feed, read, lines(stderr, line));
    (status, result, errors)
}

/// Passes lines on and keeps the end of them.
async fn lines(stderr: impl AsyncRead + Unpin, line: impl Fn(String)) -> String {
    let mut stderr = BufReader::new(stderr);
    let mut kept = String::new();
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        match (&mut stderr).take(MAX_LINE).read_until(b'\n', &mut buffer).await {
            Ok(0) | Err(_) => return kept,
            Ok(_) => {
                let text = String::from_utf8_lossy(&buffer);
                kept.push_str(&text);
                if let Some(cut) = kept.len().checked_sub(KEPT_ERROR).filter(|&cut| cut > 0) {
                    let cut = kept.ceil_char_boundary(cut);
                    kept.drain(..cut);
                }
                line(text.trim_end_matches('\n').to_owned());
            }
        }
    }
}

/// What an exit means.
#[derive(Debug)]
pub enum Verdict {
    /// The result, JSON.
    Success(Box<RawValue>),
    /// Why not. Whether it is tried again is the caller's to say.
    Failure(Exception),
}

/// Judges an exit. The exception is the one Python's own `subprocess` module raises for it, so that the caller
/// of `AsyncResult.get()` finds `returncode` and `stderr` where he expects them.
pub fn judge(task: &CommandTask, exit: &CommandExit) -> Verdict {
    let Some(status) = exit.status else {
        return Verdict::Failure(Exception { kind: "OSError", module: "builtins", arguments: json!([exit.stderr]) });
    };
    if !status.success() {
        let code = status.code().or(status.signal().map(|signal| -signal)).unwrap_or(-1);
        let arguments = json!([code, task.command, null, exit.stderr]);
        return Verdict::Failure(Exception { kind: "CalledProcessError", module: "subprocess", arguments });
    }
    let text = if exit.stdout.trim_ascii().is_empty() { b"null" } else { exit.stdout.trim_ascii() };
    let unfit = |why: String| {
        let arguments = json!([format!("{} did not write one JSON value: {why}", task.command[0])]);
        Verdict::Failure(Exception { kind: "ValueError", module: "builtins", arguments })
    };
    if text.len() as u64 > MAX_RESULT {
        return unfit(format!("more than {MAX_RESULT} bytes"));
    }
    match serde_json::from_slice(text) {
        Ok(value) => Verdict::Success(value),
        Err(error) => unfit(error.to_string()),
    }
}

/// Wait before the retry after `retries` earlier ones; `random` is uniform in [0, 1) (Celery's `retry_backoff`
/// and full jitter, `celery/utils/time.py`, `get_exponential_backoff_interval`).
pub fn retry_wait(task: &CommandTask, retries: u32, random: f64) -> Duration {
    let factor = 2u32.saturating_pow(retries.min(31));
    let wait = task.retry_backoff.saturating_mul(factor).min(task.retry_backoff_max);
    if task.retry_jitter { wait.mul_f64(random) } else { wait }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task() -> CommandTask {
        CommandTask {
            command: vec!["/bin/x".into()],
            directory: "/".into(),
            env: Default::default(),
            max_retries: 3,
            retry_backoff: Duration::from_secs(1),
            retry_backoff_max: Duration::from_secs(10),
            retry_jitter: false,
            time_limit: None,
            memory_limit: None,
        }
    }

    fn exit(status: i32, stdout: &str) -> CommandExit {
        let status = Some(ExitStatus::from_raw(status));
        CommandExit { status, stdout: stdout.into(), stderr: "oops".into(), runtime: Duration::ZERO }
    }

    #[test]
    fn exits_are_judged() {
        let success = |verdict| match verdict {
            Verdict::Success(value) => value.get().to_owned(),
            Verdict::Failure(exception) => format!("{} {}", exception.kind, exception.arguments),
        };
        assert_eq!(success(judge(&task(), &exit(0, " {\"a\": 1.0}\n"))), "{\"a\": 1.0}");
        assert_eq!(success(judge(&task(), &exit(0, "\n"))), "null");
        assert_eq!(success(judge(&task(), &exit(3 << 8, ""))), r#"CalledProcessError [3,["/bin/x"],null,"oops"]"#);
        assert_eq!(success(judge(&task(), &exit(9, ""))), r#"CalledProcessError [-9,["/bin/x"],null,"oops"]"#);
        assert!(success(judge(&task(), &exit(0, "ready\n"))).starts_with("ValueError"));
    }

    #[test]
    fn waits_double_up_to_the_cap() {
        let waits: Vec<_> = (0..6).map(|retries| retry_wait(&task(), retries, 0.5).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
        assert!(retry_wait(&CommandTask { retry_jitter: true, ..task() }, 3, 0.25) == Duration::from_secs(2));
        assert_eq!(retry_wait(&task(), u32::MAX, 0.0).as_secs(), 10);
    }
}
