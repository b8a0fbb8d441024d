//! `fairstalk metrics`: what Redis knows of queues, workers and tenants, in Prometheus' text format.
//!
//! There is no port to scrape: a worker would have to listen, and of all workers each would tell only its own. Asked of
//! Redis, one answer is that of the fleet, and a timer, or node_exporter's textfile collector, does the rest.

use super::redis::{block_on, connect};
use super::tenants::found_out;
use super::{Error, Settings, output};
use crate::broker::inspect::{self, Elsewhere, QueueFigures, TenantFigures, WorkerFigures};
use crate::broker::minute::{self, Had};
use crate::broker::standing;
use crate::channel::{Beat, Exit};
use crate::fairness::flow;
use std::fmt::Write;

/// Print the figures of queues, workers and tenants in Prometheus' text format
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Also those of so many tenants by name, those with the most waiting first
    #[arg(long, value_name = "N", default_value_t = 0)]
    tenants: usize,
}

/// All that is told.
struct Figures {
    queues: Vec<QueueFigures>,
    elsewhere: Elsewhere,
    workers: Vec<WorkerFigures>,
    tenants: Vec<TenantFigures>,
    /// How long tasks of all tenants have waited in the last minute.
    waits: Had,
    /// Tenants that are paused.
    paused: usize,
    /// How often it was found out, or lost, what says whose a message is.
    answers: u64,
    /// It is lost now.
    lost: bool,
    /// The server's clock, milliseconds since 1970.
    now: i64,
}

/// Prints them.
///
/// # Errors
/// A configuration that can't be used, Redis out of reach, or output that fails.
pub fn run(args: &Args, settings: &Settings) -> Result<Exit, Error> {
    let mut figures = block_on(async {
        let (config, keys, mut connection) = connect(settings).await?;
        let minute = minute::minute(&mut connection, &keys).await?;
        let mut waits = Had::default();
        minute.tenants.values().for_each(|had| waits.add(had));
        let (now, paused) = standing::paused(&mut connection, &keys).await?;
        let (answers, lost) = found_out(&config, &mut connection, &keys).await?;
        Ok(Figures {
            queues: inspect::queues(&mut connection, &keys).await?,
            elsewhere: inspect::elsewhere(&mut connection, &keys).await?,
            workers: inspect::workers(&mut connection, &keys).await?,
            tenants: inspect::tenants(&mut connection, &keys).await?,
            waits,
            paused: paused.len(),
            answers,
            lost,
            now,
        })
    })?;
    figures.tenants.sort_by_key(|tenant| (std::cmp::Reverse(tenant.waiting), tenant.flow.clone()));
    let text = figures.text(args.tenants);
    output::print(|out| out.write_all(text.as_bytes()).map_err(Error::Output))?;
    Ok(Exit::Ok)
}

impl Figures {
    fn text(&self, named: usize) -> String {
        let mut page = Page::default();
        page.family("queue_messages", "gauge", "Messages that wait, in its lists or in lanes");
        for queue in &self.queues {
            page.sample("queue_messages", &[("queue", &queue.queue)], queue.waiting as f64);
        }
        page.family("queue_paused", "gauge", "1 while nothing of it is claimed");
        for queue in &self.queues {
            page.sample("queue_paused", &[("queue", &queue.queue)], f64::from(u8::from(queue.paused)));
        }
        page.family("messages", "gauge", "Messages that are in no queue");
        let Elsewhere { claimed, delayed, dead } = self.elsewhere;
        for (place, count) in [("claimed", claimed), ("delayed", delayed), ("dead", dead)] {
            page.sample("messages", &[("place", place)], count as f64);
        }
        self.workers(&mut page);
        page.family("tenants", "gauge", "Tenants that wait or run something, or are paused");
        let waiting = self.tenants.iter().filter(|tenant| tenant.waiting > 0).count();
        let running = self.tenants.iter().filter(|tenant| tenant.running > 0).count();
        for (state, count) in [("waiting", waiting), ("running", running), ("paused", self.paused)] {
            page.sample("tenants", &[("state", state)], count as f64);
        }
        page.family("wait_seconds", "gauge", "How long tasks of the last minute have waited in lanes");
        for (quantile, part) in [("0.5", 0.5), ("0.99", 0.99)] {
            page.sample("wait_seconds", &[("quantile", quantile)], self.waits.wait(part).unwrap_or(0.0) / 1000.0);
        }
        let oldest = self.tenants.iter().map(|tenant| self.oldest(tenant)).fold(0.0, f64::max);
        page.family("oldest_seconds", "gauge", "How long what waits in lanes has waited at most");
        page.sample("oldest_seconds", &[], oldest);
        page.family("tenancy_lost", "gauge", "1 while what said whose a task is fits no more: a deploy changed it");
        page.sample("tenancy_lost", &[], f64::from(u8::from(self.lost)));
        page.family("tenancy_answers_total", "counter", "How often it was found out, or lost");
        page.sample("tenancy_answers_total", &[], self.answers as f64);
        if named > 0 {
            self.named(&mut page, named);
        }
        page.text
    }

