//! `[broker]` and `[results]`: which Redis, and how one logs in there.

use super::credentials;
use super::load::Source;
use super::problem::Complaint;
use super::redis_url::RedisUrl;
use super::{Broker, Results};
use std::time::Duration;

/// Where Redis is unless told otherwise.
const DEFAULT_URL: &str = "redis://127.0.0.1:6379/0";

/// Both sections at once, because results live on the broker's server.
pub(super) fn read(source: &mut Source<'_>) -> (Broker, Results) {
    let surroundings = source.surroundings;
    let mut section = source.section("broker");
    let url = section.take("url", |written| RedisUrl::read(&written.string()?));
    let mut url = url.or_else(|| RedisUrl::read(DEFAULT_URL).ok());
    if let Some(password) =
        section.take("password_file", |written| credentials::password(&written.string()?, &surroundings.environment))
    {
        if url.as_ref().is_some_and(|url| url.password.is_some()) {
            let remedy = "take it out of the URL, or leave out password_file";
            section.complain("password_file", Complaint::new("broker.url has a password already", remedy));
        }
        if let Some(url) = &mut url {
            url.password = Some(password);
        }
    }
    // Nothing can be said about the results of a broker nobody knows.
    let known = !section.refused("url");
    let broker = Broker {
        url: url.as_ref().map(RedisUrl::url).unwrap_or_default(),
        key_prefix: section.string("key_prefix").unwrap_or_default(),
        timeout: section
            .duration("timeout", Duration::from_millis(100)..=Duration::from_secs(600))
            .unwrap_or(Duration::from_secs(5)),
        visibility_timeout: section
            .duration("visibility_timeout", Duration::from_secs(1)..=Duration::from_secs(365 * 86_400))
            .unwrap_or(Duration::from_secs(3600)),
    };
    section.finish();
    let results = read_results(source, url.filter(|_| known));
    (broker, results)
}

fn read_results(source: &mut Source<'_>, broker: Option<RedisUrl>) -> Results {
    const YEARS: Duration = Duration::from_secs(3650 * 86_400);
    let mut section = source.section("results");
    let mut url = section.take("url", |written| RedisUrl::read(&written.string()?));
    if let (Some(results), Some(broker)) = (&mut url, &broker) {
        if results.same_server(broker) {
            results.log_in_as(broker);
        } else {
            let reason = format!("{} is not the broker's server, {}", results.server, broker.server);
            let remedy = "results live on the broker's server; only the number of the database may differ";
            section.complain("url", Complaint::new(reason, remedy));
        }
    }
    let results = Results {
        url: url.or(broker).map(|url| url.url()).unwrap_or_default(),
        expires: section.duration("expires", Duration::ZERO..=YEARS).unwrap_or(Duration::from_secs(86_400)),
        key_prefix: section.string("key_prefix").unwrap_or_default(),
    };
    section.finish();
    results
}
