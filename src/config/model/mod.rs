//! The typed configuration: what `lower` makes of the files, complete and checked. Nothing here can be invalid.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

mod l4;
mod proxy;
mod tls;

pub use self::l4::{L4Match, L4Route, RuleKind};
pub use self::proxy::{ProxyAccept, ProxyVersion};
pub use self::tls::{ServerTls, TlsMode, TlsTerms, UpstreamTls};

/// Everything an operator wrote, checked and cross-referenced.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The one `[process]` table.
    pub process: Process,
    /// In the order of file name, then position.
    pub gateways: Vec<Gateway>,
    /// In the order of file name, then position.
    pub virtual_services: Vec<VirtualService>,
    /// The clusters that routes name: one per service and subset in use. [`Destination::cluster`] indexes it.
    pub clusters: Vec<Cluster>,
    /// Number of `[[service]]` tables, used by a route or not.
    pub services: usize,
    /// Number of endpoints of all services.
    pub endpoints: usize,
}

/// Where an entry was written.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Origin {
    /// File.
    pub file: Arc<PathBuf>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// What `ring_entries` may be, a power of two: the runtime takes no fewer, the kernel no more.
pub const RING_ENTRIES: RangeInclusive<u32> = 256..=32_768;

/// `ring_entries` unless set. A queue that is full is submitted early; this one is larger than most bursts of one
/// scheduling round.
pub const RING_ENTRIES_DEFAULT: u32 = 4096;

/// `[process]`: what holds for the whole process and is fixed while it lives, limits excepted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Process {
    /// Which cores get a shard.
    pub cores: Cores,
    /// Which I/O driver the shards use.
    pub driver: Driver,
    /// Submission entries of each shard's ring, with io_uring: one of [`RING_ENTRIES`].
    pub ring_entries: u32,
    /// Whether shards hand connections over to shards with fewer.
    pub accept_balance: AcceptBalance,
    /// How the kernel chooses the shard of a new connection.
    pub accept_steering: AcceptSteering,
    /// Downstream connections of the whole process; at the cap shards stop accepting.
    pub connections_max: u32,
    /// Bytes of session buffers of the whole process; at the cap shards stop accepting.
    pub buffer_bytes_max: u64,
    /// How long a drain lets exchanges and tunnels finish.
    pub drain_timeout: Duration,
    /// Where the supervisor keeps its status for scripts; an absolute path, fixed while the process lives.
    pub status_file: Option<PathBuf>,
    /// How often the files that TLS settings name are looked at; `None`: at reloads only.
    pub certificate_check: Option<Duration>,
}

impl Default for Process {
    fn default() -> Self {
        Self {
            cores: Cores::Auto,
            driver: Driver::Auto,
            ring_entries: RING_ENTRIES_DEFAULT,
            accept_balance: AcceptBalance::Auto,
            accept_steering: AcceptSteering::Hash,
            connections_max: 100_000,
            buffer_bytes_max: 1 << 30,
            drain_timeout: Duration::from_secs(30),
            status_file: None,
            certificate_check: Some(Duration::from_secs(5)),
        }
    }
}

/// `cores`: `"auto" | "all" | "4" | "0-3,6" | "numa:0"`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Cores {
    /// One shard for each physical core this process may run on, no more than the cgroup's quota feeds.
    #[default]
    Auto,
    /// One shard for each logical core this process may run on.
    All,
    /// This many shards, on the first cores of `auto`'s order, then their siblings.
    Count(u32),
    /// Exactly these cores, in this order.
    List(Vec<u32>),
    /// As `auto`, on the cores of these NUMA nodes.
    Numa(Vec<u32>),
}

/// As the operator writes it.
impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |list: &[u32]| list.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        match self {
            Self::Auto => f.write_str("auto"),
            Self::All => f.write_str("all"),
            Self::Count(count) => count.fmt(f),
            // A lone number would be a count.
            Self::List(list) => match list[..] {
                [core] => write!(f, "{core}-{core}"),
                _ => f.write_str(&joined(list)),
            },
            Self::Numa(nodes) => write!(f, "numa:{}", joined(nodes)),
        }
    }
}

/// `accept_balance`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AcceptBalance {
    /// A shard well above the others hands new connections over.
    Auto,
    /// Connections stay where the kernel puts them.
    Off,
}

/// `accept_steering`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AcceptSteering {
    /// By a hash of the addresses.
    Hash,
    /// The shard of the CPU that received the connection; by hash where that has none.
    Cpu,
}

/// `driver`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Driver {
    /// io_uring with the best flags the kernel takes, else epoll.
    #[default]
    Auto,
    /// epoll.
    Epoll,
    /// io_uring or refuse to start.
    IoUring,
}

