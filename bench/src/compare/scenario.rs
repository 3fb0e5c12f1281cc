//! What is compared: scenarios by name, and the cases each consists of.

use std::time::Duration;

use super::cores::{CoreSet, Layout};
use super::edge::Edge;
use super::generator::Handshakes;
use super::result::Metric;

/// Time between reloads.
pub(crate) const RELOAD_INTERVAL: Duration = Duration::from_millis(500);

/// Hosts of the tables that are compared.
const TABLE_SIZES: [usize; 4] = [1, 100, 10_000, 100_000];

/// Content of a small answer.
const SMALL: usize = 128;

/// Content of a large answer, and how many are on their way at a time: more would not fit into caches.
const BULK: usize = 1 << 20;
const BULK_CONNECTIONS: usize = 16;

/// A scenario.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum Scenario {
    /// HTTP/1.1 on kept connections, small answers
    H1Keepalive,
    /// A connection per request
    H1Close,
    /// Answers of 64 KiB
    #[value(name = "h1-64k")]
    H1Large,
    /// Requests of 16 KiB
    H1Post,
    /// A constant rate below saturation
    LatencyAtRate,
    /// Memory per connection that does nothing
    IdleConnections,
    /// Requests lost, and latency, while the configuration changes again and again
    ReloadUnderLoad,
    /// Tables of 1 to 100 000 hosts
    TableSize,
    /// One shard, then more
    Scale,
    /// HTTPS on kept connections, small answers
    TlsKeepalive,
    /// HTTPS, a full handshake per request
    TlsHandshake,
    /// HTTPS, a resumed session per request
    TlsResume,
    /// Memory per HTTPS connection that does nothing
    TlsIdle,
    /// TLS passed through by SNI: small answers on kept connections
    SniPassthroughSmall,
    /// TLS passed through by SNI: a connection per request
    SniPassthroughConnect,
    /// TLS passed through by SNI: answers of 1 MiB
    SniPassthroughBulk,
    /// TCP passed through: small answers on kept connections
    TcpSmall,
    /// TCP passed through: answers of 1 MiB
    TcpBulk,
}

/// What the command line sets.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Connections kept busy.
    pub(crate) connections: usize,
    /// Requests per second of `latency-at-rate`.
    pub(crate) rate: u32,
    /// Connections of `idle-connections` and `tls-idle`.
    pub(crate) idle_connections: usize,
    /// Where proxy and load run.
    pub(crate) layout: Layout,
    /// The cores that this process may use.
    pub(crate) allowed: CoreSet,
}

/// One line of results per peer.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// Its scenario.
    pub(crate) scenario: Scenario,
    /// Name: the scenario's, and what distinguishes it.
    pub(crate) name: String,
    /// What is done, in a line.
    pub(crate) about: String,
    /// What is done.
    pub(crate) work: Work,
    /// The figure that it is about.
    pub(crate) primary: Metric,
}

/// What a case does.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    /// Load, and what it costs.
    Load(LoadWork),
    /// Connections that do nothing.
    Idle(LoadWork),
    /// Load while the proxy reloads.
    Reload(LoadWork),
    /// Nothing, and why.
    Skipped(String),
}

/// Load as a case has it.
#[derive(Clone, Debug)]
pub(crate) struct LoadWork {
    /// Content bytes of an answer.
    pub(crate) answer_bytes: usize,
    /// Content bytes of a POST; absent: GET.
    pub(crate) post_bytes: Option<usize>,
    /// Connections kept busy.
    pub(crate) connections: usize,
    /// A connection per request.
    pub(crate) close: bool,
    /// Requests per second; absent: as fast as answers come.
    pub(crate) rate: Option<u32>,
    /// Hosts in the proxy's table; 0: it takes any.
    pub(crate) hosts: usize,
    /// Whether some hosts are asked for much more often than most.
    pub(crate) zipf: bool,
    /// What the proxy does with a connection.
    pub(crate) edge: Edge,
    /// TLS sessions are resumed.
    pub(crate) resume: bool,
    /// Who runs where.
    pub(crate) layout: Layout,
}

impl LoadWork {
    fn small(options: &Options) -> Self {
        Self {
            answer_bytes: SMALL,
            post_bytes: None,
            connections: options.connections,
            close: false,
            rate: None,
            hosts: 0,
            zipf: false,
            edge: Edge::Http,
            resume: false,
            layout: options.layout.clone(),
        }
    }

    fn behind(edge: Edge, options: &Options) -> Self {
        Self { edge, ..Self::small(options) }
    }

    fn bulk(edge: Edge, options: &Options) -> Self {
        let connections = options.connections.min(BULK_CONNECTIONS);
        Self { edge, connections, answer_bytes: BULK, ..Self::small(options) }
    }

    /// Whether answers are large.
    pub(crate) const fn is_bulk(&self) -> bool {
        self.answer_bytes >= BULK
    }

    /// What the load's handshakes are like, where it makes any.
    pub(crate) fn tls(&self) -> Option<Handshakes> {
        let kind = if self.resume { Handshakes::Resumed } else { Handshakes::Full };
        self.edge.is_secure().then_some(kind)
    }

