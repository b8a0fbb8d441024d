//! What can go wrong with Redis, sorted by what is to be done about it.

use crate::channel::Exit;
use crate::tls::Fault;
use redis::{ErrorKind, RedisError, ServerErrorKind};
use std::io;

/// A failed exchange with Redis.
#[derive(Debug, thiserror::Error)]
#[error("Redis at {address}: {cause}{remedy}")]
pub struct BrokerError {
    /// What follows from it.
    pub kind: Kind,
    /// `host:port` or path of the socket; never the password.
    pub address: String,
    /// What redis-rs or the server said; part of the text, so not told again as its source.
    pub cause: RedisError,
    /// What to do about it, in brackets; may be empty.
    remedy: &'static str,
}

/// What follows from a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Not there, or not able to write for now: try again.
    Unavailable,
    /// Somebody has to change the configuration.
    Configuration,
    /// The server is too old.
    TooOld,
    /// An answer nobody expected: a defect, or somebody else's keys under our names.
    Unexpected,
}

impl Kind {
    /// The exit code that goes with it.
    pub fn exit(self) -> Exit {
        match self {
            Kind::Configuration | Kind::TooOld => Exit::Config,
            Kind::Unavailable => Exit::Unavailable,
            Kind::Unexpected => Exit::Internal,
        }
    }

    fn remedy(self) -> &'static str {
        match self {
            Kind::Unavailable => "",
            Kind::Configuration => " (check [broker] url and password_file)",
            Kind::TooOld => " (fairstalk needs Redis 6.2 or newer)",
            Kind::Unexpected => " (another program's data under these keys, or a defect of fairstalk)",
        }
    }
}

/// Error codes of a server that will answer again, given time (failover, loading, no memory, a long script).
const PASSING: [&str; 9] =
    ["LOADING", "READONLY", "OOM", "MISCONF", "MASTERDOWN", "BUSY", "TRYAGAIN", "CLUSTERDOWN", "NOREPLICAS"];

impl BrokerError {
    /// Sorts a client error.
    pub fn new(address: &str, cause: RedisError) -> BrokerError {
        let code = cause.code().unwrap_or_default().to_owned();
        let text = cause.to_string();
        let kind = match cause.kind() {
            ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig => Kind::Configuration,
            ErrorKind::RESP3NotSupported => Kind::TooOld,
            ErrorKind::Server(ServerErrorKind::NoPerm) => Kind::Configuration,
            _ if ["NOAUTH", "WRONGPASS", "NOPERM"].iter().any(|known| code == *known || text.contains(known)) => {
                Kind::Configuration
            }
            _ if text.contains("DB index is out of range") => Kind::Configuration,
            _ if cause.is_io_error() || cause.is_connection_dropped() || cause.is_timeout() => Kind::Unavailable,
            // What redis-rs says when the connection ends within a reply.
            ErrorKind::Parse if text.contains("Unexpected end of input") => Kind::Unavailable,
            _ if PASSING.iter().any(|known| code == *known || text.contains(known)) => Kind::Unavailable,
            _ => Kind::Unexpected,
        };
        BrokerError { kind, address: address.to_owned(), cause, remedy: kind.remedy() }
    }

    /// There is a server, but no TLS with it.
    pub(super) fn of_tls(address: &str, fault: Fault) -> BrokerError {
        let kind = if fault.lasting { Kind::Configuration } else { Kind::Unavailable };
        BrokerError::said(kind, address, fault.to_string())
    }

    /// In words of our own, which say what to do about it.
    pub(super) fn said(kind: Kind, address: &str, text: String) -> BrokerError {
        let cause = RedisError::from(io::Error::other(text));
        BrokerError { kind, address: address.to_owned(), cause, remedy: "" }
    }

    /// Of a connection without TLS that was never made: a server that wants TLS just ends it.
    pub(super) fn without_tls(self) -> BrokerError {
        let ended = self.cause.is_connection_dropped() && !self.cause.is_connection_refusal();
        match ended || self.cause.kind() == ErrorKind::Parse {
            true => BrokerError { remedy: " (if this is its port for TLS, write rediss:// in [broker] url)", ..self },
            false => self,
        }
    }
}