/// `[[gateway]]`.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// Name, unique among gateways.
    pub name: Arc<str>,
    /// Its port entries.
    pub servers: Vec<Server>,
    /// Peers whose forwarding headers (`X-Forwarded-*`, `Via`, `X-Request-Id`) are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Bounds on what a client may send.
    pub limits: Limits,
    /// Timers on the client's side.
    pub timeouts: Timeouts,
    /// How paths are brought to their normal form.
    pub path: PathPolicy,
    /// Where it was written.
    pub origin: Origin,
}

/// `[[gateway.server]]`.
#[derive(Clone, Debug)]
pub struct Server {
    /// TCP port; 0 lets the kernel choose a free one.
    pub port: u16,
    /// Address to bind; `None` is every address of both families (`[::]`, dual stack).
    pub bind: Option<IpAddr>,
    /// IP_FREEBIND: bind before the address is present on the host.
    pub freebind: bool,
    /// What is spoken on the port.
    pub protocol: Protocol,
    /// For HTTPS and TLS, and only for them.
    pub tls: Option<ServerTls>,
    /// For HTTP: requests are sent to this port of the same host, over HTTPS.
    pub https_redirect: Option<u16>,
    /// For HTTPS: the value of `Strict-Transport-Security` (RFC 6797 section 6.1) in responses.
    pub hsts: Option<Arc<str>>,
    /// For HTTPS: a request in clear text is told so, not just closed.
    pub answer_plain_http: bool,
    /// Which peers say with the PROXY protocol whom they speak for. The same for all servers of a listener.
    pub proxy_protocol: Option<ProxyAccept>,
    /// Hosts served.
    pub hosts: Vec<HostPattern>,
    /// Where it was written.
    pub origin: Origin,
}

/// `protocol` of a server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// HTTP/1.1 in clear text.
    Http,
    /// HTTP/1.1 over TLS that ends here.
    Https,
    /// Bytes, routed by the connection's addresses.
    Tcp,
    /// TLS that passes through, routed by SNI; or ends here and goes on as bytes.
    Tls,
}

/// As the operator writes it.
impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "HTTP",
            Self::Https => "HTTPS",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
        })
    }
}

/// A host of a server or virtual service, lower case, without a trailing dot.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum HostPattern {
    /// `*`
    Any,
    /// `www.example.com`
    Exact(Arc<str>),
    /// `*.example.com`, kept as `.example.com`; covers one or more labels.
    Suffix(Arc<str>),
}

/// `[gateway.limits]`: bounds on what one client may send. Units at the end of names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Request line and headers together, bytes.
    pub head_bytes_max: u32,
    /// Header fields of a head, and of a trailer section.
    pub headers_max: u32,
    /// Request target, bytes (414 beyond).
    pub target_bytes_max: u32,
    /// Requests on one connection before it is closed.
    pub requests_per_connection_max: u32,
    /// Connections of the gateway's clients, over all shards.
    pub connections_max: Option<u32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes_max: 32 * 1024,
            headers_max: 100,
            target_bytes_max: 16 * 1024,
            requests_per_connection_max: 1_000_000,
            connections_max: None,
        }
    }
}

/// `[gateway.timeouts]`: timers on the client's side, from 100 ms up.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Timeouts {
    /// From the accept to a whole ClientHello, and from there to the end of the handshake: closed.
    pub handshake: Duration,
    /// From the first byte of a request (or the accept) to the end of its head: 408.
    pub header: Duration,
    /// Between two arrivals of request body bytes: 408.
    pub body_gap: Duration,
    /// Between two advances of a response the client is to read: reset.
    pub write_gap: Duration,
    /// From a response's end to the next request's first byte: closed.
    pub keep_alive: Duration,
    /// An upgraded connection without a byte in either direction: closed.
    pub tunnel_idle: Duration,
    /// How long a closed connection is still read so that the last response is not lost to a reset.
    pub linger: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            header: Duration::from_secs(10),
            body_gap: Duration::from_secs(30),
            write_gap: Duration::from_secs(30),
            keep_alive: Duration::from_secs(60),
            tunnel_idle: Duration::from_secs(3600),
            linger: Duration::from_secs(2),
        }
    }
}

/// `path = { .. }` of a gateway.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PathPolicy {
    /// `%2F` in a path.
    pub escaped_slashes: EscapedSlashes,
    /// `\` and `%5C` in a path.
    pub backslashes: Backslashes,
    /// `//` becomes `/`.
    pub merge_slashes: bool,
}

/// Envoy's `path_with_escaped_slashes_action`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum EscapedSlashes {
    /// `KEEP_UNCHANGED`: stays `%2F`, matched and forwarded so.
    KeepUnchanged,
    /// `REJECT_REQUEST`: 400.
    #[default]
    RejectRequest,
    /// `UNESCAPE_AND_FORWARD`: becomes `/` before dot segments are removed.
    UnescapeAndForward,
}

