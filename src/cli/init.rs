//! `fairstalk init`: writes a configuration for an application that is already there, and says what comes next.

use super::{Error, Settings, output};
use crate::channel::Exit;
use crate::init::account::{self, Account};
use crate::init::{self, Findings, Wish, files, queues, render};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Write a configuration for an existing application.
///
/// Looks through DIRECTORY for the Celery application and its virtual environment, loads it there and asks it for its
/// broker, its queues and its tasks. No task is run and no broker is asked.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the project
    #[arg(value_name = "DIRECTORY", default_value = ".")]
    directory: PathBuf,
    /// File to write [default: what `--config` or FAIRSTALK_CONFIG names, else /etc/fairstalk/fairstalk.toml]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
    /// The application, as in `celery -A`, instead of the one that is found
    #[arg(long, value_name = "APP")]
    app: Option<String>,
    /// Python of its environment, instead of the one that is found
    #[arg(long, value_name = "FILE")]
    interpreter: Option<PathBuf>,
}

/// Writes the file and prints what was found, what is left to fill in, and the next commands.
///
/// # Errors
/// No such directory, a file that is there already or can't be written, or output that fails.
pub fn run(args: &Args, settings: &Settings) -> Result<Exit, Error> {
    let output = args.output.as_deref().unwrap_or(settings.file());
    let output = std::path::absolute(output).map_err(Error::Runtime)?;
    refuse_existing(&output, args.force)?;
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let found = init::investigate(&Wish {
        directory: args.directory.clone(),
        app: args.app.clone(),
        interpreter: args.interpreter.clone(),
        active: variable("VIRTUAL_ENV").map(PathBuf::from),
        settings: variable("DJANGO_SETTINGS_MODULE").and_then(|value| value.into_string().ok()),
        variables: variables(),
    })?;
    let reader = account::reader(found.owner.as_ref());
    let password_file = write_password(&found, &output, reader.as_ref(), args.force)?;
    let text = render::text(&found, password_file.as_deref());
    files::write(&output, &text, files::SHARED, reader.as_ref(), args.force)
        .map_err(|error| unwritable(&output, &error))?;
    output::print(|out| {
        report(&found, out)
            .and_then(|()| wrote(&output, password_file.as_deref(), out))
            .and_then(|()| next(&found, &output, reader.as_ref(), out))
            .map_err(Error::Output)
    })?;
    Ok(Exit::Ok)
}

/// Told before the application is loaded, which may take a while.
fn refuse_existing(file: &Path, force: bool) -> Result<(), Error> {
    match file.symlink_metadata() {
        Ok(_) if !force => Err(unwritable(file, &io::ErrorKind::AlreadyExists.into())),
        _ => Ok(()),
    }
}

fn unwritable(file: &Path, error: &io::Error) -> Error {
    let file = file.display();
    Error::Unfit(match error.kind() {
        io::ErrorKind::AlreadyExists => {
            format!(
                "{file} is there already and was left as it is; write elsewhere with --output, or replace it with --force"
            )
        }
        io::ErrorKind::PermissionDenied => {
            format!("can't write {file}: {error}; use sudo, or write elsewhere with --output")
        }
        _ => format!("can't write {file}: {error}; write elsewhere with --output"),
    })
}

/// Puts the broker's password next to the configuration.
fn write_password(
    found: &Findings,
    output: &Path,
    reader: Option<&Account>,
    force: bool,
) -> Result<Option<PathBuf>, Error> {
    let Some(password) = &found.password else { return Ok(None) };
    let file = output.with_file_name("redis-password");
    let text = format!("{password}\n");
    if std::fs::read(&file).is_ok_and(|old| old == text.as_bytes()) {
        return Ok(Some(file));
    }
    files::write(&file, &text, files::SECRET, reader, force).map_err(|error| unwritable(&file, &error))?;
    Ok(Some(file))
}

/// Names that settings are often made of; their values may be secret. Django's settings module is written out anyway.
pub(super) fn variables() -> Vec<String> {
    const USUAL: [&str; 5] = ["CELERY_", "DJANGO_", "BROKER_", "REDIS_", "DATABASE_"];
    let usual = |name: &String| USUAL.iter().any(|start| name.starts_with(start)) && name != "DJANGO_SETTINGS_MODULE";
    // Names with a control character can't be set by any shell, and would end the comment.
    let plain = |name: &String| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let mut names: Vec<String> = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
    names.retain(|name| usual(name) && plain(name));
    names.sort();
    names
}

