//! `[broker]` and `[results]`: which Redis, and how one logs in there.

use super::credentials;
use super::environment::Environment;
use super::load::Source;
use super::problem::Complaint;
use super::reader::Section;
use super::redis_url::{RedisUrl, Server};
use super::{Broker, Results, Sentinel, secure};
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
    let sentinel = read_sentinel(&mut section, url.as_ref(), &surroundings.environment);
    let tls = match url.as_ref().and_then(|url| url.tls.clone()) {
        Some(tls) => {
            secure::usable(tls, &surroundings.environment).map_err(|complaint| section.complain("url", complaint)).ok()
        }
        None => None,
    };
    // Nothing can be said about the results of a broker nobody knows.
    let known = !section.refused("url");
    let broker = Broker {
        url: url.as_ref().map(RedisUrl::url).unwrap_or_default(),
        tls,
        sentinel,
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

/// What belongs to `sentinel://`: the name of the primary, which has to be there, and the password of the sentinels.
fn read_sentinel(section: &mut Section<'_>, url: Option<&RedisUrl>, environment: &Environment) -> Option<Sentinel> {
    let master = section.word("master_name");
    let password =
        section.take("sentinel_password_file", |written| credentials::password(&written.string()?, environment));
    let Some(Server::Sentinels(addresses)) = url.map(|url| &url.server) else {
        for (key, given) in [("master_name", master.is_some()), ("sentinel_password_file", password.is_some())] {
            if given {
                let remedy = "leave it out, or write sentinel:// there";
                section.complain(key, Complaint::new("says nothing where broker.url is not sentinel://", remedy));
            }
        }
        return None;
    };
    if master.is_none() && !section.refused("master_name") {
        let remedy = "write the name behind `sentinel monitor` in sentinel.conf, which is master_name of \
                      broker_transport_options";
        section
            .complain("master_name", Complaint::new("is missing: sentinel:// needs the name of the primary", remedy));
    }
    Some(Sentinel { addresses: addresses.clone(), master: master?, password })
}

fn read_results(source: &mut Source<'_>, broker: Option<RedisUrl>) -> Results {
    const YEARS: Duration = Duration::from_secs(3650 * 86_400);
    let mut section = source.section("results");
    let mut url = section.take("url", |written| RedisUrl::read(&written.string()?));
    if let (Some(results), Some(broker)) = (&mut url, &broker) {
        if results.tls.is_some() != broker.tls.is_some() {
            let remedy = "results go through the broker's connection: write the same scheme, redis:// or rediss://";
            section.complain("url", Complaint::new("one of it and broker.url is over TLS, the other is not", remedy));
        } else if results.same_server(broker) {
            results.log_in_as(broker);
            // What is said there holds.
            results.tls.clone_from(&broker.tls);
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
