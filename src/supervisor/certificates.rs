//! Certificates, authorities and revocation lists while the process runs: what is in use, when it ends, and what becomes
//! of new files (a generation of their own, [`super::reload`]).

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::Supervisor;
use super::reload::Cause;
use super::status::Warning;
use super::watch::{Orders, Watch, now};
use crate::config::effective::{Effective, FileKind, UsedFile};
use crate::config::render::{self, Colour};
use crate::config::{Diagnostic, show_time};

const DAY: i64 = 86_400;

/// Seconds before the end of a certificate at which the log says so.
const TOLD_BEFORE: [i64; 4] = [14 * DAY, 7 * DAY, DAY, 0];

/// Those of a revocation list, which is renewed every few days or hours.
const LISTS_TOLD_BEFORE: [i64; 2] = [HOUR, 0];

const HOUR: i64 = 3600;

/// What is wrong with files that are in use, or would be.
const CODES: [&str; 5] =
    ["certificate-kept", "authorities-kept", "crl-kept", "certificate-dates", "crl-expired"];

/// Hosts that the status has of a server.
const HOSTS_MAX: usize = 20;

/// Lines that one event writes to the log.
const LINES_MAX: usize = 20;

/// How long a load that was due at a date and could not be made is put off.
const AGAIN_SECONDS: i64 = 30;

/// Kind of a file, as JSON has it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `ca_certificates`.
    Authorities,
    /// `server_certificate`.
    Certificate,
    /// `ca_crl`.
    RevocationLists,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Authorities => "authorities",
            Self::Certificate => "certificate",
            Self::RevocationLists => "revocation lists",
        }
    }
}

/// What a server uses of a file.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct CertificateEntry {
    /// Gateway.
    pub gateway: String,
    /// Position of the server in its gateway, from 1.
    pub server: usize,
    /// Hosts of the server; the first of many.
    pub hosts: Vec<String>,
    /// Further hosts.
    pub hosts_left_out: usize,
    /// What it is.
    pub kind: Kind,
    /// Path.
    pub file: String,
    /// Distinguished name; of several the first.
    pub subject: String,
    /// Names and addresses that the certificate is for.
    pub names: Vec<String>,
    /// Distinguished name of the issuer.
    pub issuer: String,
    /// Kind and size of the key.
    pub key: String,
    /// Seconds since 1970 at which it ends; of several the first that does. Lists: when the next is due.
    pub not_after_seconds: Option<i64>,
    /// Why this is still in use although the file holds something else now.
    pub kept: Option<String>,
}

impl CertificateEntry {
    /// An entry for people and programs.
    #[must_use]
    pub fn of(file: &UsedFile) -> Self {
        let UsedFile { gateway, server, hosts, kind, path, about, kept, .. } = file;
        Self {
            gateway: gateway.to_string(),
            server: server + 1,
            hosts: hosts.iter().take(HOSTS_MAX).cloned().collect(),
            hosts_left_out: hosts.len().saturating_sub(HOSTS_MAX),
            kind: match kind {
                FileKind::Authorities => Kind::Authorities,
                FileKind::Certificate => Kind::Certificate,
                FileKind::RevocationLists => Kind::RevocationLists,
            },
            file: path.to_string_lossy().into_owned(),
            subject: about.subject.clone(),
            names: about.names.clone(),
            issuer: about.issuer.clone(),
            key: about.key.clone(),
            not_after_seconds: about.not_after,
            kept: kept.as_deref().map(str::to_owned),
        }
    }

    /// Whose it is.
    fn owner(&self) -> String {
        format!("{} of gateway {}, server {} ({})", self.kind.name(), self.gateway, self.server, self.file)
    }
}

/// A sample of the metric `certificate_not_after_seconds`.
#[derive(Serialize)]
struct NotAfter<'e> {
    gateway: &'e str,
    server: usize,
    host: &'e str,
    kind: Kind,
    value: i64,
}

/// Certificates, as the status file has them.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct CertificateStatus {
    /// What is wrong with the files now.
    pub warnings: Vec<Warning>,
    /// What is in use.
    pub files: Vec<CertificateEntry>,
}

/// What the supervisor keeps of them.
#[derive(Default)]
pub(super) struct Certificates {
    /// What the next load starts from.
    pub(super) effective: Effective,
    pub(super) status: CertificateStatus,
    /// What was said of the configuration.
    told: Vec<Diagnostic>,
    watch: Watch,
    /// Up to when dates that passed were told.
    dates_told: i64,
}

impl Certificates {
    /// The metric of their ends.
    pub(super) fn not_after(&self) -> serde_json::Value {
        let sample = |entry: &'_ CertificateEntry| {
            let host = entry.hosts.first().map_or("", String::as_str);
            let CertificateEntry { gateway, server, kind, not_after_seconds, .. } = entry;
            let sample =
                NotAfter { gateway, server: *server, host, kind: *kind, value: (*not_after_seconds)? };
            serde_json::to_value(sample).ok()
        };
        self.status.files.iter().filter_map(sample).collect()
    }
}

