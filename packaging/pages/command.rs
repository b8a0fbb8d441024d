//! fairstalk(1): every command with its options, on one page.

use clap::Command;
use clap_mangen::Man;
use roff::{Roff, bold};
use std::io;

/// The page.
pub fn page() -> io::Result<String> {
    let mut command = super::command();
    command.build();
    let what = command.get_about().map(|about| about.to_string()).unwrap_or_default();
    let mut page = super::head("fairstalk", "1", what.trim_end_matches('.')).render();
    let man = Man::new(command.clone());
    page.push_str(&part(|out| man.render_synopsis_section(out), true)?);
    page.push_str(&part(|out| man.render_options_section(out), true)?);
    page.push_str(".SH COMMANDS\n");
    for command in command.get_subcommands() {
        describe(command, &mut page)?;
    }
    let mut end = Roff::new();
    super::see_also(&mut end, &["fairstalk.toml(5)", "fairstalk(8)", "systemctl(1)", "journalctl(1)"]);
    page.push_str(&end.to_roff());
    Ok(page)
}

fn describe(command: &Command, page: &mut String) -> io::Result<()> {
    let mut heading = Roff::new();
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    heading.control("SS", []).text([bold(name)]);
    page.push_str(&heading.to_roff());
    // What every command has is told once, above.
    let everywhere = |argument: &clap::Arg| argument.is_global_set() || argument.get_id() == "help";
    let own = command.clone().mut_args(|argument| {
        let hidden = everywhere(&argument);
        argument.hide(hidden)
    });
    let man = Man::new(own);
    page.push_str(&part(|out| man.render_description_section(out), false)?);
    page.push_str(".PP\n");
    page.push_str(&part(|out| man.render_synopsis_section(out), false)?);
    page.push_str(&part(|out| man.render_options_section(out), false)?);
    command.get_subcommands().try_for_each(|command| describe(command, page))
}

/// What clap_mangen writes for a section: without the preamble, which the page has already, and perhaps without the
/// heading.
fn part(render: impl FnOnce(&mut dyn io::Write) -> io::Result<()>, headed: bool) -> io::Result<String> {
    let mut bytes = Vec::new();
    render(&mut bytes)?;
    let text = String::from_utf8(bytes).map_err(io::Error::other)?;
    let preamble = |line: &&str| line.starts_with(".ie ") || line.starts_with(".el ");
    let lines = text.lines().filter(|line| !preamble(line) && (headed || !line.starts_with(".SH ")));
    Ok(lines.flat_map(|line| [line, "\n"]).collect())
}
