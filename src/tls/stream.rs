//! A stream over TLS.

use super::{Fault, Tls, client};
use rustls::pki_types::ServerName;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Why there is no stream.
#[derive(Debug)]
pub enum Trouble {
    /// The host can't be reached.
    Network(io::Error),
    /// It can, but not by TLS as it is asked for.
    Tls(Fault),
}

/// Connects within this time; how long the handshake may take is up to the caller.
///
/// # Errors
/// [`Trouble`]
pub async fn connect(host: &str, port: u16, tls: &Tls, within: Duration) -> Result<TlsStream<TcpStream>, Trouble> {
    let config = client::config(tls).map_err(Trouble::Tls)?;
    let name = ServerName::try_from(host.to_owned()).map_err(|_| {
        let reason = format!("{host:?} is no name a certificate could have");
        Trouble::Tls(Fault::lasting(reason, "write the name of the host in the URL as its certificate has it"))
    })?;
    let plain = timeout(within, TcpStream::connect((host, port))).await;
    let plain = plain.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(Trouble::Network)?;
    // Records are written whole; the kernel has nothing to wait for.
    plain.set_nodelay(true).map_err(Trouble::Network)?;
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(name, plain).await.map_err(|error| match Fault::of(&error, tls, true) {
        Some(fault) => Trouble::Tls(fault),
        None => Trouble::Network(error),
    })
}
