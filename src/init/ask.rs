//! Asks the application itself, in its own interpreter, what its settings come to.

use super::Error;
use super::account::Account;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// The program for `python -c`.
const PROGRAM: &str = include_str!("ask.py");

/// An import that takes longer waits for something that does not come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lines of a traceback that are shown.
const LINES: usize = 12;

/// Whom to ask.
pub struct Question<'a> {
    /// Python of the application's environment.
    pub interpreter: &'a Path,
    /// Folder on `sys.path`.
    pub directory: &'a Path,
    /// As in `celery -A`.
    pub app: &'a str,
    /// `DJANGO_SETTINGS_MODULE`, if it is to be set.
    pub settings: Option<&'a str>,
    /// Variables it is to find besides those of this process.
    pub env: &'a BTreeMap<String, String>,
    /// Who runs it: not root, where the application belongs to somebody else.
    pub account: Option<&'a Account>,
}

/// What an application says of itself. Not `Debug`: the URL may hold a password.
#[derive(Deserialize)]
pub struct Answer {
    /// Version of Celery.
    pub celery: String,
    /// Version of Python.
    pub python: String,
    /// The broker, password included.
    pub broker_url: String,
    /// `master_name` for `sentinel://`; else empty.
    pub master_name: String,
    /// The Sentinels want a password of their own.
    pub sentinel_password: bool,
    /// The connections to them, or to the primary, are over TLS.
    pub sentinel_tls: bool,
    /// `global_keyprefix` of the broker.
    pub key_prefix: String,
    /// Queue of tasks that name none.
    pub default_queue: String,
    /// Queues that a `celery worker` without `-Q` consumes.
    pub consumed: Vec<String>,
    /// All queues that settings and tasks name.
    pub queues: Vec<String>,
    /// A function decides about queues, so there may be more.
    pub router: bool,
    /// Where results go.
    pub results: Results,
    /// Tasks, without Celery's own, and the names of their parameters.
    pub tasks: BTreeMap<String, Vec<String>>,
    /// `worker_concurrency`.
    pub concurrency: Option<u32>,
    /// `worker_max_tasks_per_child`.
    pub max_tasks: Option<u32>,
    /// `accept_content`.
    pub accept: Vec<String>,
}

/// The result backend.
#[derive(Deserialize, Default)]
#[serde(default)]
pub struct Results {
    /// Its class; none if it can't be loaded.
    pub backend: Option<String>,
    /// Database of the broker's server, if the results are there.
    pub database: Option<u32>,
    /// `global_keyprefix` of the results.
    pub key_prefix: String,
}

/// Runs the interpreter and reads its answer.
///
/// # Errors
/// `Ok(Err)` is what the application said instead of an answer, without passwords of URLs.
/// [`Error`] if this process can't start others at all.
pub fn ask(question: &Question<'_>) -> Result<Result<Answer, String>, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
    Ok(runtime.block_on(exchange(question)))
}

async fn exchange(question: &Question<'_>) -> Result<Answer, String> {
    let interpreter = question.interpreter.display();
    let mut command = tokio::process::Command::new(question.interpreter);
    command.arg("-c").arg(PROGRAM).arg(question.app).arg(question.directory).current_dir(question.directory);
    // To look at an application must leave nothing in its folders.
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command.envs(question.env);
    if let Some(settings) = question.settings {
        command.env("DJANGO_SETTINGS_MODULE", settings);
    }
    if let Some(account) = question.account {
        command.uid(account.uid).gid(account.gid).env("HOME", &account.home);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let child = command.spawn().map_err(|error| format!("can't start {interpreter}: {error}"))?;
    let output = match tokio::time::timeout(PATIENCE, child.wait_with_output()).await {
        Ok(output) => output.map_err(|error| format!("no answer of {interpreter}: {error}"))?,
        Err(_) => return Err(format!("its import did not end within {} s", PATIENCE.as_secs())),
    };
    serde_json::from_slice(&output.stdout).map_err(|_| {
        let said = without_passwords(&String::from_utf8_lossy(&output.stderr));
        let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
        match lines.is_empty() {
            true => format!("{interpreter} ended without an answer: {}", output.status),
            false => lines[lines.len().saturating_sub(LINES)..].join("\n"),
        }
    })
}

/// The text with whatever stands between `://` and `@` taken out: a traceback may quote a URL.
pub fn without_passwords(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, behind) = rest.split_at(at + 3);
        shown.push_str(before);
        let word = behind.find([' ', '\n', '"', '\'']).unwrap_or(behind.len());
        let login = behind[..word].rfind('@').unwrap_or(0);
        if login > 0 {
            shown.push('…');
        }
        rest = &behind[login..];
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_shown_without_their_login() {
        let shown = without_passwords("can't reach redis://u:s3@cret@h:1/0, nor 'amqp://:s3cret@h' or http://h/x");
        assert_eq!(shown, "can't reach redis://…@h:1/0, nor 'amqp://…@h' or http://h/x");
        assert_eq!(without_passwords("no URL, me@h"), "no URL, me@h");
    }
}
