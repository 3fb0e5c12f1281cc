//! Who a client is by its certificate: routes go by it, and endpoints hear of it.

use std::sync::Arc;

use rustls::version::{TLS12, TLS13};

use crate::support::tls::{Authority, Identity, TlsClient};
use crate::support::{Backend, Driver, Gateway, config};
use crate::tls::Site;

/// Answers with the name of the cluster and what it heard of the client.
fn backend(name: &'static str) -> Backend {
    Backend::start(move |conn| {
        while let Some(request) = conn.request() {
            let heard = request.headers.all("x-forwarded-client-cert").join(" | ");
            conn.reply(200, format!("{name} {heard}"));
        }
    })
}

struct Edge {
    site: Site,
    clients: Authority,
    gateway: Gateway,
    _backends: [Backend; 4],
}

const RULES: [(&str, &str); 4] = [
    ("client_certificate = { uri = { exact = \"spiffe://test/admin\" } }", "admin"),
    (
        "client_certificate = { uri = { prefix = \"spiffe://test/\" }, subject = { regex = \".*CN=rcgen.*\" } }",
        "member",
    ),
    ("client_certificate = { present = false }", "nobody"),
    ("client_certificate = { present = true }", "somebody"),
];

impl Edge {
    fn start(driver: Driver, gateway_keys: &str, tls_keys: &str) -> Self {
        let (site, clients) = (Site::new(), Authority::new("clients"));
        let ca = site.directory.write("clients.crt", &clients.certificate);
        let more = format!(", ca_certificates = {ca:?}{tls_keys}");
        let mut text = format!("[[gateway]]\nname = \"web\"\n{gateway_keys}\n");
        text += &site.server(0, &["*"], "OPTIONAL_MUTUAL", &more);
        text += "[[virtual_service]]\nname = \"all\"\nhosts = [\"*\"]\ngateways = [\"web\"]\n";
        let backends = RULES.map(|(block, name)| {
            text += &config::rule_to(block, name);
            backend(name)
        });
        for ((_, name), backend) in RULES.iter().zip(&backends) {
            text += &config::service(name, &[backend.address()], "");
        }
        Self { site, clients, gateway: Gateway::start(driver, &text), _backends: backends }
    }

    fn ask(&self, who: Option<&Identity>, header: &str) -> (String, String) {
        let mut answers = Vec::new();
        for version in [&TLS12, &TLS13] {
            let config = self.site.authority.client_config(&[version], who);
            // The second one resumes.
            for _ in 0..2 {
                let mut client = TlsClient::connect(self.gateway.address(), &Arc::clone(&config), "a.test");
                client.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{header}\r\n"));
                answers.push(client.response("GET").text());
            }
        }
        answers.dedup();
        assert_eq!(answers.len(), 1, "{answers:?}");
        let (name, heard) = answers[0].split_once(' ').unwrap();
        (name.to_owned(), heard.to_owned())
    }
}

const CLAIM: &str = "X-Forwarded-Client-Cert: Hash=0;URI=spiffe://test/admin\r\n";

both_drivers! {
    /// Rules go by the verified certificate alone, whatever the client writes; a resumed session is the same client.
    fn routes_go_by_the_certificate(driver) {
        let edge = Edge::start(driver, "", "");
        let [admin, member, other] = ["spiffe://test/admin", "spiffe://test/x", "spiffe://other/x"]
            .map(|uri| (uri, edge.clients.client(uri)));
        for ((uri, who), name) in [(&admin, "admin"), (&member, "member"), (&other, "somebody")] {
            let (cluster, heard) = edge.ask(Some(who), CLAIM);
            assert_eq!(cluster, name);
            let mut parts = heard.split(';');
            assert!(parts.next().is_some_and(|hash| hash.starts_with("Hash=") && hash.len() == 5 + 64), "{heard}");
            assert_eq!(parts.next(), Some("Subject=\"CN=rcgen self signed cert\""));
            assert_eq!(parts.next(), Some(&*format!("URI={uri}")));
            assert_eq!(parts.next(), None);
        }
        assert_eq!(edge.ask(None, CLAIM), ("nobody".to_owned(), String::new()));
    }

    /// What is passed on is chosen; a trusted proxy's word stands before it.
    fn endpoints_hear_what_they_are_to(driver) {
        let keys = ", forward_client_certificate = [\"CERT\", \"URI\"]";
        let edge = Edge::start(driver, "trusted_proxies = [\"127.0.0.0/8\"]", keys);
        let admin = edge.clients.client("spiffe://test/admin");
        let (cluster, heard) = edge.ask(Some(&admin), "X-Forwarded-Client-Cert: Hash=0;URI=u\r\n");
        assert_eq!(cluster, "admin");
        let own = heard.strip_prefix("Hash=0;URI=u, Hash=").unwrap();
        let encoded = own.split("Cert=\"").nth(1).and_then(|rest| rest.strip_suffix("\";URI=spiffe://test/admin")).unwrap();
        let pem = encoded.replace("%20", " ").replace("%0A", "\n").replace("%2B", "+").replace("%2F", "/").replace("%3D", "=");
        assert_eq!(pem.split_whitespace().collect::<String>(), admin.certificate.split_whitespace().collect::<String>());
        let (_, heard) = edge.ask(None, "X-Forwarded-Client-Cert: Hash=0;URI=u\r\n");
        assert_eq!(heard, "Hash=0;URI=u");

        let edge = Edge::start(driver, "", ", forward_client_certificate = []");
        assert_eq!(edge.ask(Some(&edge.clients.client("spiffe://test/x")), CLAIM), ("member".to_owned(), String::new()));
    }

    /// Who is turned away, and why, stands in the log of who asks for it.
    fn refusals_are_told(driver) {
        let site = Site::new();
        let ca = site.directory.write("clients.crt", &Authority::new("clients").certificate);
        let backend = Backend::fixed("ok");
        let text = site.config(backend.address(), "", "MUTUAL", &format!(", ca_certificates = {ca:?}"));
        let text = text.replace("hosts = [\"*\"]\ntls", "hosts = [\"a.test\"]\ntls");
        let gateway = crate::layer4::start_with_log(driver, &text, "info,ringgate::refused=debug");
        let stranger = Authority::new("strangers").client("spiffe://test/x");
        for (host, who, words) in [
            ("a.test", None, "peer sent no certificates"),
            ("a.test", Some(&stranger), "UnknownIssuer"),
            ("b.test", None, "the name in the ClientHello leads nowhere"),
        ] {
            let config = site.authority.client_config(&[&TLS12], who);
            assert!(TlsClient::try_connect(gateway.address(), &config, host).is_err());
            gateway.wait_stderr(words);
        }
    }
}
