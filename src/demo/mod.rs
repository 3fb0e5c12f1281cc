//! `ringgate demo`: a gateway in front of backends of its own, to try without writing a line of configuration.
//!
//! [`Site`] runs two backends ([`backend`]) and writes the configuration that routes to them; [`checks`] sends its own
//! requests through the gateway and says what came back. Starting the gateway is the caller's part ([`Running`]), so
//! that the demo exercises exactly what `ringgate run` does. Nothing here is on the path of real traffic: plain
//! threads, blocking sockets, httparse. Every read has a time limit and every size a bound all the same, because the
//! demo's port may be reachable by others on the host.

pub mod backend;
pub mod checks;
pub mod client;
mod wire;

use std::error::Error;
use std::net::SocketAddr;

use backend::Backend;

/// Any failure of the demo, as text for the operator.
pub type Failure = Box<dyn Error + Send + Sync>;

/// A gateway that serves the demo's configuration.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    /// Stops it and waits until it has ended.
    pub stop: Box<dyn FnOnce() -> Result<(), Failure>>,
}

/// The demo's backends; they live as long as the process.
#[derive(Debug)]
pub struct Site {
    a: Backend,
    b: Backend,
}

impl Site {
    /// Starts the backends on free ports of 127.0.0.1.
    ///
    /// # Errors
    /// When no port or thread can be had.
    pub fn start() -> Result<Self, Failure> {
        Ok(Self { a: Backend::start("a")?, b: Backend::start("b")? })
    }

    /// The configuration of a gateway on `port` of 127.0.0.1 in front of the backends; 0 lets the kernel choose.
    #[must_use]
    pub fn config_text(&self, port: u16) -> String {
        let (a, b) = (self.a.address(), self.b.address());
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
}

/// What to try by hand against a gateway at `address`, as an aligned table.
#[must_use]
pub fn suggestions(address: SocketAddr) -> String {
    let base = format!("http://demo.localhost:{}", address.port());
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
        ("any other host", format!("curl http://127.0.0.1:{}/", address.port())),
        ("WebSocket", format!("a WebSocket client at ws://demo.localhost:{}/ws", address.port())),
    ];
    let width = rows.iter().map(|(what, _)| what.len()).max().unwrap_or_default();
    rows.iter().map(|(what, how)| format!("  {what:width$}  {how}\n")).collect()
}
