//! What a load generator's run came to, as JSON between the commands of this harness and to scripts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One run of a load generator.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct LoadReport {
    /// Whether the numbers may be used. A generator that was itself the bottleneck makes them worthless.
    pub valid: bool,
    /// Why not, a sentence each.
    pub invalid_reasons: Vec<String>,
    /// Requests answered as expected, after the warm-up.
    pub requests: u64,
    /// Measured time in seconds, without the warm-up.
    pub seconds: f64,
    /// Requests answered as expected per second.
    pub requests_per_second: f64,
    /// Everything else, by kind: `connect`, `tls`, `read`, `write`, `closed`, `timeout`, `status`, `content`,
    /// `malformed`.
    pub errors: BTreeMap<String, u64>,
    /// Share of all ended requests that these are.
    #[serde(default)]
    pub error_share: f64,
    /// Requests that were open at the end of a closed loop, for long. They are no errors.
    #[serde(default)]
    pub unanswered: Unanswered,
    /// What a reader of the figures must know.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Content bytes received.
    pub content_bytes: u64,
    /// Latency in microseconds, of the answered requests. Those that timed out or were unanswered at the end count with
    /// the time that they had waited.
    pub latency_us: Latency,
    /// Points of the latency distribution for plots: quantile (0 to 1) and microseconds.
    pub quantiles: Vec<(f64, f64)>,
    /// What the generator itself used and how late it was.
    pub generator: Generator,
    /// TLS, where the target is asked over it.
    #[serde(default)]
    pub tls: Option<TlsReport>,
}

/// Requests that were open at the end.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Unanswered {
    /// So many.
    pub requests: u64,
    /// How long the oldest of them had waited, in microseconds.
    pub oldest_us: u64,
}

/// What was agreed on with the target, and how.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct TlsReport {
    /// Version: `1.2` or `1.3`.
    pub version: String,
    /// Cipher suite.
    pub cipher_suite: String,
    /// Key exchange; empty for a resumed session of TLS 1.2, which has none.
    pub key_exchange: String,
    /// Handshakes before the run.
    pub set_up: Handshakes,
    /// Handshakes of requests that count.
    pub measured: Handshakes,
}

/// Handshakes by kind.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Handshakes {
    /// With certificate and signature.
    pub full: u64,
    /// With a key of an earlier session.
    pub resumed: u64,
}

/// Latency in microseconds.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct Latency {
    /// Arithmetic mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 90 %.
    pub p90: f64,
    /// 99 %.
    pub p99: f64,
    /// 99.9 %.
    pub p99_9: f64,
    /// 99.99 %.
    pub p99_99: f64,
    /// The longest.
    pub max: f64,
}

/// The generator's own cost. Zero where a foreign generator does not tell.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct Generator {
    /// CPU time in microseconds per request.
    pub cpu_us_per_request: f64,
    /// Share of its cores that it was busy, 0 to 1.
    pub busy: f64,
    /// Share of the time that its threads were ready to run and waited for a core, 0 to 1; absent where the kernel does
    /// not tell.
    #[serde(default)]
    pub waited: Option<f64>,
    /// How late it started requests at the 99th percentile, in microseconds; only with a constant rate.
    pub lag_p99_us: f64,
}
