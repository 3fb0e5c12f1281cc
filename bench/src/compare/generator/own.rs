//! `ringgate-bench load`.

use std::process::Command;

use super::{AskedHosts, HOST_PATTERN, Handshakes, Load};
use crate::compare::cores::CoreSet;
use crate::compare::pki::{CIPHER_SUITE, KEY_EXCHANGE, VERSION};
use crate::report::LoadReport;

/// Without a warm-up: that was a run of its own, so that the proxy's CPU time and the requests cover the same seconds.
pub(super) fn arguments(command: &mut Command, load: &Load, cores: &CoreSet) {
    let scheme = if load.tls.is_some() { "https" } else { "http" };
    command.arg("load").arg(format!("{scheme}://{}{}", load.address, load.path));
    let mut option = |name: &str, value: String| {
        command.arg(name).arg(value);
    };
    option("--connections", load.connections.to_string());
    option("--threads", cores.count().to_string());
    option("--cores", cores.to_string());
    option("--duration", format!("{}s", load.seconds));
    option("--warmup", "0s".into());
    // What failures mean is decided where it is known what they are: a scenario may be about them.
    option("--max-errors", "1".into());
    option("--expect-status", "200".into());
    option("--expect-bytes", load.expect_bytes.to_string());
    if let Some(rate) = load.rate {
        option("--rate", rate.to_string());
    }
    if let Some(bytes) = load.post_bytes {
        option("--method", "POST".into());
        option("--body-bytes", bytes.to_string());
    }
    match &load.hosts {
        AskedHosts::One(host) => option("--host", host.clone()),
        AskedHosts::Many { count, zipf } => {
            option("--hosts", count.to_string());
            option("--host-pattern", HOST_PATTERN.into());
            option("--host-distribution", if *zipf { "zipf" } else { "uniform" }.into());
        }
    }
    if load.tls.is_some() {
        option("--tls-version", VERSION.into());
        option("--tls-key-exchange", KEY_EXCHANGE.into());
        option("--tls-cipher-suite", CIPHER_SUITE.into());
    }
    match load.tls {
        None => {}
        // Certificates were verified before the run; here that would only take the load's core away.
        Some(Handshakes::Full) => _ = command.arg("--insecure"),
        Some(Handshakes::Resumed) => _ = command.args(["--insecure", "--tls-resume"]),
    }
    if load.close {
        command.arg("--close");
    }
    command.arg("--json");
}

pub(super) fn parse(text: &str) -> Result<LoadReport, String> {
    serde_json::from_str(text).map_err(|error| format!("no report: {error}"))
}
