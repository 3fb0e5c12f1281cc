//! `ringgate demo`: a gateway in front of backends of its own, to try without writing a line of configuration.
//!
//! [`Site`] runs backends ([`backend`]), makes certificates (`pki`) and writes the configuration that routes to them;
//! [`checks`] sends its own requests through the gateway and says what came back. Starting the gateway is the caller's part ([`Running`]), so
//! that the demo exercises exactly what `ringgate run` does. Nothing here is on the path of real traffic: plain
//! threads, blocking sockets, httparse. Every read has a time limit and every size a bound all the same, because the
//! demo's port may be reachable by others on the host.

pub mod backend;
pub mod checks;
pub mod client;
pub mod pki;
mod secure_checks;
mod wire;

use std::error::Error;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use backend::Backend;
use pki::{Pki, Trust};

/// Any failure of the demo, as text for the operator.
pub type Failure = Box<dyn Error + Send + Sync>;

/// Hosts of the demo's TLS port: TLS ends at the gateway.
pub(crate) const SECURE: &str = "secure.localhost";
/// As [`SECURE`], for clients with a certificate alone.
pub(crate) const MUTUAL: &str = "mutual.localhost";
/// Hosts that it passes through to services that end TLS themselves.
pub(crate) const PASSED: [&str; 2] = ["one.localhost", "two.localhost"];

/// Where the demo's gateway listens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Entrances {
    /// HTTP.
    pub http: SocketAddr,
    /// TLS that ends there, and TLS that passes through.
    pub tls: SocketAddr,
    /// Bytes.
    pub tcp: SocketAddr,
}

impl Entrances {
    /// Ports of 127.0.0.1 that are free now: `http` where that is not 0.
    ///
    /// # Errors
    /// When there is none.
    pub fn find(http: u16) -> io::Result<Self> {
        // All are held until the last is found, so that none is found twice.
        let any = || TcpListener::bind("127.0.0.1:0").and_then(|held| Ok((held.local_addr()?, held)));
        let found = [any()?, any()?, any()?];
        let [(own, _), (tls, _), (tcp, _)] = &found;
        let http = if http == 0 { *own } else { SocketAddr::new(own.ip(), http) };
        Ok(Self { http, tls: *tls, tcp: *tcp })
    }
}

/// What a gateway is to serve.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Where.
    pub at: Entrances,
    /// TOML.
    pub text: String,
    /// The files that it names.
    pub files: Vec<(PathBuf, Vec<u8>)>,
}

/// A gateway that serves the demo's configuration.
pub struct Running {
    /// Where it listens.
    pub at: Entrances,
    /// Stops it and waits until it has ended.
    pub stop: Box<dyn FnOnce() -> Result<(), Failure>>,
}

/// The demo's backends; they live as long as the process.
#[derive(Debug)]
pub struct Site {
    a: Backend,
    b: Backend,
    passed: [Backend; 2],
    echo: Backend,
    pki: Pki,
}

impl Site {
    /// Starts the backends on free ports of 127.0.0.1.
    ///
    /// # Errors
    /// When no port, thread or certificate can be had.
    pub fn start() -> Result<Self, Failure> {
        let pki = Pki::new(&[SECURE, MUTUAL], PASSED)?;
        let [one, two] = &pki.services;
        Ok(Self {
            a: Backend::start("a")?,
            b: Backend::start("b")?,
            passed: [
                Backend::start_secure("one", one.server_config()?)?,
                Backend::start_secure("two", two.server_config()?)?,
            ],
            echo: Backend::start_echo()?,
            pki,
        })
    }

    /// What clients of the demo trust.
    ///
    /// # Errors
    /// When the library refuses its own certificates.
    pub fn trust(&self) -> Result<Trust, Failure> {
        self.pki.trust()
    }

    /// Writes what a visitor's client needs into `folder`.
    ///
    /// # Errors
    /// When it can not.
    pub fn write_certificates(&self, folder: &Path) -> io::Result<()> {
        self.pki.write(folder)
    }

    /// The configuration of a gateway in front of the backends.
    #[must_use]
    pub fn setup(&self, at: Entrances) -> Setup {
        let file = |name: &str, text: &str| (PathBuf::from(name), text.as_bytes().to_vec());
        let files = vec![
            file("gateway.crt", &self.pki.gateway.certificate),
            file("gateway.key", &self.pki.gateway.key),
            file("ca.pem", &self.pki.authority),
        ];
        Setup { at, text: format!("{}{}{}", self.http_text(at), self.tls_text(at), self.tcp_text(at)), files }
    }

    fn http_text(&self, at: Entrances) -> String {
        let (a, b) = (self.a.address(), self.b.address());
        let port = at.http.port();
        format!(
            r#"[process]
connections_max = 200

[[gateway]]
name = "demo"
[[gateway.server]]
port = {port}
bind = "127.0.0.1"
protocol = "HTTP"
hosts = ["*"]

# One host: the first rule that matches wins.
[[virtual_service]]
name = "demo"
hosts = ["demo.localhost"]
gateways = ["demo"]
[[virtual_service.http]]
match = [{{ headers = {{ x-canary = {{ exact = "yes" }} }} }}]
route = [{{ destination = {{ host = "site", subset = "b" }} }}]
[[virtual_service.http]]
match = [{{ uri = {{ exact = "/" }} }}]
route = [
  {{ destination = {{ host = "site", subset = "a" }}, weight = 75 }},
  {{ destination = {{ host = "site", subset = "b" }}, weight = 25 }},
]
[[virtual_service.http]]
match = [
  {{ uri = {{ exact = "/echo" }} }},
  {{ uri = {{ exact = "/ws" }} }},
  {{ uri = {{ exact = "/stream" }} }},
  {{ uri = {{ exact = "/slow" }} }},
  {{ uri = {{ prefix = "/fail/" }} }},
]
route = [{{ destination = {{ host = "site" }} }}]

# Every other host.
[[virtual_service]]
name = "rest"
hosts = ["*"]
gateways = ["demo"]
[[virtual_service.http]]
match = [{{ uri = {{ exact = "/" }} }}]
route = [{{ destination = {{ host = "site" }} }}]

[[service]]
name = "site"
endpoints = [
  {{ address = "{a}", labels = {{ name = "a" }} }},
  {{ address = "{b}", labels = {{ name = "b" }} }},
]
subsets = [{{ name = "a", labels = {{ name = "a" }} }}, {{ name = "b", labels = {{ name = "b" }} }}]
"#
        )
    }

