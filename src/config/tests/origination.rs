//! `tls` of traffic policies: what is made of its keys and files, and what is said of those that do not fit.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::date_time_ymd;

use super::{GATEWAY, codes};
use crate::config::model::{Config, UpstreamTls};
use crate::config::render::{self, Colour};
use crate::config::{Loaded, load_text_with};
use crate::tls::testing::Ca;

/// The pair that is shown to endpoints.
const PAIR: &str = "client_certificate = \"gateway.crt\", private_key = \"gateway.key\"";

const CA: &str = "ca_certificates = \"ca.crt\"";

/// Services with routes to them, and the files that they name.
struct Site {
    files: Vec<(PathBuf, Vec<u8>)>,
    /// Policies on TLS, each of a service.
    policies: Vec<String>,
}

impl Site {
    fn new() -> Self {
        let ca = Ca::new("endpoints");
        let mut site = Self { files: Vec::new(), policies: Vec::new() };
        let holder = ca.client(|_| {});
        let old = ca.client(|params| params.not_after = date_time_ymd(2020, 1, 1));
        site.file("ca.crt", &pem("CERTIFICATE", &ca.root));
        site.file("ca.crl", &pem("X509 CRL", &ca.crl(4000, &[1])));
        site.file("old.crl", &pem("X509 CRL", &ca.crl(2020, &[1])));
        for (name, holder) in [("gateway", &holder), ("old", &old)] {
            site.file(&format!("{name}.crt"), &holder.certificate.pem());
            site.file(&format!("{name}.key"), &holder.key.serialize_pem());
        }
        site
    }

    fn file(&mut self, name: &str, content: &str) {
        self.files.push((PathBuf::from(name), content.as_bytes().to_vec()));
    }

    fn service(&mut self, tls: &str) {
        self.policies.push(tls.to_owned());
    }

    fn load(&self) -> Loaded {
        let mut text = String::from(GATEWAY);
        let names: Vec<String> = (0..self.policies.len()).map(|at| format!("s{at}")).collect();
        let route: Vec<String> = names
            .iter()
            .map(|name| format!("{{ destination = {{ host = \"{name}\" }}, weight = 1 }}"))
            .collect();
        text += "[[virtual_service]]\nname = \"all\"\nhosts = [\"*\"]\ngateways = [\"edge\"]\n";
        writeln!(text, "[[virtual_service.http]]\nroute = [{}]", route.join(", ")).unwrap();
        for (name, policy) in names.iter().zip(&self.policies) {
            let endpoints = "endpoints = [{ address = \"10.0.0.1:443\" }]";
            writeln!(text, "[[service]]\nname = \"{name}\"\n{endpoints}").unwrap();
            writeln!(text, "[service.traffic_policy]\ntls = {{ {policy} }}").unwrap();
        }
        load_text_with(&[(PathBuf::from("edge.toml"), text)], &self.files)
    }