impl Supervisor {
    /// Says what is wrong with a configuration; when only its files were read anew, what was not said before.
    pub(super) fn log_diagnostics(&self, cause: Cause, diagnostics: &[Diagnostic]) {
        let told = &self.certificates.told;
        let is_new = |diagnostic: &&Diagnostic| cause == Cause::Asked || !told.contains(diagnostic);
        let texts: String = diagnostics
            .iter()
            .filter(is_new)
            .map(|diagnostic| render::text(diagnostic, Colour::Plain))
            .collect();
        if !texts.is_empty() {
            tracing::warn!("the configuration has problems:\n{texts}");
        }
    }

    /// Takes what a generation stands on, now that it is in effect.
    pub(super) fn take_effective(&mut self, effective: Effective, diagnostics: Vec<Diagnostic>) {
        self.log_renewals(&effective);
        let warnings = diagnostics.iter().filter(|diagnostic| CODES.contains(&diagnostic.code));
        let certificates = &mut self.certificates;
        certificates.status.warnings = warnings.take(LINES_MAX).map(Warning::of).collect();
        certificates.status.files = effective.used.iter().map(CertificateEntry::of).collect();
        certificates.effective = effective;
        certificates.told = diagnostics;
        certificates.dates_told = now();
        self.watch_certificates();
    }

    /// Has the files watched from what is in effect on.
    pub(super) fn watch_certificates(&mut self) {
        let now = now();
        let interval = self.process.certificate_check;
        let certificates = &mut self.certificates;
        let Certificates { effective, status, dates_told, .. } = certificates;
        let again = effective.again_at.filter(|_| interval.is_some());
        let again = again.map(|at| if at > now { at } else { now + AGAIN_SECONDS });
        let dates = status.files.iter().flat_map(dates).filter(|(at, _)| at > dates_told).map(|(at, _)| at);
        let wake_at = dates.chain(again).min();
        let stamps = effective.stamps.clone();
        certificates.watch.order(Orders { interval, stamps, wake_at }, &self.events);
    }

    /// A date has passed.
    pub(super) fn certificates_due(&mut self) {
        let now = now();
        let told = std::mem::replace(&mut self.certificates.dates_told, now);
        let mut lines = Vec::new();
        for entry in &self.certificates.status.files {
            let passed = dates(entry).filter(|(at, _)| told < *at && *at <= now);
            let Some((end, before)) = passed.map(|(at, before)| (at + before, before)).last() else {
                continue;
            };
            let when = match before / DAY {
                0 if before > 0 => {
                    "are out of date within an hour, and then no client gets in unless `crl_expired` says so"
                        .to_owned()
                }
                0 if entry.kind == Kind::RevocationLists => {
                    "are out of date: no client gets in unless `crl_expired` says so".to_owned()
                }
                0 => "has ended".to_owned(),
                1 => "ends within a day".to_owned(),
                days => format!("ends within {days} days"),
            };
            lines.push(format!("{} {when}: {}", entry.owner(), show_time(end)));
        }
        log_lines(lines, |line| tracing::warn!("{line}"));
        let is_watching = self.process.certificate_check.is_some();
        if is_watching && self.certificates.effective.again_at.is_some_and(|at| at <= now) {
            self.request_reload(Cause::Certificates);
        }
        if self.reload.is_none() {
            self.watch_certificates();
        }
    }

    /// Says what is in use now and was not before. The first generation's stand in the configuration.
    fn log_renewals(&self, effective: &Effective) {
        let key = |file: &UsedFile| (file.gateway.clone(), file.server, file.kind, file.path.clone());
        let before = &self.certificates.effective.used;
        let before: HashMap<_, _> = before.iter().map(|file| (key(file), file.digest)).collect();
        let is_renewed = |file: &&UsedFile| before.get(&key(file)).is_some_and(|old| *old != file.digest);
        let lines = effective.used.iter().filter(is_renewed).map(|file| {
            let until =
                file.about.not_after.map_or_else(String::new, |at| format!(", not after {}", show_time(at)));
            format!("{} renewed{until}", CertificateEntry::of(file).owner())
        });
        log_lines(lines.collect(), |line| tracing::info!("{line}"));
    }
}

/// When something is to be said of a file, and how long before its end that is.
fn dates(entry: &CertificateEntry) -> impl Iterator<Item = (i64, i64)> + use<> {
    let (kind, end) = (entry.kind, entry.not_after_seconds);
    let before = if kind == Kind::RevocationLists { &LISTS_TOLD_BEFORE[..] } else { &TOLD_BEFORE[..] };
    end.into_iter().flat_map(move |end| before.iter().map(move |before| (end - before, *before)))
}

fn log_lines(lines: Vec<String>, log: impl Fn(&str)) {
    lines.iter().take(LINES_MAX).for_each(|line| log(line));
    if let more @ 1.. = lines.len().saturating_sub(LINES_MAX) {
        log(&format!("and {more} more"));
    }
}
