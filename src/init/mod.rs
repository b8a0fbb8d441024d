//! `fairstalk init`: a configuration for an application that is already there.
//!
//! First the files are looked at ([`project`], [`virtualenv`]), because only they tell where an application may be. Then
//! the application is loaded in its own interpreter and asked ([`ask`]), because only it knows what its settings come to.
//! What neither tells is left open in the file ([`render`]), with what to do about it.

pub mod account;
pub mod ask;
pub mod files;
pub mod project;
pub mod queues;
pub mod render;
mod sections;
mod source;
pub mod started;
pub mod tenancy;
pub mod virtualenv;

use crate::config::{self, Problem};
use account::Account;
use ask::{Answer, Question};
use project::Candidate;
use started::Started;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What was asked for, and what the environment says.
pub struct Wish {
    /// The project.
    pub directory: PathBuf,
    /// `celery -A` this, instead of what is found.
    pub app: Option<String>,
    /// This Python, instead of what is found.
    pub interpreter: Option<PathBuf>,
    /// `VIRTUAL_ENV`.
    pub active: Option<PathBuf>,
    /// `DJANGO_SETTINGS_MODULE`.
    pub settings: Option<String>,
    /// Names of variables that Celery or Django settings are often made of.
    pub variables: Vec<String>,
}

/// What was found.
pub struct Findings {
    /// The application that was taken.
    pub app: Option<Candidate>,
    /// Other applications in the same project.
    pub others: Vec<Candidate>,
    /// Python of its environment; none if it has none, and `python3` was taken.
    pub interpreter: Option<PathBuf>,
    /// Django's settings.
    pub settings: Option<String>,
    /// Where its broker is, without the password.
    pub broker: Option<Result<String, Problem>>,
    /// The broker's password.
    pub password: Option<String>,
    /// What it said of itself, or why it said nothing.
    pub answer: Option<Result<Answer, String>>,
    /// Queues that a `celery worker` of the project is started with.
    pub worker_queues: Vec<String>,
    /// Whose the project is.
    pub owner: Option<Account>,
    /// Names of variables the answer may depend on.
    pub variables: Vec<String>,
    /// How a stock worker is started, where that is what was looked at.
    pub started: Option<Started>,
}

