//! Settings with which nobody gets in, and all the same nothing is wrong with their form.

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa};

use super::codes;
use super::tls::{PAIR, Site, pem};
use crate::tls::testing::Ca;

/// A site with one server that asks for certificates.
fn mutual(more: &str) -> Site {
    let mut site = Site::new();
    site.https(&format!("mode = \"MUTUAL\", {PAIR}, ca_certificates = \"ca.crt\"{more}"));
    site
}

/// Lists of none of the authorities, where certificates without one are refused.
#[test]
fn lists_of_others() {
    let mut site = Site::new();
    let lists = |ca: &Ca| pem("X509 CRL", &ca.crl(4000, &[1]));
    let others = lists(&Ca::new("others"));
    site.file("others.crl", &others);
    let own = lists(&site.ca);
    site.file("both.crl", &(others + &own));
    let of = |list: &str, more: &str| {
        format!("mode = \"MUTUAL\", {PAIR}, ca_certificates = \"ca.crt\", ca_crl = \"{list}\"{more}")
    };
    site.https(&of("both.crl", ""));
    site.https(&of("others.crl", ", crl_unknown_status = \"ALLOW\""));
    site.config();
    // Once for all servers with the same files.
    site.https(&of("others.crl", ""));
    site.https(&of("others.crl", ""));
    let text = site.said();
    assert_eq!(text.matches("no list in `others.crl` is of an authority in `ca.crt`").count(), 1, "{text}");
    assert!(text.contains(": no certificate is good"), "{text}");
}

/// Names as openssl shows them, and addresses.
#[test]
fn names_that_are_not_bare() {
    for (name, said) in [
        ("URI:spiffe://a.test/x", "write `spiffe://a.test/x`"),
        ("dns:a.test", "write `a.test`"),
        ("email:a@a.test", "write `a@a.test`"),
        ("CN=a", "the subject is not compared"),
        ("IP Address:10.0.0.1", "addresses are not compared"),
        ("IP:fe80::1", "addresses are not compared"),
        ("10.0.0.1", "addresses are not compared"),
        ("[::1]", "addresses are not compared"),
    ] {
        let text = mutual(&format!(", subject_alt_names = [\"{name}\"]")).said();
        assert!(text.contains(said) && text.ends_with("1 error, 0 warnings"), "{name}: {text}");
    }
    mutual(", subject_alt_names = [\"spiffe://a.test/x\", \"a.test\", \"a@a.test\"]").config();
}

/// A certificate of a client in the place of its authority's. One made with its own key stands for itself.
#[test]
fn authorities_that_are_none() {
    let mut site = Site::new();
    let client = site.ca.client(|_| {}).certificate.pem();
    let root = pem("CERTIFICATE", &site.ca.root);
    site.file("mixed.crt", &(root + &client));
    site.https(&format!("mode = \"MUTUAL\", {PAIR}, ca_certificates = \"mixed.crt\""));
    let text = site.said();
    assert!(text.contains("certificate 2 of `mixed.crt` is not that of an authority"), "{text}");
    let key = rcgen::KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["me.test".to_owned()]).unwrap().self_signed(&key).unwrap();
    let mut site = Site::new();
    site.file("own.crt", &own.pem());
    site.https(&format!("mode = \"MUTUAL\", {PAIR}, ca_certificates = \"own.crt\""));
    site.config();
}

/// Ports that no server of the gateways has.
#[test]
fn ports_of_no_server() {
    let with = |port: u16| {
        let mut site = mutual("");
        site.rule = format!("match = [{{ port = {port} }}]\n");
        site
    };
    with(441).config();
    let text = with(8443).said();
    assert!(text.contains("the rule asks for port 8443") && text.contains("`port = 441`"), "{text}");
    for kind in ["tls", "tcp"] {
        let (protocol, tls, names) = match kind {
            "tls" => ("TLS", "tls = { mode = \"PASSTHROUGH\" }", "sni_hosts = [\"a.test\"], "),
            _ => ("TCP", "", ""),
        };
        let text = format!(
            "[[gateway]]\nname = \"g\"\n[[gateway.server]]\nport = 443\nprotocol = \"{protocol}\"\n{tls}\n\
             hosts = [\"*\"]\n[[virtual_service]]\nname = \"v\"\nhosts = [\"*\"]\ngateways = [\"g\"]\n\
             [[virtual_service.{kind}]]\nmatch = [{{ {names}port = 444 }}]\n\
             route = [{{ destination = {{ host = \"web\" }} }}]\n{}",
            super::SERVICE
        );
        assert_eq!(codes(&super::load(&[&text])), ["~12:unserved-port"], "{kind}");
        assert_eq!(codes(&super::load(&[&text.replace("port = 443", "port = 0")])), Vec::<String>::new());
    }
}

/// Subjects as openssl prints them unless told otherwise.
#[test]
fn subjects_of_another_form() {
    for (subject, right) in [
        ("/O=Example/CN=shop", "`CN=shop,O=Example` perhaps"),
        ("O = Example, CN = shop", "`CN=shop,O=Example` perhaps"),
        ("O=Example, CN=shop", "`CN=shop,O=Example` perhaps"),
        ("subject=CN = shop", "`CN=shop` perhaps"),
    ] {
        let mut site = mutual("");
        site.rule =
            format!("match = [{{ client_certificate = {{ subject = {{ exact = \"{subject}\" }} }} }}]\n");
        let text = site.said();
        assert!(text.contains(right) && text.ends_with("; 1 warning"), "{subject}: {text}");
    }
    let mut site = mutual("");
    let subject = "'CN=shop,O=Example\\, Inc.'";
    site.rule = format!("match = [{{ client_certificate = {{ subject = {{ exact = {subject} }} }} }}]\n");
    site.config();
}

/// Certificates made for the other side of a handshake, without names, or of an authority.
#[test]
fn certificates_for_something_else() {
    let mut site = Site::new();
    let usage = |usage| move |params: &mut CertificateParams| params.extended_key_usages = vec![usage];
    site.pair("client", &["a.test"], usage(ExtendedKeyUsagePurpose::ClientAuth));
    site.pair("any", &["a.test"], usage(ExtendedKeyUsagePurpose::Any));
    site.pair("bare", &[], |_| {});
    site.pair("ca", &["b.test"], |params| params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained));
    let of = |name: &str| {
        format!("mode = \"SIMPLE\", server_certificate = \"{name}.crt\", private_key = \"{name}.key\"")
    };
    site.https(&of("any"));
    site.config();
    for name in ["client", "bare", "ca"] {
        site.https(&of(name));
    }
    let text = site.said();
    assert!(text.contains("`client.crt` is not made for servers: clients refuse it"), "{text}");
    assert!(text.contains("hint: it has no subjectAltName"), "{text}");
    assert!(text.contains("hint: it is the certificate of an authority"), "{text}");
}
