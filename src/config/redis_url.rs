//! Redis URLs as kombu and Celery write them, turned into the form the `redis` crate reads.
//!
//! A complaint never quotes any part of the URL but its scheme, its server and its port: where a password holds an
//! unescaped `/`, `?`, `#` or `@`, any other part may be a piece of it.

use super::problem::{Complaint, Problem};
use super::{secure, sentinel};
use crate::tls::Tls;
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};
use std::fmt;

const EXAMPLE: &str =
    "write for example redis://127.0.0.1:6379/0, rediss://redis.example:6380/0 or unix:///run/redis/redis.sock?db=0";
const ESCAPE: &str =
    "write /, ?, #, @, : and % in a password as %2F, %3F, %23, %40, %3A and %25, or put it into broker.password_file";

/// Takes the password out of a Redis URL: the URL as `[broker] url` may have it, and the password.
///
/// # Errors
/// Why the URL can't be used as `[broker] url`; nothing of it is quoted but its server.
pub fn without_password(url: &str) -> Result<(String, Option<String>), Problem> {
    let mut url = RedisUrl::read(url).map_err(|wrong| Problem::new("broker.url", wrong.reason, wrong.remedy))?;
    let password = url.password.take().filter(|password| !password.is_empty());
    Ok((url.url(), password))
}

/// Where a Redis is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Server {
    Tcp {
        host: String,
        port: u16,
    },
    Unix {
        path: String,
    },
    /// They know where it is: hosts and ports.
    Sentinels(Vec<(String, u16)>),
}

/// A server, a database on it, and who one is there.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct RedisUrl {
    pub(super) server: Server,
    /// `rediss://`: the connection is over TLS.
    pub(super) tls: Option<Tls>,
    pub(super) db: u32,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
}

impl RedisUrl {
    /// Reads a URL.
    pub(super) fn read(text: &str) -> Result<Self, Complaint> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(Complaint::new("is not a Redis URL", EXAMPLE));
        };
        match scheme {
            "redis" => tcp(text),
            "rediss" => over_tls(rest),
            "unix" | "redis+socket" | "socket" => unix(rest),
            "sentinel" => sentinel::read(text),
            _ => Err(Complaint::new(
                "has a scheme that is not one of redis, rediss, sentinel, unix and redis+socket",
                EXAMPLE,
            )),
        }
    }

    /// The same server, whatever the database and whoever one is there.
    pub(super) fn same_server(&self, other: &RedisUrl) -> bool {
        self.server.canonical() == other.server.canonical()
    }

    /// Takes over what is needed to log in where this URL says nothing about it.
    pub(super) fn log_in_as(&mut self, other: &RedisUrl) {
        if self.password.is_none() && (self.user.is_none() || self.user == other.user) {
            self.user.clone_from(&other.user);
            self.password.clone_from(&other.password);
        }
    }

    /// The URL for the `redis` crate, the password included.
    pub(super) fn url(&self) -> String {
        let (user, password) = (self.user.as_deref(), self.password.as_deref());
        match &self.server {
            Server::Tcp { .. } => {
                let place = format!("{}{}/{}", self.login(), self.server, self.db);
                match &self.tls {
                    None => format!("redis://{place}"),
                    Some(tls) => format!("rediss://{place}{}", secure::write(tls)),
                }
            }
            Server::Sentinels(all) => {
                let login = self.login();
                let url = |(host, port): &(String, u16)| {
                    format!("sentinel://{login}{}/{}", Server::Tcp { host: host.clone(), port: *port }, self.db)
                };
                all.iter().map(url).collect::<Vec<_>>().join(";")
            }
            Server::Unix { path } => {
                let mut url = format!("unix://{}?db={}", escape(path, "/"), self.db);
                for (name, value) in [("user", user), ("pass", password)] {
                    if let Some(value) = value {
                        url.push_str(&format!("&{name}={}", escape(value, "")));
                    }
                }
                url
            }
        }
    }
}

impl RedisUrl {
    /// Before the host: nothing, `user@` or `user:password@`.
    fn login(&self) -> String {
        let user = escape(self.user.as_deref().unwrap_or_default(), "");
        match &self.password {
            Some(password) => format!("{user}:{}@", escape(password, "")),
            None if self.user.is_some() => format!("{user}@"),
            None => String::new(),
        }
    }
}

impl Server {
    /// One name for the loopback interface.
    fn canonical(&self) -> Server {
        match self {
            Server::Tcp { host, port } if ["localhost", "127.0.0.1", "::1"].contains(&host.as_str()) => {
                Server::Tcp { host: "localhost".to_owned(), port: *port }
            }
            Server::Sentinels(all) => {
                let mut all = all.clone();
                all.sort();
                Server::Sentinels(all)
            }
            other => other.clone(),
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Server::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Server::Tcp { host, port } => write!(f, "{host}:{port}"),
            Server::Unix { path } => f.write_str(path),
            Server::Sentinels(all) => write!(f, "the sentinels {}", sentinel::places(all).join(", ")),
        }
    }
}