/// Why nothing can be found out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such folder.
    #[error("{} can't be looked through: {source}; name the folder of the application", .directory.display())]
    Directory {
        /// What was named.
        directory: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The process itself.
    #[error("the system refuses what the command needs")]
    Runtime(#[source] std::io::Error),
}

/// Looks at the project and asks the application.
///
/// # Errors
/// [`Error`]; an application that can't be found or loaded is none.
pub fn investigate(wish: &Wish) -> Result<Findings, Error> {
    let wrong = |source| Error::Directory { directory: wish.directory.clone(), source };
    let directory = std::path::absolute(&wish.directory).map_err(wrong)?;
    directory.read_dir().map_err(wrong)?;
    let mut project = project::look(&directory);
    let (app, others) = choose(&mut project.candidates, wish.app.as_deref(), &directory);
    let beside = app.as_ref().map_or(&directory, |app| &app.root);
    let interpreter = match &wish.interpreter {
        // A bare name is looked up in PATH, as in the configuration.
        Some(named) if named.components().count() > 1 => Some(std::path::absolute(named).map_err(wrong)?),
        Some(named) => Some(named.clone()),
        None => virtualenv::interpreters(beside, &directory, wish.active.as_deref()).into_iter().next(),
    };
    let mut found = Findings {
        app,
        others,
        interpreter,
        settings: wish.settings.clone().or(project.settings),
        broker: None,
        password: None,
        answer: None,
        worker_queues: std::mem::take(&mut project.queues),
        owner: account::owner(&directory),
        variables: wish.variables.clone(),
        started: None,
    };
    let account = account::runner(found.owner.as_ref()).cloned();
    found.ask(project.manage.as_deref(), &BTreeMap::new(), account.as_ref())?;
    found.find_broker(project.broker_url.as_deref());
    Ok(found)
}

/// The application that was named, else the most likely one; and the others.
fn choose(
    candidates: &mut Vec<Candidate>,
    named: Option<&str>,
    directory: &Path,
) -> (Option<Candidate>, Vec<Candidate>) {
    let taken = match named {
        None if candidates.is_empty() => None,
        None => Some(candidates.remove(0)),
        Some(app) => {
            let known = candidates.iter().position(|candidate| candidate.app == app);
            let unseen = || Candidate { app: app.to_owned(), root: directory.to_owned(), file: directory.to_owned() };
            Some(known.map_or_else(unseen, |at| candidates.remove(at)))
        }
    };
    (taken, std::mem::take(candidates))
}

impl Findings {
    /// Asks with the folder of the package on `sys.path`, then with that of `manage.py`, which may be further up where
    /// packages have no `__init__.py`, and further down where a project has one too many.
    ///
    /// # Errors
    /// [`Error::Runtime`] if this process can't start others at all.
    pub fn ask(
        &mut self,
        manage: Option<&Path>,
        env: &BTreeMap<String, String>,
        account: Option<&Account>,
    ) -> Result<(), Error> {
        let Some(app) = self.app.clone() else { return Ok(()) };
        let other = manage.filter(|manage| *manage != app.root).and_then(|manage| app.seen_from(manage));
        for app in [Some(app), other].into_iter().flatten() {
            let answer = ask::ask(&Question {
                interpreter: self.interpreter.as_deref().unwrap_or(Path::new("python3")),
                directory: &app.root,
                app: &app.app,
                settings: self.settings.as_deref(),
                env,
                account,
            })?;
            let loaded = answer.is_ok();
            if loaded || self.answer.is_none() {
                self.answer = Some(answer);
            }
            if loaded {
                self.app = Some(app);
                break;
            }
        }
        Ok(())
    }

    /// Takes the broker that the application has said, else this one, and its password out of it.
    pub fn find_broker(&mut self, seen: Option<&str>) {
        let url = self.said().map(|answer| answer.broker_url.clone()).or(seen.map(str::to_owned));
        match url.as_deref().map(config::without_password) {
            Some(Ok((url, password))) => (self.broker, self.password) = (Some(Ok(url)), password),
            Some(Err(problem)) => self.broker = Some(Err(problem)),
            None => {}
        }
    }

    /// What the application said of itself, if it did.
    pub fn said(&self) -> Option<&Answer> {
        self.answer.as_ref().and_then(|answer| answer.as_ref().ok())
    }

    /// All queues: those the application names, and those a `celery worker` of the project is started with. Where it is
    /// known how the worker is started, they are exactly what it consumes.
    pub fn queues(&self) -> Vec<String> {
        let started = self.started.as_ref();
        if let Some(chosen) = started.map(|started| &started.queues).filter(|chosen| !chosen.is_empty()) {
            return chosen.clone();
        }
        let excluded = started.map(|started| started.excluded.as_slice()).unwrap_or_default();
        let of_answer =
            |answer: &'_ Answer| if started.is_some() { answer.consumed.clone() } else { answer.queues.clone() };
        let named = self.said().map(of_answer).unwrap_or_default();
        let mut queues: Vec<String> = Vec::new();
        for queue in named.iter().chain(&self.worker_queues) {
            if !queues.contains(queue) && !excluded.contains(queue) {
                queues.push(queue.clone());
            }
        }
        queues
    }

    /// What is left to do by hand before the daemon can run.
    pub fn open(&self) -> Vec<String> {
        let mut open: Vec<String> = self.started.iter().flat_map(|started| started.open.clone()).collect();
        let settled = self.started.as_ref().is_some_and(|started| !started.queues.is_empty());
        if self.app.is_none() {
            let where_else = match &self.started {
                Some(_) => "the command names no application with -A. Name it as in `celery -A`",
                None => {
                    "no Celery application was found. Name it as in `celery -A`, or run init again with --app, or with \
                     the folder it is in"
                }
            };
            open.push(format!("[python] app: {where_else}"));
        } else if self.said().is_none() && !settled {
            let why = if self.answer.is_some() { "could not be loaded" } else { "was not asked" };
            let (what, remedy) = match &self.started {
                Some(_) => (
                    "[queues]",
                    "See why, and run migrate again, on the host of the old worker and as a user who may read its files",
                ),
                None => (
                    "[queues] and [broker]",
                    "Mend what is said above, or name its Python with --interpreter, and run init again with --force",
                ),
            };
            open.push(format!("{what}: the application {why}, so they are only guessed. {remedy}"));
        }
        match &self.broker {
            Some(Err(problem)) => {
                open.push(format!("[broker] url: that of the application {}; {}", problem.reason, problem.remedy));
            }
            None => open.push("[broker] url: no broker was found. Write the application's broker_url".to_owned()),
            Some(Ok(_)) => {}
        }
        if self.said().is_some_and(|answer| answer.sentinel_password) {
            let what = "the application's sentinel_kwargs has a password. Write it into a file, and name that here";
            open.push(format!("[broker] sentinel_password_file: {what}"));
        }
        if self.said().is_some_and(|answer| answer.sentinel_tls) {
            open.push("[broker] url: the application uses TLS with Sentinel, which is not supported".to_owned());
        }
        open
    }
}