/// What a backslash in a path means.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Backslashes {
    /// `KEEP_UNCHANGED`: stays, as `%5C`.
    KeepUnchanged,
    /// `REJECT_REQUEST`: 400.
    #[default]
    RejectRequest,
    /// `CONVERT_TO_SLASH`: becomes `/`.
    ConvertToSlash,
}

/// `[[virtual_service]]`.
#[derive(Clone, Debug)]
pub struct VirtualService {
    /// Name, unique among virtual services.
    pub name: Arc<str>,
    /// Hosts it routes.
    pub hosts: Vec<HostPattern>,
    /// Indexes into [`Config::gateways`].
    pub gateways: Vec<usize>,
    /// Rules in order; the first that matches wins.
    pub http: Vec<HttpRoute>,
    /// Rules for connections to servers of protocol TLS that pass through, in order.
    pub tls: Vec<L4Route>,
    /// Rules for connections to servers of protocol TCP, and of TLS that ends here, in order.
    pub tcp: Vec<L4Route>,
    /// Where it was written.
    pub origin: Origin,
}

/// `[[virtual_service.http]]`.
#[derive(Clone, Debug)]
pub struct HttpRoute {
    /// Optional name, for logs and `explain`.
    pub name: Option<Arc<str>>,
    /// Any of these; empty matches every request.
    pub matches: Vec<HttpMatch>,
    /// Weighted destinations; weights are positive in sum.
    pub route: Vec<Destination>,
    /// Which form of the path goes upstream.
    pub forward_path: ForwardPath,
    /// Where it was written.
    pub origin: Origin,
}

/// `forward_path` of a route.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ForwardPath {
    /// `NORMALIZED`: what was matched.
    #[default]
    Normalized,
    /// `ORIGINAL`: what the client sent, for signed URLs; the match still uses the normal form.
    Original,
}

/// One block of `match`: all of its fields must hold.
#[derive(Clone, Debug, Default)]
pub struct HttpMatch {
    /// Path, without the query.
    pub uri: Option<StringMatch>,
    /// Method.
    pub method: Option<StringMatch>,
    /// Header name (lower case) and what its value must be; several fields of one name are joined with `,`.
    pub headers: Vec<(Arc<str>, StringMatch)>,
    /// The client's certificate.
    pub client: Option<ClientMatch>,
    /// Port of the server.
    pub port: Option<u16>,
    /// Names of gateways, of those of the virtual service; empty for all of them.
    pub gateways: Vec<Arc<str>>,
    /// Where it was written.
    pub origin: Origin,
}

/// What a client's certificate must be; of its names of a kind any one.
#[derive(Clone, Debug, Default)]
pub struct ClientMatch {
    /// `false`: the client showed none, and nothing else is asked.
    pub present: bool,
    /// Its subject, as RFC 4514 writes it.
    pub subject: Option<StringMatch>,
    /// A URI of its subject alternative name.
    pub uri: Option<StringMatch>,
    /// A DNS name, in lower case.
    pub dns: Option<StringMatch>,
    /// An e-mail address.
    pub email: Option<StringMatch>,
}

/// Istio's StringMatch.
#[derive(Clone, Debug)]
pub enum StringMatch {
    /// The whole value, case-sensitive.
    Exact(Arc<str>),
    /// The start of the value.
    Prefix(Arc<str>),
    /// A regular expression over the whole value; anchored when compiled.
    Regex(Arc<regex::bytes::Regex>),
}

/// One weighted destination of a route.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Destination {
    /// Index into [`Config::clusters`].
    pub cluster: usize,
    /// Share; the shares of a route need not sum to 100.
    pub weight: u32,
}

/// A service, or a subset of one, as routes use it.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// `service` or `service|subset`.
    pub name: Arc<str>,
    /// Its endpoints, at least one.
    pub endpoints: Vec<Endpoint>,
    /// TLS towards its endpoints.
    pub tls: Option<Arc<UpstreamTls>>,
    /// Time for a connection to an endpoint, TLS included: 504 beyond.
    pub connect_timeout: Duration,
    /// How long an idle connection stays in the pool.
    pub idle_timeout: Duration,
    /// Idle connections kept per endpoint and shard.
    pub idle_connections_max: u32,
    /// From the request's last byte to the response's first: 504 beyond.
    pub first_byte_timeout: Duration,
    /// Between two arrivals of response body bytes, or two advances of a request body upstream: the exchange fails.
    pub body_gap_timeout: Duration,
    /// A relayed connection without a byte in either direction: closed.
    pub tcp_idle_timeout: Duration,
    /// A relayed connection in all: closed.
    pub connection_duration_max: Option<Duration>,
    /// The PROXY protocol's header that each connection begins with.
    pub proxy_protocol: Option<ProxyVersion>,
    /// Where the service was written.
    pub origin: Origin,
}

/// One address of a cluster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    /// Where to connect.
    pub address: SocketAddr,
    /// Share of the cluster's requests, 1 by default; 0 takes none.
    pub weight: u32,
}