    fn tcp_text(&self, at: Entrances) -> String {
        format!(
            r#"
[[gateway]]
name = "tcp"
[[gateway.server]]
port = {tcp}
bind = "127.0.0.1"
protocol = "TCP"
hosts = ["*"]

[[virtual_service]]
name = "echo"
hosts = ["*"]
gateways = ["tcp"]
[[virtual_service.tcp]]
route = [{{ destination = {{ host = "echo" }} }}]

[[service]]
name = "echo"
endpoints = [{{ address = "{echo}" }}]
"#,
            tcp = at.tcp.port(),
            echo = self.echo.address(),
        )
    }

    fn tls_text(&self, at: Entrances) -> String {
        let [one, two] = PASSED;
        let pair = r#"server_certificate = "gateway.crt", private_key = "gateway.key""#;
        let head = format!(
            r#"
# One port for TLS that ends here and TLS that passes through.
[[gateway]]
name = "tls"
[[gateway.server]]
port = {tls}
bind = "127.0.0.1"
protocol = "HTTPS"
hosts = ["{SECURE}"]
tls = {{ mode = "SIMPLE", {pair} }}
[[gateway.server]]
port = {tls}
bind = "127.0.0.1"
protocol = "HTTPS"
hosts = ["{MUTUAL}"]
tls = {{ mode = "MUTUAL", {pair}, ca_certificates = "ca.pem" }}
[[gateway.server]]
port = {tls}
bind = "127.0.0.1"
protocol = "TLS"
hosts = ["{one}", "{two}"]
tls = {{ mode = "PASSTHROUGH" }}

[[virtual_service]]
name = "over-tls"
hosts = ["{SECURE}", "{MUTUAL}"]
gateways = ["tls"]
[[virtual_service.http]]
route = [{{ destination = {{ host = "site" }} }}]
"#,
            tls = at.tls.port(),
        );
        let passed = PASSED.iter().zip(&self.passed).map(|(host, backend)| {
            format!(
                r#"
[[virtual_service]]
name = "{host}"
hosts = ["{host}"]
gateways = ["tls"]
[[virtual_service.tls]]
match = [{{ sni_hosts = ["{host}"] }}]
route = [{{ destination = {{ host = "{host}" }} }}]

[[service]]
name = "{host}"
endpoints = [{{ address = "{address}" }}]
"#,
                address = backend.address()
            )
        });
        passed.fold(head, |text, more| text + &more)
    }
}

/// What to try by hand against a gateway, as an aligned table; certificates lie in `folder`.
#[must_use]
pub fn suggestions(at: Entrances, folder: &Path) -> String {
    let base = format!("http://demo.localhost:{}", at.http.port());
    let (tls, ca) = (at.tls.port(), folder.join("ca.pem").display().to_string());
    let client = folder.join("client.pem").display().to_string();
    let secure = |host: &str| format!("https://{host}:{tls}");
    let [one, two] = PASSED;
    let rows = [
        ("two backends, 75 : 25", format!("curl {base}/")),
        ("a canary by header", format!("curl -H 'X-Canary: yes' {base}/")),
        ("what the backend receives", format!("curl -d 'hello' {base}/echo")),
        ("one normal form of paths", format!("curl --path-as-is {base}/x/../echo")),
        ("an answer as it grows", format!("curl -N {base}/stream")),
        ("a backend that takes its time", format!("curl {base}/slow")),
        ("a backend that hangs up", format!("curl -i {base}/fail/close")),
        ("a backend that talks nonsense", format!("curl -i {base}/fail/garbage")),
        ("a backend that stops midway", format!("curl -i {base}/fail/cut")),
        ("a path without a route", format!("curl -i {base}/nothing")),
        ("any other host", format!("curl http://127.0.0.1:{}/", at.http.port())),
        ("WebSocket", format!("a WebSocket client at ws://demo.localhost:{}/ws", at.http.port())),
        ("HTTPS", format!("curl --cacert {ca} {}/echo", secure(SECURE))),
        (
            "what was agreed on",
            format!(
                "openssl s_client -brief -CAfile {ca} -servername {SECURE} -connect 127.0.0.1:{tls} </dev/null"
            ),
        ),
        ("a client certificate", format!("curl --cacert {ca} --cert {client} {}/", secure(MUTUAL))),
        ("the same without one", format!("curl --cacert {ca} {}/", secure(MUTUAL))),
        ("TLS passed through by SNI", format!("curl --cacert {ca} {}/", secure(one))),
        ("another on the same port", format!("curl --cacert {ca} {}/", secure(two))),
        ("a name that is not served", format!("curl -k {}/", secure("nobody.localhost"))),
        (
            "TCP, an echo",
            format!("bash -c 'exec 3<>/dev/tcp/127.0.0.1/{}; echo hello >&3; head -n 1 <&3'", at.tcp.port()),
        ),
    ];
    let width = rows.iter().map(|(what, _)| what.len()).max().unwrap_or_default();
    rows.iter().map(|(what, how)| format!("  {what:width$}  {how}\n")).collect()
}
