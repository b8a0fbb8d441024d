//! A broker over TLS, or by way of Sentinels.

use super::{good, said, said_with};

#[test]
fn files_of_a_secured_broker_are_looked_at() {
    let said = |query: &str| said(&format!("[broker]\nurl = \"rediss://:s3cret@h/0?{query}\""));
    let cases = [
        ("ssl_ca_certs=/nowhere/ca.crt", "problem: /nowhere/ca.crt can't be read"),
        ("ssl_ca_certs=ca", "problem: is the name of a systemd credential"),
        ("ssl_ca_certs=etc/ca.crt", "problem: is neither an absolute path nor a bare name"),
        ("ssl_cert_reqs=maybe", "problem: has an ssl_cert_reqs that is none of those there are"),
        ("ssl_password=s3cret", "problem: has a parameter that fairstalk does not know"),
        ("ssl_keyfile=/k", "problem: has ssl_keyfile without ssl_certfile"),
    ];
    for (query, problem) in cases {
        let problems = said(query);
        assert!(problems.contains("broker.url\n") && problems.contains(problem), "{problems}");
        assert!(!problems.contains("s3cret"), "{problems}");
    }
    let broker = good("[broker]\nurl = \"rediss://h/0?ssl_cert_reqs=none\"\n[results]\nurl = \"rediss://h/1\"");
    assert_eq!(broker.broker.tls.map(|tls| tls.verify), Some(fairstalk::tls::Verify::Nothing));
    assert_eq!(broker.results.url, "rediss://h:6379/1?ssl_cert_reqs=none");
}

#[test]
fn results_are_secured_as_the_broker_is() {
    let problems = said("[broker]\nurl = \"rediss://h/0?ssl_cert_reqs=none\"\n[results]\nurl = \"redis://h/1\"");
    assert!(problems.contains("results.url\n") && problems.contains("over TLS, the other is not"), "{problems}");
}

#[test]
fn sentinels_need_the_name_of_the_primary_and_nobody_else_does() {
    let url = "[broker]\nurl = \"sentinel://:s3cret@a;sentinel://b:1\"\n";
    let sentinel = good(&format!("{url}master_name = \"mymaster\"")).broker.sentinel.unwrap();
    assert_eq!(sentinel.addresses, [("a".to_owned(), 26379), ("b".to_owned(), 1)]);
    assert_eq!((sentinel.master.as_str(), sentinel.password), ("mymaster", None));
    let problems = said(url);
    assert!(problems.contains("broker.master_name\n") && problems.contains("is missing"), "{problems}");
    assert!(!problems.contains("s3cret"), "{problems}");
    for wrong in ["master_name = \"\"", "master_name = 5"] {
        let problems = said(&format!("{url}{wrong}"));
        assert!(problems.starts_with("1 problem ") && problems.contains("broker.master_name = "), "{problems}");
    }
    let file = said(&format!("{url}master_name = \"m\"\nsentinel_password_file = \"/nowhere\""));
    assert!(file.contains("broker.sentinel_password_file") && file.contains("/nowhere can't be read"), "{file}");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "s3cret\n").unwrap();
    let key = format!("sentinel_password_file = \"{}\"", file.path().display());
    let known = good(&format!("{url}master_name = \"m\"\n{key}")).broker;
    assert_eq!(known.sentinel.as_ref().and_then(|sentinel| sentinel.password.as_deref()), Some("s3cret"));
    assert!(!format!("{known:?}").contains("s3cret"));
    for key in ["master_name = \"m\"", &key] {
        let problems = said(&format!("[broker]\n{key}"));
        assert!(problems.contains("says nothing where broker.url is not sentinel://"), "{problems}");
    }
    let problems = said_with(url, &[("FAIRSTALK_BROKER__URL", "sentinel://a;redis://:s3cret@b")]);
    assert!(problems.contains("between its semicolons") && !problems.contains("s3cret"), "{problems}");
}

#[test]
fn results_are_asked_of_the_same_sentinels() {
    let text = |results: &str| {
        format!("[broker]\nurl = \"sentinel://a;sentinel://b\"\nmaster_name = \"m\"\n[results]\nurl = \"{results}\"")
    };
    assert_eq!(good(&text("sentinel://b/2;sentinel://a")).results.url, "sentinel://b:26379/2;sentinel://a:26379/2");
    assert!(said(&text("sentinel://a/2")).contains("is not the broker's server"));
}
