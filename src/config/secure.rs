//! The `ssl_…` parameters of a `rediss://` URL, as kombu, Celery and redis-py write them.

use super::credentials;
use super::environment::Environment;
use super::problem::Complaint;
use super::redis_url::{escape, unescape};
use crate::tls::{Fault, Tls, Verify};
use std::path::PathBuf;

const KNOWN: &str = "keep ssl_cert_reqs, ssl_ca_certs, ssl_certfile, ssl_keyfile and ssl_check_hostname only, and leave out transport options";

/// Reads what stands behind the `?`.
pub(super) fn read(query: &str) -> Result<Tls, Complaint> {
    let mut tls = Tls::default();
    let mut names = true;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let file = || match unescape(value) {
            Some(path) if !path.is_empty() => Ok(Some(PathBuf::from(path))),
            _ => Err(Complaint::new(
                format!("has an ssl parameter without the path of a file: {name}"),
                format!("write for example {name}=/etc/fairstalk/redis.pem"),
            )),
        };
        match name {
            "ssl_cert_reqs" => tls.verify = requirement(value)?,
            "ssl_check_hostname" => names = truth(value)?,
            "ssl_ca_certs" => tls.authorities = file()?,
            "ssl_certfile" => tls.certificate = file()?,
            "ssl_keyfile" => tls.key = file()?,
            // The name may be a piece of a password, so it is not quoted.
            _ => return Err(Complaint::new("has a parameter that fairstalk does not know", KNOWN)),
        }
    }
    if tls.key.is_some() && tls.certificate.is_none() {
        let remedy = "add ssl_certfile=, or leave out ssl_keyfile=";
        return Err(Complaint::new("has ssl_keyfile without ssl_certfile", remedy));
    }
    if !names && tls.verify == Verify::Everything {
        tls.verify = Verify::Authority;
    }
    Ok(tls)
}

/// To a client, `optional` is what `required` is: the server always has a certificate.
fn requirement(value: &str) -> Result<Verify, Complaint> {
    match value {
        "required" | "CERT_REQUIRED" | "optional" | "CERT_OPTIONAL" => Ok(Verify::Everything),
        "none" | "CERT_NONE" => Ok(Verify::Nothing),
        _ => Err(Complaint::new(
            "has an ssl_cert_reqs that is none of those there are",
            "write ssl_cert_reqs=required, or ssl_cert_reqs=none for a certificate that nobody verifies",
        )),
    }
}

fn truth(value: &str) -> Result<bool, Complaint> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => {
            let reason = "has an ssl_check_hostname that is neither true nor false";
            Err(Complaint::new(reason, "write ssl_check_hostname=true or ssl_check_hostname=false"))
        }
    }
}

/// The parameters as they are read; empty if all of them are the defaults.
pub(super) fn write(tls: &Tls) -> String {
    let verify = match tls.verify {
        Verify::Everything => None,
        Verify::Authority => Some("ssl_check_hostname=false".to_owned()),
        Verify::Nothing => Some("ssl_cert_reqs=none".to_owned()),
    };
    let files = [("ssl_ca_certs", &tls.authorities), ("ssl_certfile", &tls.certificate), ("ssl_keyfile", &tls.key)];
    let files = files.into_iter().filter_map(|(name, file)| {
        let path = file.as_ref()?.to_string_lossy().into_owned();
        Some(format!("{name}={}", escape(&path, "/")))
    });
    let all: Vec<String> = verify.into_iter().chain(files).collect();
    if all.is_empty() { String::new() } else { format!("?{}", all.join("&")) }
}

/// Finds the files, and sees whether they can be used.
pub(super) fn usable(tls: Tls, environment: &Environment) -> Result<Tls, Complaint> {
    let found = |file: Option<PathBuf>| match file {
        Some(file) => credentials::find(&file.to_string_lossy(), environment).map(Some),
        None => Ok(None),
    };
    let tls = Tls {
        verify: tls.verify,
        authorities: found(tls.authorities)?,
        certificate: found(tls.certificate)?,
        key: found(tls.key)?,
    };
    match tls.check() {
        Ok(()) => Ok(tls),
        Err(Fault { reason, remedy, .. }) => Err(Complaint::new(reason, remedy)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_kombu_and_redis_py_is_read() {
        let verify = |query: &str| read(query).map(|tls| tls.verify).unwrap();
        assert_eq!(read("").unwrap(), Tls::default());
        for asked in ["required", "CERT_REQUIRED", "optional", "CERT_OPTIONAL"] {
            assert_eq!(verify(&format!("ssl_cert_reqs={asked}")), Verify::Everything);
        }
        for nothing in ["none", "CERT_NONE"] {
            assert_eq!(verify(&format!("ssl_cert_reqs={nothing}&ssl_check_hostname=true")), Verify::Nothing);
        }
        assert_eq!(verify("ssl_check_hostname=False&ssl_cert_reqs=required"), Verify::Authority);
        let files = read("ssl_ca_certs=%2Fetc%2Fmy%20ca.pem&ssl_certfile=/c&ssl_keyfile=/k").unwrap();
        assert_eq!(files.authorities, Some(PathBuf::from("/etc/my ca.pem")));
        assert_eq!((files.certificate, files.key), (Some(PathBuf::from("/c")), Some(PathBuf::from("/k"))));
    }

    #[test]
    fn what_is_written_reads_as_itself() {
        for query in ["", "?ssl_cert_reqs=none", "?ssl_check_hostname=false&ssl_ca_certs=/my%20ca&ssl_certfile=/c"] {
            assert_eq!(write(&read(query.trim_start_matches('?')).unwrap()), query);
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_without_quoting_it() {
        let wrong = [
            "s3cret",
            "ssl_password=s3cret",
            "ssl_cert_reqs=s3cret",
            "ssl_cert_reqs=",
            "ssl_check_hostname=s3cret",
            "ssl_ca_certs=",
            "ssl_keyfile=/s3cret",
            "socket_timeout=5",
        ];
        for query in wrong {
            let complaint = read(query).unwrap_err();
            assert!(!format!("{complaint:?}").contains("s3cret"), "{query}: {complaint:?}");
        }
    }
}
