//! `fairstalk tenants`: who waits, who runs, what each has had lately, and why one is or isn't next.

mod explain;

pub(super) use explain::{found_out, named_by};

use super::redis::{block_on, connect};
use super::{Error, Settings, output};
use crate::broker::inspect::{self, TenantFigures};
use crate::broker::minute::{self, Had};
use crate::broker::standing;
use crate::channel::Exit;
use crate::fairness::flow;
use serde_json::json;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::Write;

/// Show tenants that wait, run, have run in the last minute, or are paused.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One JSON object per tenant
    #[arg(long)]
    json: bool,
    /// So many at most
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// Those with the most come first
    #[arg(long, value_enum, default_value_t = Sort::Waiting)]
    sort: Sort,
    /// Why this tenant is or isn't next, and how it is known whose a task is
    #[arg(long, value_name = "TENANT", conflicts_with_all = ["limit", "sort"])]
    explain: Option<String>,
}

/// What the order goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Sort {
    /// Tasks that wait
    Waiting,
    /// Tasks under way
    Running,
    /// Running time in the last minute
    Share,
}

/// One line.
struct Row {
    flow: String,
    /// Nothing where it neither waits nor runs.
    now: Option<TenantFigures>,
    had: Had,
    /// Part of all running time of the last minute, 0 to 1.
    share: f64,
    paused: bool,
    /// Milliseconds.
    oldest: Option<i64>,
}

impl Row {
    /// `all` milliseconds have run of all tenants; `clock` is the server's, milliseconds since 1970.
    fn new(flow: &str, now: Option<TenantFigures>, had: Had, all: f64, paused: bool, clock: i64) -> Row {
        let oldest = now.as_ref().and_then(|now| now.lines.iter().filter_map(|line| line.since).min());
        let oldest = oldest.map(|since| (clock - since).max(0));
        let share = if all > 0.0 { had.ran / all } else { 0.0 };
        Row { flow: flow.to_owned(), now, had, share, paused, oldest }
    }

    fn waiting(&self) -> u64 {
        self.now.as_ref().map_or(0, |now| now.waiting)
    }

    fn running(&self) -> u64 {
        self.now.as_ref().map_or(0, |now| now.running) + self.had.unseen
    }

    fn weight(&self) -> f64 {
        self.now.as_ref().map_or(1.0, |now| now.weight)
    }

    /// What holds it back, in words.
    fn limits(&self) -> String {
        let now = self.now.as_ref();
        let most = now.and_then(|now| now.max_concurrency).map(|most| format!("{most} at once"));
        let rate = now.and_then(|now| now.interval).map(|interval| format!("one in {}", span(interval)));
        let paused = self.paused.then(|| "paused".to_owned());
        [most, rate, paused].into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    fn json(&self) -> serde_json::Value {
        let now = self.now.as_ref();
        json!({
            "tenant": flow::shown(&self.flow), "flow": self.flow, "waiting": self.waiting(), "running": self.running(),
            "share": self.share, "wait_p50_ms": self.had.wait(0.5), "wait_p99_ms": self.had.wait(0.99),
            "oldest_ms": self.oldest, "weight": self.weight(), "max_concurrency": now.and_then(|now| now.max_concurrency),
            "interval_ms": now.and_then(|now| now.interval), "paused": self.paused,
            "virtual_time": now.map(|now| now.virtual_time), "lines": now.map(|now| &now.lines),
        })
    }
}

/// Prints a line for each tenant, or the explanation of one.
///
/// # Errors
/// A configuration that can't be used, Redis out of reach, or output that fails.
pub fn run(args: &Args, settings: &Settings) -> Result<Exit, Error> {
    if let Some(tenant) = &args.explain {
        return explain::run(tenant, args.json, settings);
    }
    let mut rows = block_on(async {
        let (_, keys, mut connection) = connect(settings).await?;
        let tenants = inspect::tenants(&mut connection, &keys).await?;
        let minute = minute::minute(&mut connection, &keys).await?;
        let (clock, paused) = standing::paused(&mut connection, &keys).await?;
        let mut rows: BTreeMap<String, (Option<TenantFigures>, Had)> = BTreeMap::new();
        rows.extend(paused.iter().map(|flow| (flow.clone(), Default::default())));
        rows.extend(minute.tenants.into_iter().map(|(flow, had)| (flow, (None, had))));
        for tenant in tenants {
            let (now, _) = rows.entry(tenant.flow.clone()).or_default();
            *now = Some(tenant);
        }
        let row =
            |(flow, (now, had)): (String, _)| Row::new(&flow, now, had, minute.ran, paused.contains(&flow), clock);
        Ok(rows.into_iter().map(row).collect::<Vec<_>>())
    })?;
    let share = |row: &Row| (row.share * 1e6) as u64;
    rows.sort_by_cached_key(|row| match args.sort {
        Sort::Waiting => Reverse((row.waiting(), row.running(), share(row))),
        Sort::Running => Reverse((row.running(), row.waiting(), share(row))),
        Sort::Share => Reverse((share(row), row.waiting(), row.running())),
    });
    output::print(|out| print(&rows, args, out).map_err(Error::Output))?;
    Ok(Exit::Ok)
}

fn print(rows: &[Row], args: &Args, out: &mut dyn Write) -> std::io::Result<()> {
    if args.json {
        return rows.iter().take(args.limit).try_for_each(|row| writeln!(out, "{}", row.json()));
    }
    let heading = ["WAITING", "RUNNING", "SHARE", "WAIT P50", "WAIT P99", "OLDEST", "WEIGHT"];
    let [waiting, running, share, p50, p99, oldest, weight] = heading;
    writeln!(
        out,
        "{:<24} {waiting:>8} {running:>7} {share:>6} {p50:>9} {p99:>9} {oldest:>9} {weight:>6}  LIMITS",
        "TENANT"
    )?;
    for row in rows.iter().take(args.limit) {
        let span_or_dash = |milliseconds: Option<f64>| milliseconds.map_or_else(|| "-".to_owned(), span);
        writeln!(
            out,
            "{:<24} {:>8} {:>7} {:>5.1}% {:>9} {:>9} {:>9} {:>6}  {}",
            flow::shown(&row.flow),
            row.waiting(),
            row.running(),
            row.share * 100.0,
            span_or_dash(row.had.wait(0.5)),
            span_or_dash(row.had.wait(0.99)),
            span_or_dash(row.oldest.map(|oldest| oldest as f64)),
            row.weight(),
            row.limits()
        )?;
    }
    if rows.len() > args.limit {
        writeln!(out, "and {} more; see --limit", rows.len() - args.limit)?;
    }
    Ok(())
}

/// Milliseconds in words: `12 ms`, `3.4 s`, `5 m`.
fn span(milliseconds: f64) -> String {
    match milliseconds {
        ..1000.0 => format!("{milliseconds:.0} ms"),
        ..120_000.0 => format!("{:.1} s", milliseconds / 1000.0),
        ..7_200_000.0 => format!("{:.0} m", milliseconds / 60_000.0),
        _ => format!("{:.0} h", milliseconds / 3_600_000.0),
    }
}
