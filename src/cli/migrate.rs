//! `fairstalk migrate`: prints what stands for a `celery worker`.

use super::{Error, Settings, output};
use crate::channel::Exit;
use crate::migrate::{self, Source, Wish, dropin};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Print the configuration and the drop-in that stand for a `celery worker`.
///
/// Reads a systemd unit, a file of variables like /etc/default/celeryd, or a command line behind `--`. The application is
/// loaded and asked for its broker and its queues, as `init` does it. What has no counterpart is named in a comment, and
/// what needs a decision on standard error too. Nothing is written and nothing is changed.
#[derive(Debug, clap::Args)]
#[command(override_usage = "fairstalk migrate [OPTIONS] FILE\n       fairstalk migrate [OPTIONS] -- COMMAND...")]
pub struct Args {
    /// Unit or file of variables; `-` is the standard input: systemctl cat celery | fairstalk migrate -
    #[arg(value_name = "FILE", required_unless_present = "command", conflicts_with = "command")]
    file: Option<PathBuf>,
    /// Command line of the worker
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
    /// Print one of the two alone
    #[arg(long, value_name = "PART")]
    only: Option<Part>,
    /// For fairstalk@NAME instead of fairstalk; also the instance of the unit, if that is a template
    #[arg(long, value_name = "NAME", value_parser = plain)]
    instance: Option<String>,
    /// Of several nodes of `celery multi`, this one
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// Don't load the application; take what the command says, and no more
    #[arg(long)]
    no_load: bool,
}

/// What is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// fairstalk.toml
    Config,
    /// The drop-in of the unit
    Unit,
}

/// Prints it.
///
/// # Errors
/// A file that can't be read, or that starts no worker; several nodes or instances of which none is named.
pub fn run(args: &Args, settings: &Settings) -> Result<Exit, Error> {
    let source = match &args.file {
        Some(file) => read(file)?,
        None => Source::Command(args.command.clone()),
    };
    let wish = Wish {
        instance: args.instance.clone(),
        node: args.node.clone(),
        load: !args.no_load,
        path: std::env::var("PATH").ok(),
        directory: std::env::current_dir().map_err(Error::Runtime)?,
        settings: std::env::var("DJANGO_SETTINGS_MODULE").ok().filter(|settings| !settings.is_empty()),
        variables: super::init::variables(),
    };
    let plan = migrate::plan(&source, &wish)?;
    for warning in &plan.warnings {
        // Whoever has closed standard error does not want to know.
        let _ = writeln!(std::io::stderr(), "fairstalk: {warning}");
    }
    output::print(|out| {
        let printed = match args.only {
            Some(Part::Config) => write!(out, "{}", plan.config),
            Some(Part::Unit) => write!(out, "{}", plan.drop_in),
            None => {
                let config = match &wish.instance {
                    Some(name) => format!("/etc/fairstalk/{name}.toml"),
                    None => settings.file().display().to_string(),
                };
                let unit = dropin::unit_name(wish.instance.as_deref());
                write!(
                    out,
                    "# ---- {config}\n{}\n# ---- /etc/systemd/system/{unit}.d/migrated.conf\n{}",
                    plan.config, plan.drop_in
                )
            }
        };
        printed.map_err(Error::Output)
    })?;
    Ok(Exit::Ok)
}

fn read(file: &Path) -> Result<Source, Error> {
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(Error::Input)?;
        // `systemctl cat` says first which file it shows.
        let first = text.lines().next().and_then(|line| line.strip_prefix("# /"));
        let name = first.map_or_else(|| "the standard input".to_owned(), |path| format!("/{path}"));
        return Ok(Source::File { name, text });
    }
    let name = file.display().to_string();
    let unreadable = |error| {
        Error::Unfit(format!(
            "can't read {name}: {error}; of a unit that is installed: systemctl cat NAME | fairstalk migrate -"
        ))
    };
    let text = std::fs::read_to_string(file).map_err(unreadable)?;
    Ok(Source::File { name, text })
}

/// The name of an instance stands in paths.
fn plain(name: &str) -> Result<String, String> {
    let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if plain { Ok(name.to_owned()) } else { Err("letters, digits, dots, _ and - only".to_owned()) }
}
