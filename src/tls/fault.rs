//! What can go wrong with TLS, in words that say what to do about it.

use super::{Tls, Verify};
use rustls::{AlertDescription, CertificateError, Error};
use std::fmt;
use std::io;

/// Why a file can't be used, or why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
    /// Somebody has to change something here; else it may pass by itself, or has to be mended on the server.
    pub lasting: bool,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.reason, self.remedy)
    }
}

impl Fault {
    /// Lasts until somebody changes the configuration or a file it names.
    pub(super) fn lasting(reason: impl Into<String>, remedy: impl Into<String>) -> Fault {
        Fault { reason: reason.into(), remedy: remedy.into(), lasting: true }
    }

    fn passing(reason: impl Into<String>, remedy: impl Into<String>) -> Fault {
        Fault { lasting: false, ..Fault::lasting(reason, remedy) }
    }

    /// The handshake did not end in time.
    pub fn timeout() -> Fault {
        let remedy = "is this the port for TLS? redis:// is without it";
        Fault::passing("the server did not answer the TLS handshake in time", remedy)
    }

    /// Of an error of the stream, during the handshake or after it: with TLS 1.3 a server refuses a client's
    /// certificate only afterwards. None if it has nothing to do with TLS.
    pub fn of(error: &io::Error, tls: &Tls, handshake: bool) -> Option<Fault> {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(Error::InvalidCertificate(error)) => Some(certificate(error, tls)),
            Some(Error::AlertReceived(alert)) => Some(refusal(*alert, tls)),
            Some(Error::InvalidMessage(_)) if handshake => {
                let remedy = "name the port for TLS (tls-port of Redis), or write redis:// for a connection without it";
                Some(Fault::lasting("what answers does not speak TLS", remedy))
            }
            Some(Error::PeerIncompatible(reason)) => {
                let reason = format!("the server has no TLS in common with fairstalk: {reason:?}");
                Some(Fault::lasting(reason, "allow TLS 1.2 or 1.3 on the server (tls-protocols, tls-ciphers of Redis)"))
            }
            Some(other) => Some(Fault::passing(format!("TLS failed: {other}"), "see the log of the server")),
            None if handshake && error.kind() == io::ErrorKind::UnexpectedEof => {
                let remedy = "is this the port for TLS? The log of the server may say more";
                Some(Fault::passing("the server ended the TLS handshake", remedy))
            }
            None => None,
        }
    }
}

fn certificate(error: &CertificateError, tls: &Tls) -> Fault {
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => match &tls.authorities {
            Some(file) => Fault::lasting(
                format!("no certificate in {} vouches for that of the server", file.display()),
                "name the certificate of the authority that has issued the server's with ssl_ca_certs=",
            ),
            None => Fault::lasting(
                "no authority that this system trusts vouches for the server's certificate",
                "name the certificate of the authority that has issued it: ?ssl_ca_certs=/path/of/ca.crt",
            ),
        },
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names = match presented.is_empty() {
                true => "no host at all".to_owned(),
                false => presented.iter().map(|name| bare(name)).collect::<Vec<_>>().join(", "),
            };
            let expected = expected.to_str();
            wrong_name(format!("the server's certificate is for {names}, not for {expected}"))
        }
        CertificateError::NotValidForName => {
            wrong_name("the server's certificate is for another host than the one in the URL".to_owned())
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            let remedy = "renew it on the server, if the clock of this host is right";
            Fault::passing("the server's certificate has expired", remedy)
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Fault::passing("the server's certificate is not valid yet", "set the clocks of both hosts right")
        }
        other => {
            let remedy = "give the server another certificate; it needs subjectAltName and version 3";
            Fault::lasting(format!("the server's certificate can't be used: {other}"), remedy)
        }
    }
}

/// The name in rustls' `DnsName("redis.example")` or `IpAddress(10.0.0.1)`.
fn bare(presented: &str) -> &str {
    let inside = presented.split_once('(').map_or(presented, |(_, name)| name);
    inside.trim_end_matches(')').trim_matches('"')
}

fn wrong_name(reason: String) -> Fault {
    let remedy = "write that name into the URL, or give up this check with ssl_check_hostname=false";
    Fault::lasting(reason, remedy)
}

/// What the server says no with.
fn refusal(alert: AlertDescription, tls: &Tls) -> Fault {
    use AlertDescription as Alert;
    let of_ours = [
        Alert::CertificateRequired,
        Alert::BadCertificate,
        Alert::UnsupportedCertificate,
        Alert::CertificateRevoked,
        Alert::CertificateExpired,
        Alert::CertificateUnknown,
        Alert::UnknownCA,
        Alert::AccessDenied,
        Alert::DecryptError,
        // All that TLS 1.2 has to say where a certificate is missing.
        Alert::HandshakeFailure,
    ];
    match (&tls.certificate, of_ours.contains(&alert)) {
        (None, true) => Fault::lasting(
            format!("the server wants a certificate of its clients, it seems: it refuses with {alert:?}"),
            "name one it accepts, and its key: ?ssl_certfile=/path&ssl_keyfile=/path",
        ),
        (Some(file), true) => Fault::lasting(
            format!("the server does not accept the certificate in {}: {alert:?}", file.display()),
            "name one that is valid and of an authority the server trusts with ssl_certfile= and ssl_keyfile=",
        ),
        (_, false) => Fault::passing(format!("the server ended TLS with the alert {alert:?}"), "its log may say more"),
    }
}

impl Verify {
    /// What to warn of; none if everything is verified.
    pub fn warning(self) -> Option<&'static str> {
        match self {
            Verify::Everything => None,
            Verify::Authority => Some(
                "ssl_check_hostname=false: whoever has any certificate of the same authority can pose as this server",
            ),
            Verify::Nothing => Some(
                "the certificate is not verified (ssl_cert_reqs=none): anybody on the way can pose as this server; \
                 name its authority with ssl_ca_certs=",
            ),
        }
    }
}
