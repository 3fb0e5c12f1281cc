//! The certificates of a server and their keys: `server_certificate` with `private_key`, or several in `certificates`.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::config::diagnostic::Problem;
use crate::config::drafts::HostAt;
use crate::config::effective::PairPaths;
use crate::config::host::show;
use crate::config::model::HostPattern;
use crate::config::pem::{self, Named, PEM_BYTES_MAX};
use crate::config::schema;
use crate::config::tree::{Reader, Table};
use crate::config::units::show_time;
use crate::tls::digest;
use crate::tls::pair::{Fault, Pair, PairFault, digest_of, read_pair};
use crate::tls::terms::PROVIDER;

/// One for each kind of key is what clients differ in.
const PAIRS_MAX: usize = 4;

/// From when on a warning says that a certificate ends.
const WARNING_DAYS: i64 = 14;

const DAY: i64 = 86_400;

/// A pair that a server is to use.
pub(super) struct Choice {
    pub(super) pair: Pair,
    /// The one in use, where that is another: for when this one does not work.
    pub(super) before: Option<Pair>,
    /// Why this is the one in use and not what the files hold.
    pub(super) kept: Option<Arc<str>>,
    pub(super) certificate: Named,
    pub(super) paths: PairPaths,
}

/// Reads the certificates of a server.
pub(super) fn read(reader: &mut Reader<'_>, table: &Table<'_>, hosts: &[HostAt]) -> Vec<Choice> {
    if !table.has("certificates") {
        return read_one(reader, table, hosts).into_iter().collect();
    }
    for key in ["server_certificate", "private_key", "ocsp_response"] {
        if let Some(value) = reader.any(table, key) {
            let message = format!("`{key}` beside `certificates`");
            let problem = Problem::error("misplaced-key", value.place, message);
            reader.push(problem.expected("every pair as an entry of `certificates`"));
        }
    }
    let mut choices = Vec::new();
    for entry in reader.tables(table, "certificates", &schema::CERTIFICATE, PAIRS_MAX) {
        choices.extend(read_one(reader, &entry, hosts));
    }
    reader.missing_or_empty(
        table,
        "certificates",
        "`[{ server_certificate = \"..\", private_key = \"..\" }]`",
    );
    // Where something older could stand in, that is tried first.
    if choices.iter().all(|choice| choice.before.is_none()) {
        let pairs: Vec<Pair> = choices.iter().map(|choice| choice.pair.clone()).collect();
        let problem = check_kinds(reader, table, &pairs).err();
        reader.problems.extend(problem);
    }
    choices
}

/// Refuses pairs that clients could not choose from.
pub(super) fn check_kinds(reader: &Reader<'_>, table: &Table<'_>, pairs: &[Pair]) -> Result<(), Problem> {
    let kinds: Vec<_> = pairs.iter().map(|pair| pair.certified.key.algorithm()).collect();
    if (1..kinds.len()).any(|at| kinds[..at].contains(&kinds[at])) {
        let place =
            reader.any(table, "certificates").map_or_else(|| reader.place(&table.span), |value| value.place);
        let problem = Problem::error("bad-value", place, "two certificates have keys of the same kind");
        let expected = "at most one for each of ECDSA, RSA and Ed25519: clients could not choose";
        return Err(problem.expected(expected));
    }
    Ok(())
}

fn read_one(reader: &mut Reader<'_>, table: &Table<'_>, hosts: &[HostAt]) -> Option<Choice> {
    reader.missing(
        table,
        "server_certificate",
        "`server_certificate = \"..\"`, a PEM file: the certificate, then its chain",
    );
    reader.missing(table, "private_key", "`private_key = \"..\"`, a PEM file");
    let certificate = pem::path(reader, table, "server_certificate");
    let key = pem::path(reader, table, "private_key");
    let ocsp = pem::path(reader, table, "ocsp_response");
    if ocsp.is_none() && table.has("ocsp_response") || reader.files.unread {
        return None;
    }
    let files = Files { certificate: certificate?, key: key?, ocsp, owner: Owner::Server };
    let choice = load_and_choose(reader, &files, hosts)?;
    warn_of_uncovered(reader, &files.certificate, &choice.pair, hosts);
    Some(choice)
}

