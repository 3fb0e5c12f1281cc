//! `ringgate certs`: which certificates, authorities and revocation lists servers use, and when they end.
//!
//! Of a configuration as it lies there, or, through its status file, of a running gateway: what that really uses.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{ArgGroup, Args};
use serde::Serialize;

use super::output::{self, Table, Tone, counted};
use crate::config::{load, parse_duration, show_time};
use crate::supervisor::certificates::{CertificateEntry, Kind};
use crate::supervisor::status::Status;
use crate::{err, errln, out, outln};

const EXAMPLES: &str = "\
Examples:
  ringgate certs /etc/ringgate
  ringgate certs /etc/ringgate --expiring 14d
  ringgate certs --status-file /run/ringgate/status.json --json

With a configuration, its files are read as they are now. With the status file of a running gateway it shows what that \
gateway uses; `kept` marks what stays in use because its file can not be used any more, and why.

Exit codes:
  0  listed
  1  the configuration has errors; or no gateway runs
  2  the command line is wrong
  3  with --expiring: something ends within that time, or has ended, or is kept";

/// Exit code of `--expiring`.
const EXPIRING: u8 = 3;

const DAY: i64 = 86_400;

/// Arguments of `ringgate certs`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES, group(ArgGroup::new("place").required(true).args(["path", "status_file"])))]
pub struct CertsArgs {
    /// A TOML file, or a directory of *.toml files
    pub path: Option<PathBuf>,
    /// The status file of a running gateway
    #[arg(long, value_name = "PATH")]
    pub status_file: Option<PathBuf>,
    /// Exit with 3 if a certificate or an authority ends within this time, such as 14d or 36h, a revocation list is out
    /// of date, or a file can not be used and what it held before is kept
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub expiring: Option<Duration>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

fn time(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|reason| format!("{reason}; expected a time such as 14d, 36h or 90m"))
}

/// Runs the command.
#[must_use]
pub fn run(args: &CertsArgs) -> ExitCode {
    let entries = match (&args.path, &args.status_file) {
        (_, Some(path)) => of_running(path),
        (Some(path), None) => of_configuration(path),
        (None, None) => Err("error: neither a configuration nor --status-file\n".to_owned()),
    };
    let entries = match entries {
        Ok(entries) => entries,
        Err(error) => {
            err!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let now = now();
    if args.json {
        outln!("{}", json(&entries, now));
    } else if entries.is_empty() {
        outln!("no server ends TLS");
    } else {
        out!("{}", table(&entries, now));
    }
    let Some(within) = args.expiring else { return ExitCode::SUCCESS };
    let until = now.saturating_add(i64::try_from(within.as_secs()).unwrap_or(i64::MAX));
    let ends = |entry: &&CertificateEntry| {
        // Lists are renewed every few days: that one ends soon says nothing.
        let until = if entry.kind == Kind::RevocationLists { now } else { until };
        entry.not_after_seconds.is_some_and(|end| end <= until)
    };
    let count = entries.iter().filter(ends).count();
    if count > 0 {
        errln!("{} within that time", counted(count, "entry ends", "entries end"));
    }
    let kept = entries.iter().filter(|entry| entry.kept.is_some()).count();
    if kept > 0 {
        errln!("{} kept: a start with these files would go wrong", counted(kept, "entry is", "entries are"));
    }
    if count + kept == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXPIRING) }
}

fn of_configuration(path: &Path) -> Result<Vec<CertificateEntry>, String> {
    let loaded = load(path);
    match loaded.config {
        Some(_) => Ok(loaded.effective.used.iter().map(CertificateEntry::of).collect()),
        None => Err(output::diagnostics(&loaded.diagnostics)),
    }
}

fn of_running(path: &Path) -> Result<Vec<CertificateEntry>, String> {
    let status = Status::read(path).map_err(|error| format!("error: {error}\n"))?;
    if !status.is_alive() {
        return Err(format!("error: {}: process {} does not run any more\n", path.display(), status.pid));
    }
    Ok(status.certificates.files)
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs().cast_signed())
}

/// Whole days; below zero of what has ended.
fn days_left(entry: &CertificateEntry, now: i64) -> Option<i64> {
    entry.not_after_seconds.map(|end| (end - now).div_euclid(DAY))
}

fn json(entries: &[CertificateEntry], now: i64) -> String {
    #[derive(Serialize)]
    struct Entry<'e> {
        #[serde(flatten)]
        entry: &'e CertificateEntry,
        not_after: Option<String>,
        days_left: Option<i64>,
    }
    let entry = |entry: &'_ CertificateEntry| {
        let not_after = entry.not_after_seconds.map(show_time);
        serde_json::to_value(Entry { entry, not_after, days_left: days_left(entry, now) }).ok()
    };
    let entries: Vec<_> = entries.iter().filter_map(entry).collect();
    serde_json::json!({ "certificates": entries }).to_string()
}

fn table(entries: &[CertificateEntry], now: i64) -> Table {
    let kept = entries.iter().any(|entry| entry.kept.is_some());
    let mut header =
        vec!["GATEWAY", "SERVER", "HOSTS", "KIND", "FOR", "ISSUER", "KEY", "NOT AFTER", "DAYS", "FILE"];
    header.extend(kept.then_some("KEPT"));
    let mut table = Table::new(output::stdout_colour(), &header);
    for entry in entries {
        let kind = match entry.kind {
            Kind::Authorities => "CA",
            Kind::Certificate => "server",
            Kind::RevocationLists => "CRL",
        };
        let names = if entry.names.is_empty() { entry.subject.clone() } else { some(&entry.names, 0) };
        let days = days_left(entry, now);
        let mut row = vec![
            entry.gateway.clone(),
            entry.server.to_string(),
            some(&entry.hosts, entry.hosts_left_out),
            kind.to_owned(),
            or_dash(names),
            or_dash(entry.issuer.clone()),
            or_dash(entry.key.clone()),
            entry.not_after_seconds.map_or_else(|| "-".to_owned(), show_time),
            days.map_or_else(|| "-".to_owned(), |days| days.to_string()),
            entry.file.clone(),
        ];
        row.extend(entry.kept.as_ref().map(|reason| format!("kept: {reason}")));
        let tone = if days.is_some_and(|days| days < 0) { Tone::Bright } else { Tone::Plain };
        table.row(tone, row);
    }
    table
}

/// The first two of a list, and how many more there are.
fn some(list: &[String], left_out: usize) -> String {
    let shown = list.iter().take(2).map(String::as_str).collect::<Vec<_>>().join(",");
    match list.len().saturating_sub(2) + left_out {
        0 => shown,
        more => format!("{shown},+{more}"),
    }
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(time("14d"), Ok(Duration::from_secs(14 * 86_400)));
        assert_eq!(time("36h"), Ok(Duration::from_secs(36 * 3600)));
        assert_eq!(time("0d"), Ok(Duration::ZERO));
        for text in ["", "d", "-1d", "14", "1w", "1.5d", "99999999999999d"] {
            assert!(time(text).is_err_and(|error| error.contains("14d")), "{text:?}");
        }
    }

    #[test]
    fn lists_are_short() {
        let list = ["a", "b", "c"].map(str::to_owned);
        assert_eq!(some(&list[..2], 0), "a,b");
        assert_eq!(some(&list, 4), "a,b,+5");
        assert_eq!(some(&[], 0), "");
    }
}
