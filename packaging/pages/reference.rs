//! fairstalk.toml(5) and fairstalk(8), of the documents that say the same.

use super::markdown;
use fairstalk::telemetry::fields;
use roff::{bold, roman};
use std::io;

const CONFIGURATION: &str = include_str!("../../docs/configuration.md");
const SYSTEMD: &str = include_str!("../../docs/systemd.md");
const README: &str = include_str!("../../README.md");

/// fairstalk.toml(5).
pub fn configuration() -> String {
    let mut page = super::head("fairstalk.toml", "5", "configuration of fairstalk");
    page.control("SH", ["DESCRIPTION"]);
    markdown::convert(CONFIGURATION, &mut page);
    super::see_also(&mut page, &["fairstalk(1)", "fairstalk(8)", "systemd.exec(5)"]);
    page.render()
}

/// fairstalk(8).
pub fn operation() -> io::Result<String> {
    let mut page = super::head("fairstalk", "8", "running the daemon under systemd");
    page.control("SH", ["DESCRIPTION"]);
    markdown::convert(SYSTEMD, &mut page);
    let operate =
        markdown::chapter(README, "Operate").ok_or_else(|| io::Error::other("no \"## Operate\" in README.md"))?;
    page.control("SH", ["OPERATION"]);
    markdown::convert(operate, &mut page);
    page.control("SH", ["JOURNAL FIELDS"]);
    page.text([roman("Records have these fields, where they apply, for "), bold("journalctl FIELD=value"), roman(":")]);
    for (name, meaning) in fields::ALL {
        page.control("TP", []).text([bold(name.to_uppercase())]).text(markdown::inline(meaning));
    }
    super::see_also(
        &mut page,
        &["fairstalk(1)", "fairstalk.toml(5)", "systemctl(1)", "journalctl(1)", "systemd.exec(5)"],
    );
    Ok(page.render())
}
