//! `fairstalk migrate`: the configuration and the drop-in that stand for a `celery worker`.
//!
//! What is read is a unit ([`mod@unit`]), a file of variables ([`variables`]) or a command line. In it the worker is found
//! ([`launch`], cut into words by [`words`]), its options are read ([`command`], [`options`]), for one node if
//! `celery multi` starts several ([`nodes`]), and translated ([`settings`]). Then the application is asked as `init` asks
//! it, and `init` writes the file. What has no counterpart is named, in the file or in the drop-in ([`dropin`]): nothing is
//! left out silently.

pub mod command;
pub mod dropin;
pub mod launch;
pub mod nodes;
pub mod options;
pub mod settings;
mod source;
pub mod unit;
pub mod variables;
pub mod words;

use crate::channel::Exit;
use crate::init::account::{self, Account};
use crate::init::project::Candidate;
use crate::init::{self, Findings, render, virtualenv};
use settings::{Settings, one_line};
use source::Old;
pub use source::Source;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The name of the credential that the unit looks for.
const CREDENTIAL: &str = "redis-password";

/// What is to be done with a source.
pub struct Wish {
    /// `fairstalk@NAME`, and the instance of the old unit.
    pub instance: Option<String>,
    /// The node of `celery multi`.
    pub node: Option<String>,
    /// Whether the application is loaded to ask it.
    pub load: bool,
    /// `PATH` of this process, for a command line.
    pub path: Option<String>,
    /// The folder this process is in, for a command line.
    pub directory: PathBuf,
    /// `DJANGO_SETTINGS_MODULE` of this process, for a command line.
    pub settings: Option<String>,
    /// Names of its variables that settings are often made of, for a command line.
    pub variables: Vec<String>,
}

/// What stands for the old worker.
pub struct Migration {
    /// fairstalk.toml.
    pub config: String,
    /// The drop-in of the unit.
    pub drop_in: String,
    /// What needs a human, one line each.
    pub warnings: Vec<String>,
}

/// Why there is nothing to migrate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No worker is started.
    #[error(
        "{0} starts no `celery worker` that could be found; give the command itself: fairstalk migrate -- celery -A …"
    )]
    NoWorker(String),
    /// Which instance?
    #[error("the unit is a template; say of which instance, with --instance NAME")]
    Template,
    /// Which node?
    #[error(
        "the nodes {} of `celery multi` have different options, and each becomes a daemon of its own: name one with \
         --node, and the daemon for it with --instance",
        .0.join(", ")
    )]
    Nodes(Vec<String>),
    /// No such node.
    #[error("there is no node {named}; there is {}", .names.join(", "))]
    NoNode {
        /// What was asked for.
        named: String,
        /// What there is.
        names: Vec<String>,
    },
    /// The application can't be asked at all.
    #[error(transparent)]
    Ask(#[from] init::Error),
}

impl Error {
    /// The exit code that goes with it: what another option would mend is a wrong command line.
    pub fn exit(&self) -> Exit {
        match self {
            Error::Template | Error::Nodes(_) | Error::NoNode { .. } => Exit::Usage,
            Error::NoWorker(_) => Exit::Config,
            Error::Ask(_) => Exit::Internal,
        }
    }
}

/// Works it out.
///
/// # Errors
/// [`Error`]; an application that can't be loaded is none.
pub fn plan(source: &Source, wish: &Wish) -> Result<Migration, Error> {
    let mut old = source.read(wish)?;
    let environment = old.environment();
    old.launch.command.add_variables(&environment);
    let node = nodes::choose(&old.launch.command, wish.node.as_deref())?;
    let mut settings = Settings::of(&node);
    settings.started.notes.extend(old.notes());
    if let (None, Some(time)) = (settings.started.drain_timeout, old.stop_timeout()) {
        settings.started.drain_timeout = Some(time);
    }
    let mut found = findings(source, &old, &settings, &environment, wish)?;
    let said = found.answer.as_ref().and_then(|answer| answer.as_ref().err().cloned());
    if found.password.is_some() {
        let unit = wish.instance.as_ref().map_or_else(|| "fairstalk".to_owned(), |name| format!("fairstalk-{name}"));
        settings.started.open.push(format!(
            "[broker] password_file: the broker has a password. Put it into /etc/credstore/{unit}.{CREDENTIAL}, \
             readable by root alone (docs/systemd.md), or name another file"
        ));
    }
    settings.started.open.extend(old.missing());
    found.started = Some(settings.started);
    let mut warnings = found.open();
    warnings.extend(old.unknown());
    if let Some(said) = said {
        let lines: String = said.lines().map(|line| format!("\n  | {}", one_line(line))).collect();
        warnings.push(format!("the application could not be loaded:{lines}"));
    }
    let own = old.beside_unit();
    let drop_in = dropin::text(&dropin::Parts {
        from: &old.name,
        unit: old.unit.as_ref(),
        keys: &settings.unit,
        env: &own,
        instance: wish.instance.as_deref(),
    });
    let password_file = found.password.as_ref().map(|_| Path::new(CREDENTIAL));
    Ok(Migration { config: render::text(&found, password_file), drop_in, warnings })
}

/// What the command says of the application, and what it says itself.
fn findings(
    source: &Source,
    old: &Old,
    settings: &Settings,
    environment: &BTreeMap<String, String>,
    wish: &Wish,
) -> Result<Findings, Error> {
    let directory = settings.workdir.iter().fold(old.directory.clone(), |folder, further| folder.join(further));
    let typed = matches!(source, Source::Command(_));
    let path = environment.get("PATH").or(wish.path.as_ref().filter(|_| typed));
    let mut variables = old.names_of_variables();
    variables.extend(wish.variables.iter().filter(|_| typed).cloned());
    let named = old.launch.interpreter(path.map(String::as_str));
    let active = environment.get("VIRTUAL_ENV").map(Path::new);
    let near = || virtualenv::interpreters(&directory, &directory, active).into_iter().next();
    let owner = account::owner(&directory);
    let app = settings.app.clone().map(|app| Candidate { app, root: directory.clone(), file: directory.clone() });
    let mut found = Findings {
        app,
        others: Vec::new(),
        interpreter: named.or_else(near),
        settings: environment.get("DJANGO_SETTINGS_MODULE").or(wish.settings.as_ref().filter(|_| typed)).cloned(),
        broker: None,
        password: None,
        answer: None,
        worker_queues: Vec::new(),
        owner,
        variables,
        started: Some(settings.started.clone()),
    };
    if wish.load {
        let mut env = environment.clone();
        env.extend(settings.env.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        found.ask(None, &env, asker(old, settings, found.owner.as_ref()).as_ref())?;
    }
    found.find_broker(settings.broker.as_deref().or(environment.get("CELERY_BROKER_URL").map(String::as_str)));
    Ok(found)
}

/// Who loads the application: the user of the old worker if that is not root, else as `init` has it.
fn asker(old: &Old, settings: &Settings, owner: Option<&Account>) -> Option<Account> {
    let by_option = settings.unit.iter().find(|(key, _)| *key == "User").map(|(_, user)| user.as_str());
    let named = by_option.or(old.user()).and_then(account::named);
    let user = named.filter(|user| user.uid != 0);
    account::runner(user.as_ref().or(owner)).cloned()
}
