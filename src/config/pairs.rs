//! The certificates of a server and their keys: `server_certificate` with `private_key`, or several in `certificates`.

use std::os::unix::fs::PermissionsExt;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::config::diagnostic::Problem;
use crate::config::drafts::HostAt;
use crate::config::host::show;
use crate::config::model::HostPattern;
use crate::config::pem::{self, File};
use crate::config::schema;
use crate::config::tree::{Reader, Table};
use crate::tls::pair::{Pair, PairFault, read_pair};
use crate::tls::terms::PROVIDER;

/// One for each kind of key is what clients differ in.
const PAIRS_MAX: usize = 4;

/// From when on a warning says that a certificate ends.
const WARNING_DAYS: i64 = 14;

const DAY: i64 = 86_400;

/// Reads the certificates of a server.
pub(super) fn read(reader: &mut Reader<'_>, table: &Table<'_>, hosts: &[HostAt]) -> Vec<Pair> {
    let mut pairs = Vec::new();
    if table.has("certificates") {
        for key in ["server_certificate", "private_key", "ocsp_response"] {
            if let Some(value) = reader.any(table, key) {
                let message = format!("`{key}` beside `certificates`");
                let problem = Problem::error("misplaced-key", value.place, message);
                reader.push(problem.expected("every pair as an entry of `certificates`"));
            }
        }
        for entry in reader.tables(table, "certificates", &schema::CERTIFICATE, PAIRS_MAX) {
            pairs.extend(read_one(reader, &entry, hosts));
        }
        reader.missing_or_empty(
            table,
            "certificates",
            "`[{ server_certificate = \"..\", private_key = \"..\" }]`",
        );
    } else {
        pairs.extend(read_one(reader, table, hosts));
    }
    let kinds: Vec<_> = pairs.iter().map(|pair| pair.certified.key.algorithm()).collect();
    if (1..kinds.len()).any(|at| kinds[..at].contains(&kinds[at])) {
        let place =
            reader.any(table, "certificates").map_or_else(|| reader.place(&table.span), |value| value.place);
        let problem = Problem::error("bad-value", place, "two certificates have keys of the same kind");
        reader.push(
            problem.expected("at most one for each of ECDSA, RSA and Ed25519: clients could not choose"),
        );
    }
    pairs
}

fn read_one(reader: &mut Reader<'_>, table: &Table<'_>, hosts: &[HostAt]) -> Option<Pair> {
    reader.missing(
        table,
        "server_certificate",
        "`server_certificate = \"..\"`, a PEM file: the certificate, then its chain",
    );
    reader.missing(table, "private_key", "`private_key = \"..\"`, a PEM file");
    let certificate = pem::text(reader, table, "server_certificate");
    let key = pem::text(reader, table, "private_key");
    let ocsp = pem::bytes(reader, table, "ocsp_response");
    let (certificate, key) = (certificate?, key?);
    warn_of_open_key(reader, &key);
    match read_pair(&PROVIDER, &certificate.content, &key.content, ocsp.map(|file| file.content)) {
        Ok(pair) => {
            warn_of_dates(reader, &certificate, &pair);
            warn_of_uncovered(reader, &certificate, &pair, hosts);
            Some(pair)
        }
        Err(fault) => {
            let (place, message, expected) = match fault {
                PairFault::Certificate(reason) => (
                    certificate.place,
                    format!("{} {reason}", certificate.shown()),
                    "a PEM file: the server's certificate, then its chain",
                ),
                PairFault::Key(reason) => (
                    key.place,
                    format!("{} {reason}", key.shown()),
                    "a PEM file with one RSA, ECDSA or Ed25519 key",
                ),
                PairFault::Mismatch => (
                    key.place,
                    format!("{} is not the key of {}", key.shown(), certificate.shown()),
                    "the key that the certificate was made for",
                ),
            };
            reader.push(Problem::error("bad-file", place, message).expected(expected));
            None
        }
    }
}

/// A key that others can read is no secret.
fn warn_of_open_key(reader: &mut Reader<'_>, key: &File<String>) {
    let mode = key.path.metadata().map_or(0, |metadata| metadata.permissions().mode());
    if mode & 0o007 != 0 {
        let message = format!("everybody on this host can read {}", key.shown());
        let hint = format!("chmod o= {}", key.path.display());
        reader.push(Problem::warning("open-key", key.place, message).hint(hint));
    }
}

/// Also a certificate that has ended is served: whoever must reach this host can still decide to.
fn warn_of_dates(reader: &mut Reader<'_>, certificate: &File<String>, pair: &Pair) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs() as i64);
    let shown = certificate.shown();
    let message = if now > pair.not_after {
        format!("{shown} ended {} ago: clients refuse it", days(now - pair.not_after))
    } else if now < pair.not_before {
        format!("{shown} is good only in {}: clients refuse it", days(pair.not_before - now))
    } else if pair.not_after - now < WARNING_DAYS * DAY {
        format!("{shown} ends in {}", days(pair.not_after - now))
    } else {
        return;
    };
    reader.push(
        Problem::warning("certificate-dates", certificate.place, message).hint("renew the certificate"),
    );
}

fn days(seconds: i64) -> String {
    match seconds / DAY {
        0 => "less than a day".to_owned(),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

fn warn_of_uncovered(reader: &mut Reader<'_>, certificate: &File<String>, pair: &Pair, hosts: &[HostAt]) {
    for host in hosts.iter().filter(|host| host.value != HostPattern::Any) {
        let name = show(&host.value);
        if !pair.covers(&name) {
            let message = format!("{} is not for host `{name}`: clients refuse it", certificate.shown());
            let problem = Problem::warning("uncovered-host", host.place, message)
                .related(certificate.place, "the certificate");
            reader.push(problem.hint("a certificate's `*` stands for one label only"));
        }
    }
}
