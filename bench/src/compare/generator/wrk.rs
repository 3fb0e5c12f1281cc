//! wrk, with a script that prints the latency distribution as JSON: its own output ends at 99 %.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

use super::{AskedHosts, Load, host_name};
use crate::compare::cores::CoreSet;
use crate::compare::stats::NINES;
use crate::report::{Latency, LoadReport};

const MARK: &str = "ringgate-bench ";
const SCRIPT: &str = "wrk.lua";

/// Requests prepared for a table's hosts; the script goes round and round through them.
const PREPARED: usize = 50_000;

pub(super) fn arguments(
    command: &mut Command,
    load: &Load,
    cores: &CoreSet,
    folder: &Path,
) -> Result<(), String> {
    let path = folder.join(SCRIPT);
    fs::write(&path, script(load)).map_err(|error| format!("{}: {error}", path.display()))?;
    let threads = cores.count().min(load.connections);
    command.args([format!("-t{threads}"), format!("-c{}", load.connections), format!("-d{}s", load.seconds)]);
    command.args(["--timeout", "10s", "-s", SCRIPT]);
    if let AskedHosts::One(host) = &load.hosts {
        command.arg("-H").arg(format!("Host: {host}"));
    }
    if load.close {
        command.args(["-H", "Connection: close"]);
    }
    command.arg(format!("http://{}{}", load.address, load.path));
    Ok(())
}

fn script(load: &Load) -> String {
    let mut text = String::new();
    if let Some(bytes) = load.post_bytes {
        let _ = writeln!(text, "wrk.method = 'POST'\nwrk.body = string.rep('x', {bytes})");
    }
    if let AskedHosts::Many { count, zipf } = load.hosts {
        let close = if load.close { "Connection: close\\r\\n" } else { "" };
        let _ = writeln!(text, "local asked = {{");
        for index in sample(count, zipf) {
            let _ = writeln!(text, "'{}',", host_name(index));
        }
        let _ = writeln!(
            text,
            "}}\nlocal at = 0\nfunction request()\n  at = at % #asked + 1\n  \
             return 'GET {} HTTP/1.1\\r\\nHost: ' .. asked[at] .. '\\r\\n{close}\\r\\n'\nend",
            load.path
        );
    }
    let quantiles: Vec<_> = NINES.iter().map(ToString::to_string).collect();
    let _ = write!(
        text,
        r#"function done(summary, latency)
  local points = {{}}
  for _, q in ipairs({{{}}}) do
    points[#points + 1] = string.format("[%.6f,%.1f]", q, latency:percentile(math.min(q * 100, 99.9999)))
  end
  local e = summary.errors
  io.write(string.format(
    '{MARK}{{"requests":%d,"us":%d,"bytes":%.0f,"mean":%.2f,"max":%.1f,"quantiles":[%s],' ..
    '"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}}\n',
    summary.requests, summary.duration, summary.bytes, latency.mean, latency.max, table.concat(points, ","),
    e.connect, e.read, e.write, e.status, e.timeout))
end
"#,
        quantiles.join(", ")
    );
    text
}

/// Hosts in the order of requests: the same for every proxy and run.
fn sample(count: usize, zipf: bool) -> Vec<usize> {
    // Sums of 1/rank; without Zipf every host weighs the same.
    let weight = |rank: usize| if zipf { 1.0 / (rank + 1) as f64 } else { 1.0 };
    let mut sum = 0.0;
    let sums: Vec<f64> = (0..count)
        .map(|rank| {
            sum += weight(rank);
            sum
        })
        .collect();
    // Steps of the golden ratio fill 0 to 1 evenly in any number, in an order that looks random.
    let fractions = (1..=PREPARED).map(|step| (step as f64 * 0.618_033_988_749_895).fract());
    fractions.map(|at| sums.partition_point(|&end| end <= at * sum).min(count - 1)).collect()
}

#[derive(Deserialize)]
struct Summary {
    requests: u64,
    us: u64,
    bytes: f64,
    mean: f64,
    max: f64,
    quantiles: Vec<(f64, f64)>,
    connect: u64,
    read: u64,
    write: u64,
    status: u64,
    timeout: u64,
}

pub(super) fn parse(text: &str, load: &Load) -> Result<LoadReport, String> {
    let line = text.lines().find_map(|line| line.strip_prefix(MARK)).ok_or("printed no summary")?;
    let summary: Summary = serde_json::from_str(line).map_err(|error| format!("summary: {error}"))?;
    let requests = summary.requests.saturating_sub(summary.status);
    let seconds = summary.us as f64 / 1e6;
    let errors = [
        ("connect", summary.connect),
        ("read", summary.read),
        ("write", summary.write),
        ("status", summary.status),
        ("timeout", summary.timeout),
        // wrk does not look at contents; fewer bytes than contents alone is the most that can be told.
        ("content", u64::from(summary.bytes < requests as f64 * load.expect_bytes as f64)),
    ];
    let at = |quantile: f64| {
        let point = summary.quantiles.iter().find(|(of, _)| *of >= quantile);
        point.map_or(summary.max, |(_, us)| *us)
    };
    Ok(LoadReport {
        requests,
        seconds,
        requests_per_second: if seconds > 0.0 { requests as f64 / seconds } else { 0.0 },
        errors: errors.into_iter().filter(|(_, n)| *n > 0).map(|(kind, n)| (kind.to_owned(), n)).collect(),
        content_bytes: requests * load.expect_bytes as u64,
        latency_us: Latency {
            mean: summary.mean,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: summary.max,
        },
        quantiles: summary.quantiles.clone(),
        ..LoadReport::default()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn samples_follow_their_distribution() {
        let uniform = sample(100, false);
        let zipf = sample(100, true);
        let share =
            |sample: &[usize], host| sample.iter().filter(|&&at| at == host).count() as f64 / PREPARED as f64;
        assert!((share(&uniform, 0) - 0.01).abs() < 0.001 && (share(&uniform, 99) - 0.01).abs() < 0.001);
        // 1 / H(100), where H(100) = 5.187.
        assert!((share(&zipf, 0) - 0.1928).abs() < 0.001, "{}", share(&zipf, 0));
        assert_eq!(sample(1, true), vec![0; PREPARED]);
    }

    #[test]
    fn summaries() {
        let load = Load {
            address: ([127, 0, 0, 1], 80).into(),
            path: "/".into(),
            connections: 1,
            seconds: 1,
            rate: None,
            tls: None,
            close: false,
            post_bytes: None,
            hosts: AskedHosts::One("a".into()),
            expect_bytes: 10,
        };
        let text = "Running 1s test\nringgate-bench {\"requests\":1000,\"us\":2000000,\"bytes\":20000,\"mean\":5.5,\
                    \"max\":90.0,\"quantiles\":[[0.5,5.0],[0.9,8.0],[0.99,20.0],[0.999,30.0],[0.9999,40.0]],\
                    \"connect\":0,\"read\":3,\"write\":0,\"status\":10,\"timeout\":0}\n";
        let report = parse(text, &load).unwrap();
        assert_eq!((report.requests, report.requests_per_second), (990, 495.0));
        assert_eq!(
            report.errors.iter().map(|(kind, n)| format!("{kind}{n}")).collect::<String>(),
            "read3status10"
        );
        assert_eq!((report.latency_us.p99, report.latency_us.p99_99), (20.0, 40.0));
        assert!(parse("unable to connect", &load).unwrap_err().contains("no summary"));
    }
}