/// `redis://[user:password@]host[:port][/db]`.
pub(super) fn tcp(text: &str) -> Result<RedisUrl, Complaint> {
    let Some(url) = redis::parse_redis_url(text) else {
        return Err(Complaint::new(
            "is not a Redis URL: it has no valid host and port",
            format!("{EXAMPLE}; {ESCAPE}"),
        ));
    };
    if url.fragment().is_some() || url.query().is_some() {
        let tls = url.query().is_some_and(|query| query.starts_with("ssl_"));
        let scheme = if tls { "write rediss:// for a connection over TLS; " } else { "" };
        return Err(Complaint::new(
            "has a part after ? or #, which says nothing to fairstalk",
            format!("{scheme}leave out transport options; {ESCAPE}"),
        ));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(Complaint::new("names no host", EXAMPLE));
    }
    if !is_database(url.path().trim_matches('/')) {
        let remedy = format!("end it with the number of a database, for example /0; {ESCAPE}");
        return Err(Complaint::new("has something other than a database number behind the server", remedy));
    }
    understood(text.into_connection_info())
}

/// What stands behind `rediss://`: as behind `redis://`, and then the parameters of TLS.
fn over_tls(rest: &str) -> Result<RedisUrl, Complaint> {
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    if query.contains(['#', '@']) {
        return Err(Complaint::new("has a # or @ behind the ?, which says nothing to fairstalk", ESCAPE));
    }
    let tls = Some(secure::read(query)?);
    Ok(RedisUrl { tls, ..tcp(&format!("redis://{place}"))? })
}

/// `unix:///path?db=n&user=u&pass=p` of redis-py and the `redis` crate, `redis+socket://:p@/path?virtual_host=n` of kombu.
fn unix(rest: &str) -> Result<RedisUrl, Complaint> {
    if rest.contains('#') {
        return Err(Complaint::new("has a part after #, which says nothing to fairstalk", ESCAPE));
    }
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let Some(start) = place.find('/') else {
        return Err(Complaint::new("names no socket", "write for example unix:///run/redis/redis.sock?db=0"));
    };
    let (login, path) = place.split_at(start);
    let Some(login) = login.strip_suffix('@').or_else(|| login.is_empty().then_some("")) else {
        return Err(Complaint::new(
            "names a host, or a path that is not absolute",
            "write three slashes before the path of the socket: unix:///run/redis/redis.sock?db=0",
        ));
    };
    let (mut user, mut password) = login.split_once(':').unwrap_or((login, ""));
    let mut db = "0";
    for (name, value) in query.split('&').filter(|pair| !pair.is_empty()).filter_map(|pair| pair.split_once('=')) {
        match name {
            "db" | "virtual_host" => db = value.trim_start_matches('/'),
            "user" | "username" => user = value,
            "pass" | "password" => password = value,
            _ => {
                let remedy = format!("keep db, user and pass only; {ESCAPE}");
                return Err(Complaint::new("has a parameter other than db, virtual_host, user and pass", remedy));
            }
        }
    }
    if !is_database(db) {
        return Err(Complaint::new("has a db that is not a number", "write for example ?db=0"));
    }
    let mut url = format!("unix://{path}?db={db}");
    for (name, value) in [("user", user), ("pass", password)] {
        if !value.is_empty() {
            url.push_str(&format!("&{name}={}", value.replace('+', "%2B")));
        }
    }
    understood(url.as_str().into_connection_info())
}

fn is_database(text: &str) -> bool {
    text.is_empty() || (text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u32>().is_ok())
}

/// What the `redis` crate made of it, so that both always mean the same.
fn understood(info: redis::RedisResult<ConnectionInfo>) -> Result<RedisUrl, Complaint> {
    let not_understood = || Complaint::new("is not a Redis URL", format!("{EXAMPLE}; {ESCAPE}"));
    // The error may quote the URL.
    let info = info.map_err(|_| not_understood())?;
    let server = match info.addr() {
        ConnectionAddr::Tcp(host, port) => Server::Tcp { host: host.clone(), port: *port },
        ConnectionAddr::Unix(path) => Server::Unix { path: path.to_str().ok_or_else(not_understood)?.to_owned() },
        _ => return Err(not_understood()),
    };
    let login = info.redis_settings();
    Ok(RedisUrl {
        server,
        tls: None,
        db: u32::try_from(login.db()).map_err(|_| not_understood())?,
        user: login.username().map(str::to_owned),
        password: login.password().map(str::to_owned),
    })
}