fn report(found: &Findings, out: &mut dyn Write) -> io::Result<()> {
    match &found.app {
        Some(app) => writeln!(out, "application  {} in {}", app.app, app.root.display())?,
        None => writeln!(out, "application  not found")?,
    }
    for other in &found.others {
        writeln!(out, "             not taken: {} ({}); choose it with --app", other.app, other.file.display())?;
    }
    match &found.interpreter {
        Some(python) => writeln!(out, "interpreter  {}", python.display())?,
        None => writeln!(out, "interpreter  python3: no virtual environment was found; choose one with --interpreter")?,
    }
    if let Some(Err(said)) = &found.answer {
        writeln!(out, "             the application could not be loaded:")?;
        for line in said.lines() {
            writeln!(out, "             | {line}")?;
        }
    }
    match &found.broker {
        Some(Ok(url)) if found.password.is_some() => writeln!(out, "broker       {url}, with a password")?,
        Some(Ok(url)) => writeln!(out, "broker       {url}")?,
        Some(Err(problem)) => writeln!(out, "broker       {}", problem.reason)?,
        None => writeln!(out, "broker       not found")?,
    }
    match queues::shape(&found.queues()) {
        queues::Shape::Numbered { prefix, count } => {
            writeln!(out, "queues       {count}: {prefix}0 to {prefix}{}", count - 1)?;
        }
        queues::Shape::Named(names) if names.is_empty() => writeln!(out, "queues       not found")?,
        queues::Shape::Named(names) => writeln!(out, "queues       {}: {}", names.len(), names.join(", "))?,
    }
    let Some(answer) = found.said() else { return Ok(()) };
    writeln!(out, "versions     Celery {}, Python {}", answer.celery, answer.python)?;
    writeln!(out, "results      {}", answer.results.backend.as_deref().unwrap_or("a backend that can't be loaded"))?;
    let tenant = init::tenancy::guess(&answer.tasks);
    let tenant = tenant.map(|guess| format!("; see [tenancy]: {} may say whose they are", guess.parameter));
    writeln!(out, "tasks        {}{}", answer.tasks.len(), tenant.unwrap_or_default())
}

fn wrote(output: &Path, password_file: Option<&Path>, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "wrote        {}", output.display())?;
    match password_file {
        Some(file) => writeln!(out, "             {}: the password, readable by its owner alone", file.display()),
        None => Ok(()),
    }
}

/// What to type next, for the file that was written.
fn next(found: &Findings, output: &Path, reader: Option<&Account>, out: &mut dyn Write) -> io::Result<()> {
    let open = found.open();
    if !open.is_empty() {
        writeln!(out, "\nTo fill in, in {}:", output.display())?;
        for open in open {
            writeln!(out, "  - {open}")?;
        }
    }
    writeln!(out, "\nNext:")?;
    let installed = output == Path::new(super::DEFAULT_CONFIG);
    let option = if installed { String::new() } else { format!(" --config {}", shell(output)) };
    let sudo =
        reader.filter(|reader| reader.uid != 0).map(|reader| format!("sudo -u {} ", reader.name)).unwrap_or_default();
    let mut step = |command: &str, what: &str| writeln!(out, "  {command}\n      {what}");
    step(&format!("{sudo}fairstalk check{option}"), "tries Redis, the interpreter and the application")?;
    if installed {
        if let (Some(owner), Some(service)) = (&found.owner, account::service())
            && *owner != service
        {
            let what = format!(
                "the unit runs as {}, the application belongs to {}: add [Service] and User={} if its files demand it",
                service.name, owner.name, owner.name
            );
            step("sudo systemctl edit fairstalk", &what)?;
        }
        step("sudo systemctl enable --now fairstalk", "starts it, now and at each boot")?;
        return step("journalctl -u fairstalk -f", "its log; `fairstalk status` shows the workers");
    }
    step(&format!("{sudo}fairstalk run{option}"), "runs it in the foreground, with its log")?;
    let install = format!("sudo install -m 640 -g fairstalk {} {}", shell(output), super::DEFAULT_CONFIG);
    step(&install, "puts the file where the unit looks for it")?;
    step("sudo systemctl enable --now fairstalk", "starts it, now and at each boot")?;
    step("journalctl -u fairstalk -f", "its log; `fairstalk status` shows the workers")
}

/// A path as a shell takes it for one word.
fn shell(path: &Path) -> String {
    let path = path.to_string_lossy();
    let plain = path.chars().all(|c| c.is_alphanumeric() || "/._-+:@".contains(c));
    if plain { path.into_owned() } else { format!("'{}'", path.replace('\'', "'\\''")) }
}