    /// What is asked for.
    pub(crate) fn path(&self) -> String {
        format!("/bytes/{}", self.answer_bytes)
    }
}

impl Scenario {
    /// Its name on the command line.
    pub(crate) fn name(self) -> String {
        use clap::ValueEnum as _;
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// What it is about.
    pub(crate) fn about(self) -> String {
        use clap::ValueEnum as _;
        let value = self.to_possible_value();
        value.and_then(|value| value.get_help().map(ToString::to_string)).unwrap_or_default()
    }

    /// Its cases.
    pub(crate) fn cases(self, options: &Options) -> Vec<Case> {
        let small = LoadWork::small(options);
        let kept = format!("kept connections ({})", options.connections);
        let one = |about: String, work: LoadWork| {
            vec![self.case("", about, Work::Load(work), Metric::CpuPerRequest)]
        };
        match self {
            Self::H1Keepalive => one(format!("GET, {kept}, {SMALL}-byte answers"), small),
            Self::H1Close => one(
                format!(
                    "GET, a connection per request ({} at a time), {SMALL}-byte answers",
                    options.connections
                ),
                LoadWork { close: true, ..small },
            ),
            Self::H1Large => {
                one(format!("GET, {kept}, 64 KiB answers"), LoadWork { answer_bytes: 64 << 10, ..small })
            }
            Self::H1Post => one(
                format!("POST of 16 KiB, {kept}, {SMALL}-byte answers"),
                LoadWork { post_bytes: Some(16 << 10), ..small },
            ),
            Self::LatencyAtRate => one(
                format!(
                    "{} requests/s whatever the answers take, {kept}, {SMALL}-byte answers",
                    options.rate
                ),
                LoadWork { rate: Some(options.rate), ..small },
            ),
            Self::IdleConnections => {
                let connections = options.idle_connections;
                let about =
                    format!("resident memory that {connections} connections add, without the kernel's");
                let work = Work::Idle(LoadWork { connections, ..small });
                vec![self.case("", about, work, Metric::IdleBytes)]
            }
            Self::ReloadUnderLoad => {
                [false, true].map(|close| self.reload(LoadWork { close, ..small.clone() })).to_vec()
            }
            Self::TableSize => table_sizes()
                .map(|(hosts, zipf)| {
                    let distribution = if zipf { "zipf" } else { "uniform" };
                    let about = format!("{hosts} hosts, asked for {distribution}, {kept}");
                    let work = Work::Load(LoadWork { hosts, zipf, ..small.clone() });
                    self.case(&format!("/{hosts}-{distribution}"), about, work, Metric::CpuPerRequest)
                })
                .collect(),
            Self::Scale => match scale_layouts(&options.allowed) {
                Ok(layouts) => layouts.into_iter().map(|layout| self.scale(layout, small.clone())).collect(),
                Err(reason) => {
                    vec![self.case("", self.about(), Work::Skipped(reason), Metric::RequestsPerSecond)]
                }
            },
            _ => self.over_tls_or_tcp(options),
        }
    }

    fn over_tls_or_tcp(self, options: &Options) -> Vec<Case> {
        let kept = format!("kept connections ({})", options.connections);
        let each = format!("({} at a time), {SMALL}-byte answers", options.connections);
        let agreed = "TLS 1.3, X25519, AES-128-GCM, P-256";
        let https = LoadWork::behind(Edge::Https, options);
        let sni = LoadWork::behind(Edge::Sni, options);
        let bulk = |edge| LoadWork::bulk(edge, options);
        let (about, work, primary) = match self {
            Self::TlsKeepalive => {
                (format!("GET, {agreed}, {kept}, {SMALL}-byte answers"), https, Metric::CpuPerRequest)
            }
            Self::TlsHandshake => (
                format!("GET, {agreed}, a full handshake per request {each}"),
                LoadWork { close: true, ..https },
                Metric::CpuPerRequest,
            ),
            Self::TlsResume => (
                format!("GET, {agreed}, a resumed session per request {each}"),
                LoadWork { close: true, resume: true, ..https },
                Metric::CpuPerRequest,
            ),
            Self::TlsIdle => {
                let connections = options.idle_connections;
                let about = format!(
                    "resident memory that {connections} connections add, {agreed}, without the kernel's"
                );
                let work = Work::Idle(LoadWork { connections, ..https });
                return vec![self.case("", about, work, Metric::IdleBytes)];
            }
            Self::SniPassthroughSmall => (
                format!("GET, {agreed} of the backend, {kept}, {SMALL}-byte answers"),
                sni,
                Metric::CpuPerRequest,
            ),
            Self::SniPassthroughConnect => (
                // Resumed, so that the load's core is not busy with signatures.
                format!(
                    "GET, {agreed} of the backend, a connection with a resumed session per request {each}"
                ),
                LoadWork { close: true, resume: true, ..sni },
                Metric::CpuPerRequest,
            ),
            Self::SniPassthroughBulk => {
                let work = bulk(Edge::Sni);
                let about = format!(
                    "GET, {agreed} of the backend, kept connections ({}), 1 MiB answers",
                    work.connections
                );
                (about, work, Metric::CpuPerMib)
            }
            Self::TcpSmall => {
                let work = LoadWork::behind(Edge::Tcp, options);
                (
                    format!("GET, {kept}, {SMALL}-byte answers, bytes passed through"),
                    work,
                    Metric::CpuPerRequest,
                )
            }
            _ => {
                let work = bulk(Edge::Tcp);
                let about = format!(
                    "GET, kept connections ({}), 1 MiB answers, bytes passed through",
                    work.connections
                );
                (about, work, Metric::CpuPerMib)
            }
        };
        vec![self.case("", about, Work::Load(work), primary)]
    }

    fn case(self, suffix: &str, about: String, work: Work, primary: Metric) -> Case {
        Case { scenario: self, name: format!("{}{suffix}", self.name()), about, work, primary }
    }

    fn reload(self, work: LoadWork) -> Case {
        let (suffix, each) =
            if work.close { ("/close", ", each for one request") } else { ("/keep-alive", "") };
        let about = format!(
            "a changed configuration every {} ms under {} connections{each}",
            RELOAD_INTERVAL.as_millis(),
            work.connections
        );
        self.case(suffix, about, Work::Reload(work), Metric::Lost)
    }

    fn scale(self, layout: Layout, work: LoadWork) -> Case {
        let shards = layout.proxy.count();
        // As many as keep each shard as busy as the single one.
        let connections = work.connections * shards;
        let about = format!("{shards} shards, GET, kept connections ({connections})");
        let work = Work::Load(LoadWork { layout, connections, ..work });
        self.case(&format!("/{shards}"), about, work, Metric::RequestsPerSecond)
    }
}

/// Sizes and whether Zipf-distributed; a single host has no distribution.
fn table_sizes() -> impl Iterator<Item = (usize, bool)> {
    TABLE_SIZES.into_iter().flat_map(|hosts| {
        let distributions: &[bool] = if hosts == 1 { &[false] } else { &[false, true] };
        distributions.iter().map(move |&zipf| (hosts, zipf))
    })
}

/// One shard, two, four .. up to all cores but one; the load has the rest.
fn scale_layouts(allowed: &CoreSet) -> Result<Vec<Layout>, String> {
    let spare = allowed.count() - 1;
    if spare < 2 {
        return Err(format!(
            "needs at least 3 cores, two for shards and one for the load; this process may use {}",
            allowed.count()
        ));
    }
    let doubling =
        std::iter::successors(Some(1), |shards| Some(shards * 2)).take_while(|&shards| shards < spare);
    doubling
        .chain([spare])
        .map(|shards| match allowed.split(shards) {
            (Some(proxy), Some(load)) => Layout::choose(allowed, Some(proxy), Some(load)),
            _ => Err(format!("no cores left beside {shards} shards")),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use clap::ValueEnum as _;

    use super::*;

    fn cores(count: usize) -> CoreSet {
        CoreSet::new((0..count).collect()).unwrap()
    }

    fn options(count: usize) -> Options {
        let allowed = cores(count);
        let layout = Layout::choose(&allowed, None, None).unwrap();
        Options { connections: 64, rate: 7_500, idle_connections: 5_000, layout, allowed }
    }

    #[test]
    fn every_scenario_has_cases_of_its_name() {
        for scenario in Scenario::value_variants() {
            let cases = scenario.cases(&options(2));
            assert!(!cases.is_empty() && !scenario.about().is_empty());
            for case in cases {
                assert!(case.name.starts_with(&scenario.name()), "{}", case.name);
            }
        }
        let names: Vec<_> = Scenario::value_variants().iter().map(|scenario| scenario.name()).collect();
        assert_eq!(
            names.join(" "),
            "h1-keepalive h1-close h1-64k h1-post latency-at-rate idle-connections reload-under-load table-size scale \
             tls-keepalive tls-handshake tls-resume tls-idle sni-passthrough-small sni-passthrough-connect \
             sni-passthrough-bulk tcp-small tcp-bulk"
        );
    }

    #[test]
    fn tables() {
        let names: Vec<_> =
            Scenario::TableSize.cases(&options(2)).into_iter().map(|case| case.name).collect();
        assert_eq!(names.len(), 7);
        assert_eq!(names[0], "table-size/1-uniform");
        assert_eq!(names[6], "table-size/100000-zipf");
    }

    #[test]
    fn scale_needs_cores() {
        let case = &Scenario::Scale.cases(&options(2))[0];
        assert!(matches!(&case.work, Work::Skipped(reason) if reason.contains("needs at least 3 cores")));
        let shards = |count| {
            let layouts = scale_layouts(&cores(count)).unwrap();
            layouts.iter().map(|layout| (layout.proxy.count(), layout.load.to_string())).collect::<Vec<_>>()
        };
        assert_eq!(shards(3), [(1, "1".into()), (2, "2".into())]);
        assert_eq!(shards(8).iter().map(|(shards, _)| *shards).collect::<Vec<_>>(), [1, 2, 4, 7]);
        assert!(scale_layouts(&cores(8)).unwrap().iter().all(|layout| !layout.is_shared()));
    }
}
