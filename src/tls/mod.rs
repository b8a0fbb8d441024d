//! TLS to Redis: what may be asked for, and a stream over it.
//!
//! rustls with ring: both build with a C compiler alone, and nothing of OpenSSL has to be there when the program runs.
//! The files are read anew for each connection, so a certificate that is renewed on disk is used at the next one.

mod client;
mod fault;
mod stream;
mod verifier;

pub use fault::Fault;
pub use stream::{Trouble, connect};

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How a connection is secured: the `ssl_…` parameters of a `rediss://` URL.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tls {
    /// What is asked of the server's certificate.
    pub verify: Verify,
    /// `ssl_ca_certs`: PEM file of the authorities that are trusted; none = those of the system.
    pub authorities: Option<PathBuf>,
    /// `ssl_certfile`: PEM file of our own certificate, and of those between it and its authority.
    pub certificate: Option<PathBuf>,
    /// `ssl_keyfile`: PEM file of its key; none = it is in the file of the certificate, as for Python's `ssl`.
    pub key: Option<PathBuf>,
}

/// What is asked of the server's certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verify {
    /// That an authority vouches for it, and that it is for the host of the URL.
    #[default]
    Everything,
    /// `ssl_check_hostname=false`: that an authority vouches for it, for whatever host.
    Authority,
    /// `ssl_cert_reqs=none`: nothing. Nobody can listen in, but anybody on the way can pose as the server.
    Nothing,
}

impl Tls {
    /// Whether the files are there and hold what they should.
    ///
    /// # Errors
    /// The first that can't be used, and why.
    pub fn check(&self) -> Result<(), Fault> {
        client::config(self).map(|_| ())
    }
}
