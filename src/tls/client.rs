//! From the files to what rustls needs.

use super::{Fault, Tls, Verify, verifier};
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longest file that is read; the authorities of a system take about 250 kB.
const LIMIT: u64 = 16 * 1024 * 1024;

/// The variable by which OpenSSL, and so Python, finds the authorities of the system.
const VARIABLE: &str = "SSL_CERT_FILE";

/// Where systems keep them: Debian, Fedora, openSUSE, Alpine.
const SYSTEM: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Reads the files.
///
/// # Errors
/// The first that can't be used.
pub(super) fn config(tls: &Tls) -> Result<ClientConfig, Fault> {
    let provider = Arc::new(ring::default_provider());
    let verifier = verifier(tls, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Fault::lasting(error.to_string(), "this is a defect of fairstalk"))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match (&tls.certificate, &tls.key) {
        (None, _) => builder.with_no_client_auth(),
        (Some(file), key) => {
            let chain = certificates(file, "ssl_certfile")?;
            let (key, named) = key.as_ref().map_or((file, "ssl_certfile"), |key| (key, "ssl_keyfile"));
            builder.with_client_auth_cert(chain, secret(key, named)?).map_err(|error| {
                let (key, file) = (key.display(), file.display());
                let reason = match error {
                    rustls::Error::InconsistentKeys(_) => format!("the key in {key} is not that of {file}"),
                    other => format!("{file} with the key in {key} can't be used: {other}"),
                };
                Fault::lasting(reason, "name a certificate and its own key with ssl_certfile= and ssl_keyfile=")
            })?
        }
    };
    // Connections are few and long; tickets to resume them would only be kept in memory.
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn verifier(tls: &Tls, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, Fault> {
    if tls.verify == Verify::Nothing {
        return Ok(Arc::new(verifier::Nothing::new(provider)));
    }
    let (file, named) = match &tls.authorities {
        Some(file) => (file.clone(), true),
        None => (system()?, false),
    };
    let given = certificates(&file, "ssl_ca_certs")?;
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(given.iter().cloned());
    if usable == 0 {
        let reason = format!("no certificate in {} can be used as that of an authority", file.display());
        return Err(Fault::lasting(reason, "name a PEM file with certificates of version 3 with ssl_ca_certs="));
    }
    let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
    let webpki = webpki.map_err(|error| Fault::lasting(error.to_string(), "name another file with ssl_ca_certs="))?;
    // Those of the system are of authorities only, so none of them is a server's own.
    let own = if named { given } else { Vec::new() };
    Ok(Arc::new(verifier::Verifier::new(webpki, own, tls.verify)))
}

/// The file with the authorities of this system.
fn system() -> Result<PathBuf, Fault> {
    if let Some(file) = std::env::var_os(VARIABLE).filter(|file| !file.is_empty()) {
        return Ok(PathBuf::from(file));
    }
    SYSTEM.iter().map(PathBuf::from).find(|file| file.exists()).ok_or_else(|| {
        let reason = format!("this system has no file of trusted authorities; looked for {}", SYSTEM.join(", "));
        Fault::lasting(reason, "install ca-certificates, or name the authority of the server with ?ssl_ca_certs=/path")
    })
}

fn certificates(file: &Path, parameter: &str) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let text = read(file, parameter)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|error| not_pem(file, parameter, &error))?;
    if found.is_empty() {
        let remedy = format!("{parameter}= names a PEM file: -----BEGIN CERTIFICATE----- and so on");
        return Err(Fault::lasting(format!("there is no certificate in {}", file.display()), remedy));
    }
    Ok(found)
}

fn secret(file: &Path, parameter: &str) -> Result<PrivateKeyDer<'static>, Fault> {
    let text = read(file, parameter)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let shown = file.display();
        if text.windows(9).any(|word| word == b"ENCRYPTED") {
            let remedy = "write it without: openssl pkey -in it -out another; only fairstalk's user may read that";
            return Fault::lasting(format!("the key in {shown} is protected by a passphrase"), remedy);
        }
        match error {
            pem::Error::NoItemsFound => {
                let remedy = format!("{parameter}= names a PEM file: -----BEGIN PRIVATE KEY----- and so on");
                Fault::lasting(format!("there is no private key in {shown}"), remedy)
            }
            other => not_pem(file, parameter, &other),
        }
    })
}

fn not_pem(file: &Path, parameter: &str, error: &pem::Error) -> Fault {
    // The error may quote a line, and in a key file that is a secret.
    let what = match error {
        pem::Error::MissingSectionEnd { .. } => "it ends too early",
        pem::Error::Base64Decode(_) => "it is not base64",
        _ => "it is damaged",
    };
    let reason = format!("{} is not PEM: {what}", file.display());
    Fault::lasting(reason, format!("name a PEM file with {parameter}="))
}

fn read(file: &Path, parameter: &str) -> Result<Vec<u8>, Fault> {
    let unreadable = |error: std::io::Error| {
        let reason = format!("{} can't be read: {error}", file.display());
        let remedy = match error.kind() {
            std::io::ErrorKind::NotFound => format!("name a file that is there with {parameter}="),
            _ => format!(
                "let the file that {parameter}= names be readable by the user fairstalk runs as, or pass it by \
                 LoadCredential= in the unit"
            ),
        };
        Fault::lasting(reason, remedy)
    };
    let opened = std::fs::File::open(file).map_err(unreadable)?;
    let mut bytes = Vec::new();
    opened.take(LIMIT).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}