/// Percent-encodes all but unreserved characters and those in `keep`.
pub(super) fn escape(text: &str, keep: &str) -> String {
    text.bytes()
        .map(|byte| match char::from(byte) {
            c if c.is_ascii_alphanumeric() || "-._~".contains(c) || keep.contains(c) => c.to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// Undoes percent-encoding; none if it is none, or not of UTF-8.
pub(super) fn unescape(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let code = part.get(..2).filter(|code| code.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(code, 16).ok()?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(text: &str) -> String {
        RedisUrl::read(text).map(|url| url.url()).unwrap_or_else(|complaint| panic!("{text}: {}", complaint.reason))
    }

    #[test]
    fn every_spelling_becomes_what_the_redis_crate_reads() {
        let cases = [
            ("redis://127.0.0.1", "redis://127.0.0.1:6379/0"),
            ("redis://localhost:6380/", "redis://localhost:6380/0"),
            ("redis://:s%23cret@h/3", "redis://:s%23cret@h:6379/3"),
            ("redis://user:p%40ss%25@h:1/3", "redis://user:p%40ss%25@h:1/3"),
            ("redis://[::1]:7/1", "redis://[::1]:7/1"),
            ("unix:///run/r.sock", "unix:///run/r.sock?db=0"),
            (
                "unix:///run/my%20redis.sock?db=2&user=u&pass=a%2Bb",
                "unix:///run/my%20redis.sock?db=2&user=u&pass=a%2Bb",
            ),
            ("redis+socket:///run/r.sock?virtual_host=5", "unix:///run/r.sock?db=5"),
            ("redis+socket:///run/r.sock?virtual_host=/5", "unix:///run/r.sock?db=5"),
            ("redis+socket://:a+b%2F@/run/r.sock", "unix:///run/r.sock?db=0&pass=a%2Bb%2F"),
            ("rediss://h", "rediss://h:6379/0"),
            ("rediss://:s%23cret@h:1/3?ssl_cert_reqs=CERT_REQUIRED", "rediss://:s%23cret@h:1/3"),
            (
                "rediss://[::1]:7?ssl_cert_reqs=none&ssl_certfile=/c",
                "rediss://[::1]:7/0?ssl_cert_reqs=none&ssl_certfile=/c",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(normal(text), expected, "{text}");
            assert_eq!(normal(expected), expected, "{expected} reads as itself");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_without_quoting_it() {
        let cases = [
            "",
            "redis",
            "127.0.0.1:6379",
            "http://s3cret",
            "redis://",
            "redis:///0",
            "redis://h/s3cret",
            "redis://h/-1",
            "redis://h/0?s3cret=1",
            "redis://h/0#s3cret",
            "redis://:s3cret/x@h",
            "redis://u:1?s3cret@h",
            "redis://0.0.0.0",
            "redis://h:99999",
            "unix://run/r.sock",
            "unix://s3cret",
            "unix:///r?s3cret=1",
            "unix:///r?db=s3cret",
            "rediss://h/0?s3cret=1",
            "rediss://u:1?s3cret@h",
            "rediss://h/0?ssl_ca_certs=/c#s3cret",
            "rediss://h/s3cret",
            "redis://h/0?ssl_ca_certs=/s3cret",
            "sentinel://:s3cret@h;h2/0",
        ];
        for text in cases {
            let complaint = RedisUrl::read(text).err().unwrap_or_else(|| panic!("{text} was accepted"));
            assert!(!format!("{complaint:?}").contains("s3cret"), "{text}: {complaint:?}");
        }
    }

    #[test]
    fn a_password_is_taken_out_and_the_user_stays() {
        let split = |text| without_password(text).unwrap();
        assert_eq!(split("redis://u:p%40ss@h/3"), ("redis://u@h:6379/3".to_owned(), Some("p@ss".to_owned())));
        assert_eq!(split("redis://:pw@h"), ("redis://h:6379/0".to_owned(), Some("pw".to_owned())));
        assert_eq!(split("redis://h"), ("redis://h:6379/0".to_owned(), None));
        assert_eq!(
            split("redis+socket://:pw@/run/r.sock?virtual_host=5"),
            ("unix:///run/r.sock?db=5".to_owned(), Some("pw".to_owned()))
        );
        assert_eq!(
            split("rediss://u:pw@h/3?ssl_ca_certs=/ca.crt"),
            ("rediss://u@h:6379/3?ssl_ca_certs=/ca.crt".to_owned(), Some("pw".to_owned()))
        );
        let refused = without_password("amqp://:s3cret@h/0").unwrap_err();
        assert!(!format!("{refused:?}").contains("s3cret"), "{refused:?}");
    }

    #[test]
    fn the_loopback_interface_has_one_name() {
        let read = |text| RedisUrl::read(text).unwrap_or_else(|_| panic!("{text}"));
        assert!(read("redis://localhost/1").same_server(&read("redis://:pw@127.0.0.1:6379/2")));
        assert!(!read("redis://localhost:1").same_server(&read("redis://localhost:2")));
        assert!(!read("redis://localhost").same_server(&read("unix:///run/r.sock")));
    }
}
