//! Writes the man pages and the completions: `cargo run --example pages -- FOLDER`.
//!
//! An example rather than a command of the daemon, so that what it needs stays out of the daemon. Nothing in the
//! pages is written for them alone: fairstalk(1) and the completions are clap's definitions, fairstalk.toml(5) is
//! `docs/configuration.md`, fairstalk(8) is `docs/systemd.md`, the README's chapter on operation, and the table of log fields.

mod command;
mod markdown;
mod reference;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use fairstalk::cli::Cli;
use std::io;
use std::path::PathBuf;

fn main() -> io::Result<()> {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return Err(io::Error::other("usage: pages FOLDER"));
    };
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("fairstalk.1"), command::page()?)?;
    std::fs::write(folder.join("fairstalk.toml.5"), reference::configuration())?;
    std::fs::write(folder.join("fairstalk.8"), reference::operation()?)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command(), "fairstalk", &folder)?;
    }
    Ok(())
}

/// The command line as its users see it: clap_complete would offer hidden commands, too.
fn command() -> Command {
    let whole = Cli::command();
    Command::new("fairstalk")
        .version(env!("CARGO_PKG_VERSION"))
        .about(whole.get_about().cloned().unwrap_or_default())
        .disable_help_subcommand(true)
        .subcommand_required(true)
        .args(whole.get_arguments())
        .subcommands(whole.get_subcommands().filter(|command| !command.is_hide_set()))
}

/// The first line of a page, and its NAME.
fn head(name: &str, section: &str, what: &str) -> roff::Roff {
    let mut page = roff::Roff::new();
    // No date: it would be that of the build. Two quotes are an empty argument.
    page.control("TH", [name, section, "\"\"", concat!("fairstalk ", env!("CARGO_PKG_VERSION"))]);
    page.control("SH", ["NAME"]).text([roff::roman(format!("{name} - {what}"))]);
    page
}

/// What is worth reading beside a page.
fn see_also(page: &mut roff::Roff, others: &[&str]) {
    page.control("SH", ["SEE ALSO"]).text([roff::roman(others.join(", "))]);
}