/// Reads what is shown to endpoints: `client_certificate` with `private_key`.
pub(super) fn read_client(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<Choice> {
    reader.missing(
        table,
        "client_certificate",
        "`client_certificate = \"..\"`, a PEM file: the certificate, then its chain",
    );
    reader.missing(table, "private_key", "`private_key = \"..\"`, a PEM file");
    let certificate = pem::path(reader, table, "client_certificate");
    let key = pem::path(reader, table, "private_key");
    if reader.files.unread {
        return None;
    }
    let files = Files { certificate: certificate?, key: key?, ocsp: None, owner: Owner::Client };
    load_and_choose(reader, &files, &[])
}

fn load_and_choose(reader: &mut Reader<'_>, files: &Files, hosts: &[HostAt]) -> Option<Choice> {
    let paths = files.paths();
    let is_first = !reader.files.pairs.contains_key(&paths);
    if is_first {
        let loaded = load(reader, files, &paths);
        reader.files.pairs.insert(paths.clone(), loaded);
    }
    let choice = choose(reader, files, paths, hosts, is_first)?;
    warn_of_usage(reader, files, &choice);
    if reader.files.is_first(&choice.paths, &choice.pair.digest) {
        warn_of_dates(reader, files, &choice.pair);
        warn_of_gap(reader, files, &choice.pair);
    }
    Some(choice)
}

/// Takes what the files hold, unless that can not be used, or is worse for this server's hosts than what it has.
fn choose(
    reader: &mut Reader<'_>,
    files: &Files,
    paths: PairPaths,
    hosts: &[HostAt],
    is_first: bool,
) -> Option<Choice> {
    let now = now();
    let fresh = reader.files.pairs.get(&paths)?.clone();
    let used = reader.files.before.pairs.get(&paths).cloned().unwrap_or_default();
    let covers =
        |pair: &Pair, host: &HostAt| host.value != HostPattern::Any && pair.covers(&show(&host.value));
    let score = |pair: &Pair| match used.len() {
        0 | 1 => 0,
        _ => hosts.iter().filter(|host| covers(pair, host)).count(),
    };
    // Of equals the first: what was read last stands in front.
    let best = used.iter().rev().max_by_key(|pair| (pair.is_valid(now), score(pair))).cloned();
    let certificate = files.certificate.clone();
    let choice = |pair, before| Choice { pair, before, kept: None, certificate, paths: paths.clone() };
    let Some(best) = best else {
        return match fresh {
            Ok(fresh) => Some(choice(fresh, None)),
            Err(problems) => {
                problems.into_iter().filter(|_| is_first).for_each(|problem| reader.push(problem));
                None
            }
        };
    };
    let mut digest = digest::of([&b"kept"[..], &best.digest]);
    let problems = match fresh {
        Ok(fresh) if fresh.digest == best.digest => return Some(choice(fresh, None)),
        Ok(fresh) => {
            let lost = hosts.iter().find(|host| covers(&best, host) && !covers(&fresh, host));
            let Some(problem) = worse(files, &fresh, lost, now).filter(|_| best.is_valid(now)) else {
                return Some(choice(fresh, Some(best)));
            };
            for date in [fresh.not_before, best.not_after + 1].into_iter().filter(|date| *date > now) {
                reader.files.look_again_at(date);
            }
            digest = digest::of([&digest[..], &fresh.digest]);
            vec![problem]
        }
        Err(problems) => problems,
    };
    let reason = problems.first().map_or("", Problem::message).into();
    // Once for all servers that keep the same.
    if reader.files.is_first(&paths, &digest) {
        problems.into_iter().for_each(|problem| reader.push(kept(problem, &best)));
    }
    Some(Choice { kept: Some(reason), ..choice(best, None) })
}

/// What makes a pair worse than the one in use: its dates, or a host that it leaves out.
fn worse(files: &Files, fresh: &Pair, lost: Option<&HostAt>, now: i64) -> Option<Problem> {
    let Named { place, .. } = files.certificate;
    let shown = files.certificate.shown();
    if let Some((what, hint)) = date_problem(fresh, now, files.owner) {
        return Some(Problem::error("certificate-dates", place, format!("{shown} {what}")).hint(hint));
    }
    let message = format!("{shown} is not for host `{}`", show(&lost?.value));
    Some(Problem::error("uncovered-host", place, message).related(lost?.place, "the host"))
}

/// Says that a pair stays.
pub(super) fn kept(problem: Problem, pair: &Pair) -> Problem {
    let until = show_time(pair.not_after);
    problem.kept("certificate-kept", &format!("the one before stays in use, good until {until}"))
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
    fn paths(&self) -> PairPaths {
        let ocsp = self.ocsp.as_ref().map(|named| named.path.clone()).unwrap_or_default();
        [self.certificate.path.clone(), self.key.path.clone(), ocsp]
    }
}

/// Reads a pair; one that is in use already is not made again. Or what is wrong with its files.
fn load(reader: &mut Reader<'_>, files: &Files, paths: &PairPaths) -> Result<Pair, Vec<Problem>> {
    let Files { certificate, key, ocsp, .. } = files;
    let chain = pem::read(reader, certificate, PEM_BYTES_MAX);
    let secret = pem::read(reader, key, PEM_BYTES_MAX);
    let response = ocsp.as_ref().map(|ocsp| pem::read(reader, ocsp, PEM_BYTES_MAX)).transpose();
    let (chain, secret, response) = match (chain, secret, response) {
        (Ok(chain), Ok(secret), Ok(response)) => (chain, secret, response),
        (chain, secret, response) => {
            return Err([chain.err(), secret.err(), response.err()].into_iter().flatten().collect());
        }
    };
    let digest = digest_of(&chain, &secret, response.as_deref());
    let used = reader.files.before.pairs.get(paths).into_iter().flatten();
    let pair = match used.into_iter().find(|pair| pair.digest == digest) {
        Some(known) => known.clone(),
        None => {
            read_pair(&PROVIDER, &chain, &secret, response).map_err(|fault| vec![refusal(files, fault)])?
        }
    };
    if reader.files.is_open(&key.path) {
        let message = format!("everybody on this host can read {}", key.shown());
        let hint = format!("chmod o= {}", key.path.display());
        reader.push(Problem::warning("open-key", key.place, message).hint(hint));
    }
    Ok(pair)
}

fn refusal(files: &Files, fault: PairFault) -> Problem {
    let Files { certificate, key, ocsp, owner } = files;
    let owner = owner.name();
    let mismatch = format!("{} is not the key of {}", key.shown(), certificate.shown());
    let of_file = |named: &Named, fault: Fault, expected: &str| {
        let message = format!("{} {}", named.shown(), fault.reason);
        let problem = Problem::error("bad-file", named.place, message).expected(expected.to_owned());
        problem.hint_if(fault.hint.map(str::to_owned))
    };
    match fault {
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
    }
}

/// Why its peers would refuse the certificate now, and what to do.
fn date_problem(pair: &Pair, now: i64, owner: Owner) -> Option<(String, &'static str)> {
    let peers = owner.peers();
    if now > pair.not_after {
        let what = format!("ended {} ago: {peers} refuse it", days(now - pair.not_after));
        return Some((what, "renew the certificate"));
    }
    if now < pair.not_before {
        let what = format!("is good only in {}: {peers} refuse it", days(pair.not_before - now));
        return Some((what, "check the clock of this host and that of the authority"));
    }
    None
}

/// Also a certificate that has ended is served, where there is no other: whoever must reach this host can still decide
/// to.
fn warn_of_dates(reader: &mut Reader<'_>, files: &Files, pair: &Pair) {
    let certificate = &files.certificate;
    let now = now();
    let (what, hint) = match date_problem(pair, now, files.owner) {
        Some(problem) => problem,
        None if pair.not_after - now < WARNING_DAYS * DAY => {
            (format!("ends in {}", days(pair.not_after - now)), "renew the certificate")
        }
        None => return,
    };
    let message = format!("{} {what}", certificate.shown());
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

/// An extendedKeyUsage that leaves this side of the handshake out (RFC 5280 section 4.2.1.12).
fn warn_of_usage(reader: &mut Reader<'_>, files: &Files, choice: &Choice) {
    let Files { certificate, owner, .. } = files;
    let (fits, usage) = match owner {
        Owner::Client => (choice.pair.for_clients, "clientAuth"),
        Owner::Server => (choice.pair.for_servers, "serverAuth"),
    };
    let digest = digest::of([b"usage", owner.name().as_bytes(), &choice.pair.digest]);
    if fits || !reader.files.is_first(&choice.paths, &digest) {
        return;
    }
    let message =
        format!("{} is not made for {}s: {} refuse it", certificate.shown(), owner.name(), owner.peers());
    let problem = Problem::warning("certificate-usage", certificate.place, message);
    reader.push(problem.expected(format!("`{usage}` in its extendedKeyUsage, or no extendedKeyUsage")));
}

fn warn_of_gap(reader: &mut Reader<'_>, files: &Files, pair: &Pair) {
    let Some(at) = pair.gap else { return };
    let Files { certificate, owner, .. } = files;
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
            let hint = if pair.is_authority {
                "it is the certificate of an authority, not of a server"
            } else if pair.about.names.is_empty() {
                "it has no subjectAltName"
            } else {
                "a certificate's `*` stands for one label only"
            };
            reader.push(problem.hint(hint));
        }
    }
}