    fn said(&self) -> String {
        let loaded = self.load();
        let mut text = String::new();
        for diagnostic in &loaded.diagnostics {
            text.push_str(&render::text(diagnostic, Colour::Plain));
            text.push('\n');
        }
        assert!(!text.contains("hunter2"), "a secret is printed");
        text.push_str(&render::summary_line(loaded.config.as_ref(), &loaded.diagnostics));
        regex::Regex::new(r"\d+ days").unwrap().replace_all(&text, "N days").into_owned()
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let body = data_encoding::BASE64.encode(der);
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

fn of(config: &Config, cluster: usize) -> Option<Arc<UpstreamTls>> {
    config.clusters[cluster].tls.clone()
}

/// What is written arrives, and services that want the same share it.
#[test]
fn written_values() {
    let mut site = Site::new();
    site.service(&format!("mode = \"SIMPLE\", {CA}, sni = \"api.example.com\""));
    site.service(&format!("mode = \"SIMPLE\", {CA}, sni = \"API.example.com.\""));
    site.service("mode = \"DISABLE\"");
    site.service(&format!("mode = \"MUTUAL\", {CA}, {PAIR}"));
    site.service(&format!("mode = \"SIMPLE\", {CA}, min_protocol_version = \"TLSV1_3\""));
    site.service(&format!("mode = \"SIMPLE\", {CA}, cipher_profile = \"MODERN\""));
    let suites = "cipher_suites = [\"ECDHE-ECDSA-AES128-GCM-SHA256\", \"TLS_AES_128_GCM_SHA256\"]";
    site.service(&format!("mode = \"SIMPLE\", {CA}, {suites}"));
    let lists =
        "ca_crl = \"ca.crl\", crl_depth = \"LEAF\", crl_expired = \"ALLOW\", crl_unknown_status = \"ALLOW\"";
    site.service(&format!(
        "mode = \"SIMPLE\", {CA}, {lists}, subject_alt_names = [\"spiffe://example.org/web\"]"
    ));
    site.service(&format!("mode = \"SIMPLE\", {CA}, insecure_skip_verify = false"));
    let loaded = site.load();
    assert_eq!(codes(&loaded), Vec::<String>::new(), "{:#?}", loaded.diagnostics);
    let config = loaded.config.unwrap();
    let first = of(&config, 0).unwrap();
    assert!(Arc::ptr_eq(&first, &of(&config, 1).unwrap()));
    assert_eq!(first.sni.as_ref().map(|name| name.to_str().into_owned()).as_deref(), Some("api.example.com"));
    assert!(of(&config, 2).is_none());
    let mutual = of(&config, 3).unwrap();
    assert!(mutual.config.client_auth_cert_resolver.has_certs() && mutual.sni.is_none());
    assert!(!first.config.client_auth_cert_resolver.has_certs());
    assert!(
        Arc::ptr_eq(&of(&config, 4).unwrap(), &of(&config, 5).unwrap()),
        "TLS 1.3 alone, said in two ways"
    );
    assert_eq!(of(&config, 6).unwrap().config.crypto_provider().cipher_suites.len(), 2);
    let mut fingerprints: Vec<_> = config
        .clusters
        .iter()
        .filter_map(|cluster| cluster.tls.as_ref())
        .map(|tls| tls.fingerprint)
        .collect();
    fingerprints.sort_unstable();
    fingerprints.dedup();
    assert_eq!(fingerprints.len(), 6);
}

/// A subset's policy on TLS stands instead of its service's; without one it has the service's.
#[test]
fn subsets() {
    let site = Site::new();
    let tls = format!("tls = {{ mode = \"SIMPLE\", {CA} }}");
    let policy = |tls: &str| format!("traffic_policy = {{ {tls} }}");
    let text = format!(
        "{GATEWAY}[[virtual_service]]\nname = \"all\"\nhosts = [\"*\"]\ngateways = [\"edge\"]\n\
         [[virtual_service.http]]\nroute = [\n\
         {{ destination = {{ host = \"s\" }}, weight = 1 }},\n\
         {{ destination = {{ host = \"s\", subset = \"same\" }}, weight = 1 }},\n\
         {{ destination = {{ host = \"s\", subset = \"off\" }}, weight = 1 }},\n\
         {{ destination = {{ host = \"s\", subset = \"own\" }}, weight = 1 }},\n]\n\
         [[service]]\nname = \"s\"\nendpoints = [{{ address = \"10.0.0.1:443\" }}]\nsubsets = [\n\
         {{ name = \"same\" }},\n{{ name = \"off\", {} }},\n{{ name = \"own\", {} }},\n]\n{}\n",
        policy("tls = { mode = \"DISABLE\" }"),
        policy(&format!("tls = {{ mode = \"SIMPLE\", {CA}, sni = \"own.test\" }}")),
        policy(&tls),
    );
    let loaded = load_text_with(&[(PathBuf::from("edge.toml"), text.clone())], &site.files);
    assert_eq!(codes(&loaded), Vec::<String>::new(), "{:#?}", loaded.diagnostics);
    let config = loaded.config.unwrap();
    assert!(Arc::ptr_eq(&of(&config, 0).unwrap(), &of(&config, 1).unwrap()));
    assert!(of(&config, 2).is_none());
    assert!(of(&config, 3).unwrap().sni.is_some());
    // What only the service decides is not ignored in a subset.
    let more = text.replace("{ mode = \"DISABLE\" }", "{ mode = \"DISABLE\" }, connection_pool = {}");
    let loaded = load_text_with(&[(PathBuf::from("edge.toml"), more)], &site.files);
    assert_eq!(codes(&loaded), ["23:not-supported"], "{:#?}", loaded.diagnostics);
}

/// Keys that are missing, or do not go with the others.
#[test]
fn keys_that_do_not_fit() {
    let mut site = Site::new();
    for tls in [
        String::new(),
        "mode = \"ISTIO_MUTUAL\"".to_owned(),
        "mode = \"simple\"".to_owned(),
        format!("mode = \"DISABLE\", {CA}, sni = \"a.test\""),
        // Only the authorities of the host are left, of which a test has none.
        "mode = \"SIMPLE\"".to_owned(),
        format!("mode = \"SIMPLE\", {CA}, {PAIR}"),
        format!("mode = \"MUTUAL\", {CA}"),
        format!("mode = \"MUTUAL\", {CA}, client_certificate = \"gateway.crt\""),
        format!("mode = \"MUTUAL\", {CA}, client_certificate = \"absent.crt\", private_key = \"hunter2\""),
        format!("mode = \"MUTUAL\", {CA}, client_certificate = \"gateway.crt\", private_key = \"old.key\""),
        format!(
            "mode = \"MUTUAL\", {CA}, client_certificate = \"gateway.key\", private_key = \"gateway.crt\""
        ),
        format!("mode = \"SIMPLE\", {CA}, credential_name = \"secret\", server_name = \"a.test\""),
        format!("mode = \"SIMPLE\", {CA}, sni = \"10.0.0.1\""),
        format!("mode = \"SIMPLE\", {CA}, sni = \"*.a.test\""),
        format!("mode = \"SIMPLE\", {CA}, sni = \"\""),
        format!("mode = \"SIMPLE\", {CA}, subject_alt_names = [\"*.a.test\"]"),
        format!("mode = \"SIMPLE\", {CA}, subject_alt_names = []"),
        format!("mode = \"SIMPLE\", {CA}, crl_expired = \"ALLOW\""),
        format!("mode = \"SIMPLE\", {CA}, ca_crl = \"ca.crt\""),
        "mode = \"SIMPLE\", ca_certificates = \"gateway.key\"".to_owned(),
        format!("mode = \"SIMPLE\", {CA}, subject_alt_names = [\"a\"], insecure_skip_verify = true"),
        format!("mode = \"SIMPLE\", {CA}, insecure_skip_verify = \"yes\""),
        format!("mode = \"SIMPLE\", {CA}, min_protocol_version = \"TLSV1_1\""),
        format!("mode = \"SIMPLE\", {CA}, cipher_suites = [\"TLS_AES_128_GCM_SHA256\"]"),
    ] {
        site.service(&tls);
    }
    insta::assert_snapshot!("origination_keys", site.said());
}

/// What works all the same, and is most often a mistake.
#[test]
fn warnings() {
    let mut site = Site::new();
    site.service("mode = \"SIMPLE\", insecure_skip_verify = true");
    site.service(&format!("mode = \"SIMPLE\", {CA}, ca_crl = \"old.crl\""));
    site.service(&format!(
        "mode = \"MUTUAL\", {CA}, client_certificate = \"old.crt\", private_key = \"old.key\""
    ));
    insta::assert_snapshot!("origination_warnings", site.said());

    let site = Site::new();
    let text = format!(
        "[[gateway]]\nname = \"edge\"\n[[gateway.server]]\nport = 443\nprotocol = \"TLS\"\nhosts = [\"a.test\"]\n\
         tls = {{ mode = \"PASSTHROUGH\" }}\n[[virtual_service]]\nname = \"a\"\nhosts = [\"a.test\"]\ngateways = [\"edge\"]\n\
         [[virtual_service.tls]]\nmatch = [{{ sni_hosts = [\"a.test\"] }}]\nroute = [{{ destination = {{ host = \"s\" }} }}]\n\
         [[service]]\nname = \"s\"\nendpoints = [{{ address = \"10.0.0.1:443\" }}]\n\
         traffic_policy = {{ tls = {{ mode = \"SIMPLE\", {CA} }} }}\n"
    );
    let loaded = load_text_with(&[(PathBuf::from("edge.toml"), text)], &site.files);
    assert_eq!(codes(&loaded), ["~14:double-tls"], "{:#?}", loaded.diagnostics);
}

/// Settings with which no endpoint is trusted, or trusts.
#[test]
fn nobody_is_trusted() {
    let mut site = Site::new();
    let others = Ca::new("others");
    site.file("others.crl", &pem("X509 CRL", &others.crl(4000, &[1])));
    let server =
        others.client(|params| params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth]);
    site.file("server.crt", &server.certificate.pem());
    site.file("server.key", &server.key.serialize_pem());
    site.service(&format!("mode = \"SIMPLE\", {CA}, ca_crl = \"others.crl\""));
    site.service(&format!(
        "mode = \"MUTUAL\", {CA}, client_certificate = \"server.crt\", private_key = \"server.key\""
    ));
    let text = site.said();
    assert!(text.contains("no list in `others.crl` is of an authority in `ca.crt`"), "{text}");
    assert!(text.contains("`server.crt` is not made for clients: endpoints refuse it"), "{text}");
    assert!(text.ends_with("; 2 warnings"), "{text}");
}
