//! Which dead letters are meant.

use crate::broker::dead::{self, DeadLetter, Order, Walk};
use crate::broker::{BrokerError, Connection, Keys, Reason};
use std::time::Duration;

/// Filters; a letter is meant if all of those given apply.
#[derive(Debug, Default, clap::Args)]
pub struct Filters {
    /// Of this task
    #[arg(long, value_name = "NAME")]
    task: Option<String>,
    /// Of this tenant
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    tenant: Option<String>,
    /// From this queue
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    /// With this reason
    #[arg(long, value_name = "WORD", value_parser = clap::builder::PossibleValuesParser::new(Reason::ALL.map(Reason::word)))]
    reason: Option<String>,
    /// There for at least so long: 30s, 5m, 1h, 7d
    #[arg(long, value_name = "DURATION", value_parser = crate::config::parse_duration)]
    older_than: Option<Duration>,
    /// There for at most so long
    #[arg(long, value_name = "DURATION", value_parser = crate::config::parse_duration)]
    newer_than: Option<Duration>,
}

impl Filters {
    /// Whether the letter is one of those meant; its age is the business of the walk.
    fn apply(&self, letter: &DeadLetter) -> bool {
        let one =
            |wanted: &Option<String>, key| wanted.as_deref().is_none_or(|wanted| letter.text(key) == Some(wanted));
        one(&self.task, "task")
            && one(&self.tenant, "tenant")
            && one(&self.queue, "queue")
            && one(&self.reason, "reason")
    }
}

/// The letters meant, page by page. Only what was there at its start is found: what is put back and dies again
/// meanwhile is not met a second time.
pub struct Search<'a> {
    walk: Walk,
    filters: &'a Filters,
    /// Names of letters or ids of tasks; empty: all.
    ids: &'a [String],
    left: usize,
}

impl<'a> Search<'a> {
    /// At most `limit` letters; `now` is the server's clock in milliseconds since 1970.
    pub fn new(filters: &'a Filters, ids: &'a [String], order: Order, limit: Option<usize>, now: i64) -> Search<'a> {
        let ago = |age: Duration| now.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
        let (from, until) = (filters.newer_than.map_or(0, ago), filters.older_than.map_or(now, ago));
        Search { walk: Walk::new(order, from, until), filters, ids, left: limit.unwrap_or(usize::MAX) }
    }

    /// Some of the letters meant; none at the end.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn next(&mut self, connection: &mut Connection, keys: &Keys) -> Result<Vec<DeadLetter>, BrokerError> {
        while self.left > 0 {
            let mut letters = self.walk.next(connection, keys).await?;
            if letters.is_empty() {
                break;
            }
            let named = |letter: &DeadLetter| {
                let is = |id: &String| *id == letter.name || letter.text("id") == Some(id);
                self.ids.is_empty() || self.ids.iter().any(is)
            };
            letters.retain(|letter| named(letter) && self.filters.apply(letter));
            letters.truncate(self.left);
            self.left -= letters.len();
            if !letters.is_empty() {
                return Ok(letters);
            }
        }
        Ok(Vec::new())
    }

    /// These, of the last ones, are no longer there.
    pub fn removed(&mut self, letters: &[DeadLetter]) {
        self.walk.removed(letters);
    }
}

/// A search that begins now.
///
/// # Errors
/// [`BrokerError`].
pub async fn search<'a>(
    connection: &mut Connection,
    filters: &'a Filters,
    ids: &'a [String],
    order: Order,
    limit: Option<usize>,
) -> Result<Search<'a>, BrokerError> {
    let now = dead::now(connection).await?;
    Ok(Search::new(filters, ids, order, limit, now))
}
