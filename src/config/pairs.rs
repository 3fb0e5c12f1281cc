//! The certificates of a server and their keys: `server_certificate` with `private_key`, or several in `certificates`.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::config::diagnostic::Problem;
use crate::config::drafts::HostAt;
use crate::config::host::show;
use crate::config::model::HostPattern;
use crate::config::pem::{self, Named, PEM_BYTES_MAX};
use crate::config::schema;
use crate::config::tree::{Reader, Table};
use crate::tls::pair::{Fault, Pair, PairFault, read_pair};
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
    let certificate = pem::path(reader, table, "server_certificate");
    let key = pem::path(reader, table, "private_key");
    let ocsp = pem::path(reader, table, "ocsp_response");
    if ocsp.is_none() && table.has("ocsp_response") {
        return None;
    }
    let files = Files { certificate: certificate?, key: key?, ocsp, owner: Owner::Server };
    let pair = load_once(reader, &files)?;
    warn_of_uncovered(reader, &files.certificate, &pair, hosts);
    Some(pair)
}

/// Reads what is shown to endpoints: `client_certificate` with `private_key`.
pub(super) fn read_client(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<Pair> {
    reader.missing(
        table,
        "client_certificate",
        "`client_certificate = \"..\"`, a PEM file: the certificate, then its chain",
    );
    reader.missing(table, "private_key", "`private_key = \"..\"`, a PEM file");
    let certificate = pem::path(reader, table, "client_certificate");
    let key = pem::path(reader, table, "private_key");
    let files = Files { certificate: certificate?, key: key?, ocsp: None, owner: Owner::Client };
    load_once(reader, &files)
}

/// A pair whose files may have been read already.
fn load_once(reader: &mut Reader<'_>, files: &Files) -> Option<Pair> {
    let paths = files.paths();
    if let Some(known) = reader.files.pairs.get(&paths) {
        return known.clone();
    }
    let pair = load(reader, files);
    reader.files.pairs.insert(paths, pair.clone());
    pair
}

/// The files of a pair.
struct Files {
    certificate: Named,
    key: Named,
    ocsp: Option<Named>,
    owner: Owner,
}

/// Which side of a handshake shows a pair.
#[derive(Clone, Copy)]
enum Owner {
    Client,
    Server,
}

impl Owner {
    const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }

    /// Who looks at it.
    const fn peers(self) -> &'static str {
        match self {
            Self::Client => "endpoints",
            Self::Server => "clients",
        }
    }
}

impl Files {
    fn paths(&self) -> [std::path::PathBuf; 3] {
        let ocsp = self.ocsp.as_ref().map(|named| named.path.clone()).unwrap_or_default();
        [self.certificate.path.clone(), self.key.path.clone(), ocsp]
    }
}

/// Reads a pair, and says what is wrong with its files.
fn load(reader: &mut Reader<'_>, files: &Files) -> Option<Pair> {
    let Files { certificate, key, ocsp, owner } = files;
    let chain = pem::read(reader, certificate, PEM_BYTES_MAX);
    let secret = pem::read(reader, key, PEM_BYTES_MAX);
    let response = match ocsp {
        Some(ocsp) => Some(pem::read(reader, ocsp, PEM_BYTES_MAX)?),
        None => None,
    };
    let (chain, secret) = (chain?, secret?);
    if reader.files.is_open(&key.path) {
        let message = format!("everybody on this host can read {}", key.shown());
        let hint = format!("chmod o= {}", key.path.display());
        reader.push(Problem::warning("open-key", key.place, message).hint(hint));
    }
    match read_pair(&PROVIDER, &chain, &secret, response) {
        Ok(pair) => {
            warn_of_dates(reader, certificate, &pair, *owner);
            warn_of_gap(reader, certificate, &pair, *owner);
            Some(pair)
        }
        Err(fault) => {
            refuse(reader, files, fault);
            None
        }
    }
}

fn refuse(reader: &mut Reader<'_>, files: &Files, fault: PairFault) {
    let Files { certificate, key, ocsp, owner } = files;
    let owner = owner.name();
    let mismatch = format!("{} is not the key of {}", key.shown(), certificate.shown());
    let of_file = |named: &Named, fault: Fault, expected: &str| {
        let message = format!("{} {}", named.shown(), fault.reason);
        let problem = Problem::error("bad-file", named.place, message).expected(expected.to_owned());
        problem.hint_if(fault.hint.map(str::to_owned))
    };
    let problem = match fault {
        PairFault::Certificate(fault) => {
            of_file(certificate, fault, &format!("a PEM file: the {owner}'s certificate, then its chain"))
        }
        PairFault::Key(fault) => of_file(key, fault, "a PEM file with one RSA, ECDSA or Ed25519 key"),
        PairFault::Response(fault) => {
            let named = ocsp.as_ref().unwrap_or(certificate);
            of_file(named, fault, "a file with the response of the authority's OCSP responder")
        }
        PairFault::Mismatch => Problem::error("bad-file", key.place, mismatch)
            .expected("the key that the certificate was made for")
            .related(certificate.place, "the certificate"),
        PairFault::Order => Problem::error("bad-file", key.place, mismatch)
            .expected("the key of the first certificate in the file")
            .hint(format!(
                "it is the key of a later one: the {owner}'s own certificate comes first, then its chain"
            ))
            .related(certificate.place, "the certificate"),
    };
    reader.push(problem);
}

/// Also a certificate that has ended is served: whoever must reach this host can still decide to.
fn warn_of_dates(reader: &mut Reader<'_>, certificate: &Named, pair: &Pair, owner: Owner) {
    let peers = owner.peers();
    let now = now();
    let shown = certificate.shown();
    let (message, hint) = if now > pair.not_after {
        (
            format!("{shown} ended {} ago: {peers} refuse it", days(now - pair.not_after)),
            "renew the certificate",
        )
    } else if now < pair.not_before {
        (
            format!("{shown} is good only in {}: {peers} refuse it", days(pair.not_before - now)),
            "check the clock of this host and that of the authority",
        )
    } else if pair.not_after - now < WARNING_DAYS * DAY {
        (format!("{shown} ends in {}", days(pair.not_after - now)), "renew the certificate")
    } else {
        return;
    };
    reader.push(Problem::warning("certificate-dates", certificate.place, message).hint(hint));
}

/// Seconds since 1970.
pub(super) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs().cast_signed())
}

/// A time in days, for messages.
pub(super) fn days(seconds: i64) -> String {
    match seconds / DAY {
        0 => "less than a day".to_owned(),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

fn warn_of_gap(reader: &mut Reader<'_>, certificate: &Named, pair: &Pair, owner: Owner) {
    let Some(at) = pair.gap else { return };
    let shown = certificate.shown();
    let message = format!("certificate {at} of {shown} did not issue certificate {}", at - 1);
    let problem = Problem::warning("chain-order", certificate.place, message);
    reader.push(
        problem
            .expected(format!("the {}'s certificate, then the one that issued it, and so on", owner.name()))
            .hint(format!("some {} do not find the way to their authority", owner.peers())),
    );
}

fn warn_of_uncovered(reader: &mut Reader<'_>, certificate: &Named, pair: &Pair, hosts: &[HostAt]) {
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
