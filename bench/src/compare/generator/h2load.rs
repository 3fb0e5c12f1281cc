//! h2load, in HTTP/1.1, with its log of every request: its own output has no percentiles.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{AskedHosts, Load};
use crate::compare::cores::CoreSet;
use crate::compare::stats::{NINES, quantile};
use crate::report::{Latency, LoadReport};

const LOG: &str = "h2load.log";
const CONTENT: &str = "h2load.body";

pub(super) fn arguments(
    command: &mut Command,
    load: &Load,
    cores: &CoreSet,
    folder: &Path,
) -> Result<(), String> {
    let threads = cores.count().min(load.connections);
    command.args(["--h1", "-t", &threads.to_string(), "-c", &load.connections.to_string()]);
    command.args(["-D", &load.seconds.to_string(), "--log-file", LOG]);
    // It appends to a log that is there.
    let _ = fs::remove_file(folder.join(LOG));
    if let Some(bytes) = load.post_bytes {
        let path = folder.join(CONTENT);
        fs::write(&path, vec![b'x'; bytes]).map_err(|error| format!("{}: {error}", path.display()))?;
        command.args(["-d", CONTENT]);
    }
    if let AskedHosts::One(host) = &load.hosts {
        // A second `Host` field, not another one, is what it makes of `-H "Host: .."`.
        command.arg("-H").arg(format!(":authority: {host}"));
    }
    command.arg(format!("http://{}{}", load.address, load.path));
    Ok(())
}

pub(super) fn parse(text: &str, load: &Load, folder: &Path) -> Result<LoadReport, String> {
    let log = fs::read_to_string(folder.join(LOG)).map_err(|error| format!("{LOG}: {error}"))?;
    parse_log(text, &log, load)
}

fn parse_log(text: &str, log: &str, load: &Load) -> Result<LoadReport, String> {
    let mut latencies = Vec::new();
    let mut refused = 0;
    for line in log.lines() {
        // Start, status and duration, both times in microseconds.
        let mut fields = line.split_ascii_whitespace().skip(1);
        match (fields.next(), fields.next().and_then(|us| us.parse::<f64>().ok())) {
            (Some("200"), Some(us)) => latencies.push(us),
            _ => refused += 1,
        }
    }
    latencies.sort_unstable_by(f64::total_cmp);
    let line = text.lines().find(|line| line.starts_with("requests: ")).ok_or("printed no summary")?;
    let count = |what: &str| {
        let words: Vec<_> = line.split([' ', ',']).filter(|word| !word.is_empty()).collect();
        let pair = words.windows(2).find(|pair| pair[1] == what)?;
        pair[0].parse::<u64>().ok()
    };
    let errored = count("errored").ok_or_else(|| format!("unknown summary `{line}`"))?;
    let requests = latencies.len() as u64;
    let seconds = load.seconds as f64;
    let errors = [("status", refused), ("read", errored), ("timeout", count("timeout").unwrap_or_default())];
    let at = |of: f64| quantile(&latencies, of);
    Ok(LoadReport {
        requests,
        seconds,
        requests_per_second: requests as f64 / seconds,
        errors: errors.into_iter().filter(|(_, n)| *n > 0).map(|(kind, n)| (kind.to_owned(), n)).collect(),
        content_bytes: requests * load.expect_bytes as u64,
        latency_us: Latency {
            mean: latencies.iter().sum::<f64>() / latencies.len().max(1) as f64,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: at(1.0),
        },
        quantiles: NINES.iter().map(|&of| (of, at(of))).collect(),
        ..LoadReport::default()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn logs() {
        let load = Load {
            address: ([127, 0, 0, 1], 80).into(),
            path: "/".into(),
            connections: 1,
            seconds: 2,
            rate: None,
            tls: None,
            close: false,
            post_bytes: None,
            hosts: AskedHosts::One("a".into()),
            expect_bytes: 10,
        };
        let summary = "requests: 5 total, 6 started, 5 done, 4 succeeded, 1 failed, 2 errored, 0 timeout";
        let log = "1795577732801993\t200\t350\n1\t200\t150\n1\t503\t9\n1\t200\t250\n1\t200\t450\n";
        let report = parse_log(summary, log, &load).unwrap();
        assert_eq!((report.requests, report.requests_per_second), (4, 2.0));
        assert_eq!((report.latency_us.p50, report.latency_us.max), (250.0, 450.0));
        assert_eq!((report.errors["status"], report.errors["read"]), (1, 2));
        assert!(parse_log("", log, &load).is_err());
    }
}