    fn workers(&self, page: &mut Page) {
        type Figure = fn(&Beat) -> u64;
        let figures: [(&str, &str, &str, Figure); 5] = [
            ("worker_slots", "gauge", "Tasks it can run at once", |beat| beat.slots.into()),
            ("worker_busy", "gauge", "Tasks it runs", |beat| beat.busy.into()),
            ("worker_done_total", "counter", "Tasks that have ended since it started", |beat| beat.done),
            ("worker_failed_total", "counter", "Of these: failed for good", |beat| beat.failed),
            ("worker_retried_total", "counter", "Of these: to be tried again", |beat| beat.retried),
        ];
        for (name, kind, help, figure) in figures {
            page.family(name, kind, help);
            for worker in &self.workers {
                let beat: Beat = serde_json::from_value(worker.figures["figures"].clone()).unwrap_or_default();
                let (node, pid) = (worker.figures["node"].as_str(), worker.figures["pid"].to_string());
                // During a reload there are two of one name.
                page.sample(name, &[("worker", node.unwrap_or(&worker.owner)), ("pid", &pid)], figure(&beat) as f64);
            }
        }
    }

    fn named(&self, page: &mut Page, most: usize) {
        type Figure = fn(&Figures, &TenantFigures) -> f64;
        let figures: [(&str, &str, Figure); 3] = [
            ("tenant_waiting", "Its messages in lanes", |_, tenant| tenant.waiting as f64),
            ("tenant_running", "Its tasks under way", |_, tenant| tenant.running as f64),
            ("tenant_oldest_seconds", "How long its oldest message has waited", Figures::oldest),
        ];
        for (name, help, figure) in figures {
            page.family(name, "gauge", help);
            for tenant in self.tenants.iter().take(most) {
                page.sample(name, &[("tenant", &flow::shown(&tenant.flow))], figure(self, tenant));
            }
        }
    }

    /// Seconds.
    fn oldest(&self, tenant: &TenantFigures) -> f64 {
        let since = tenant.lines.iter().filter_map(|line| line.since).min();
        since.map_or(0.0, |since| (self.now - since).max(0) as f64 / 1000.0)
    }
}

/// Text in the form of <https://prometheus.io/docs/instrumenting/exposition_formats/>.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string can't fail.
        let _ = writeln!(self.text, "# HELP fairstalk_{name} {help}\n# TYPE fairstalk_{name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels: Vec<String> = labels.iter().map(|(name, text)| format!("{name}=\"{}\"", escaped(text))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.text, "fairstalk_{name}{labels} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut page = Page::default();
        page.family("tenant_waiting", "gauge", "Its messages");
        page.sample("tenant_waiting", &[("tenant", "a\"b\\c\nd")], 3.0);
        page.sample("oldest_seconds", &[], 0.25);
        let expected = "# HELP fairstalk_tenant_waiting Its messages\n# TYPE fairstalk_tenant_waiting gauge\n\
                        fairstalk_tenant_waiting{tenant=\"a\\\"b\\\\c\\nd\"} 3\nfairstalk_oldest_seconds 0.25\n";
        assert_eq!(page.text, expected);
    }
}
