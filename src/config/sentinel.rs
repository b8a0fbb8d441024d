//! `sentinel://host[:port][/db];sentinel://…`, as kombu and Celery write it: servers that know which one is the primary.

use super::problem::Complaint;
use super::redis_url::{RedisUrl, Server, tcp};
use serde::{Deserialize, Serialize};

/// Redis Sentinel, which knows the primary by its name. Not `Debug`: it may hold a password.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Sentinel {
    /// Hosts and ports of the Sentinels.
    pub addresses: Vec<(String, u16)>,
    /// `master_name`.
    pub master: String,
    /// Of the Sentinels themselves, from `sentinel_password_file`; default none.
    pub password: Option<String>,
}

impl Sentinel {
    /// `host:port` of each Sentinel, in the order of the URL.
    pub fn places(&self) -> Vec<String> {
        places(&self.addresses)
    }
}

pub(super) fn places(addresses: &[(String, u16)]) -> Vec<String> {
    addresses.iter().map(|(host, port)| format!("{host}:{port}")).collect()
}

/// Where a Sentinel listens unless told otherwise.
const PORT: u16 = 26379;

/// Reads all of it. Database and login are those of the first, as for kombu; what others say of them has to be the same.
pub(super) fn read(text: &str) -> Result<RedisUrl, Complaint> {
    let mut sentinels = Vec::new();
    let mut first: Option<RedisUrl> = None;
    for part in text.split(';') {
        let Some(rest) = part.strip_prefix("sentinel://") else {
            return Err(Complaint::new(
                "has something between its semicolons that does not begin with sentinel://",
                "write for example sentinel://a:26379/0;sentinel://b:26379/0",
            ));
        };
        let plain = format!("redis://{rest}");
        let url = tcp(&plain)?;
        if let Server::Tcp { host, .. } = &url.server {
            let port = redis::parse_redis_url(&plain).and_then(|url| url.port()).unwrap_or(PORT);
            sentinels.push((host.clone(), port));
        }
        let database = rest.rsplit_once('/').is_some_and(|(_, database)| !database.is_empty());
        let login = url.user.is_some() || url.password.is_some();
        match &first {
            None => first = Some(url),
            Some(first) => {
                let other = database && url.db != first.db
                    || login && (url.user != first.user || url.password != first.password);
                if other {
                    let remedy = "write the same database, user and password for all, or for the first only";
                    return Err(Complaint::new("names sentinels with different databases or logins", remedy));
                }
            }
        }
    }
    let first = first.ok_or_else(|| Complaint::new("names no sentinel", "write sentinel://host:26379/0"))?;
    Ok(RedisUrl { server: Server::Sentinels(sentinels), ..first })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(text: &str) -> String {
        read(text).unwrap_or_else(|complaint| panic!("{text}: {}", complaint.reason)).url()
    }

    #[test]
    fn what_kombu_takes_is_read() {
        let cases = [
            ("sentinel://h", "sentinel://h:26379/0"),
            ("sentinel://a;sentinel://b:1", "sentinel://a:26379/0;sentinel://b:1/0"),
            ("sentinel://:pw@a:1/2;sentinel://:pw@[::1]:2/2", "sentinel://:pw@a:1/2;sentinel://:pw@[::1]:2/2"),
            ("sentinel://:p%3Bw@a:1/2;sentinel://b:2", "sentinel://:p%3Bw@a:1/2;sentinel://:p%3Bw@b:2/2"),
        ];
        for (text, expected) in cases {
            assert_eq!(normal(text), expected, "{text}");
            assert_eq!(normal(expected), expected, "{expected} reads as itself");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_without_quoting_it() {
        let wrong = [
            "sentinel://",
            "sentinel://a;b",
            "sentinel://a;",
            "sentinel://a;redis://b",
            "sentinel://a;sentinel://b/2",
            "sentinel://:s3cret@a;sentinel://:other@b",
            "sentinel://a/0?ssl_ca_certs=/s3cret",
            "sentinel://a/s3cret",
        ];
        for text in wrong {
            let complaint = read(text).err().unwrap_or_else(|| panic!("{text} was accepted"));
            assert!(!format!("{complaint:?}").contains("s3cret"), "{text}: {complaint:?}");
        }
    }
}
