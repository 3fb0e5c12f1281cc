//! What `tls` of a server asks of clients: authorities, revocation lists, names and pins.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::client_match;
use crate::config::diagnostic::{Problem, visible};
use crate::config::pairs;
use crate::config::pem::{self, CRL_BYTES_MAX, Named, PEM_BYTES_MAX};
use crate::config::tree::{At, Reader, Table};
use crate::tls::clients::{ClientPolicy, Crls, Revocation, Roots, not_of_authority};
use crate::tls::digest::{self, Sha256};
use crate::tls::pair::read_chain;

/// Names or pins of clients in one list.
const CLIENTS_MAX: usize = 10_000;

/// What is asked of clients, and the files it stands on.
pub(super) struct Clients {
    pub(super) policy: ClientPolicy,
    pub(super) ca: Named,
    pub(super) crl: Option<Named>,
    /// The lists in use, where those are others.
    pub(super) older_crls: Option<Arc<Crls>>,
}

/// Reads it.
pub(super) fn lower(reader: &mut Reader<'_>, table: &Table<'_>, optional: bool) -> Option<Clients> {
    reader.missing(
        table,
        "ca_certificates",
        "`ca_certificates = \"..\"`, a PEM file with the clients' authorities",
    );
    let ca = pem::path(reader, table, "ca_certificates").filter(|_| !reader.files.unread);
    let roots = ca.as_ref().and_then(|named| roots(reader, named));
    let Lists { crl, crls, revocation } = revocation(reader, table, "no client gets in");
    warn_of_foreign_lists(reader, ca.as_ref().zip(roots.as_deref()), &crl, crls.as_deref(), revocation);
    let details = client_match::details(reader, table);
    let without = "then every client of the authorities gets in";
    let names = names(reader, table, without);
    let [spki, certificates] =
        ["verify_certificate_spki", "verify_certificate_hash"].map(|key| pins(reader, table, key, without));
    if crls.is_none() && table.has("ca_crl") {
        return None;
    }
    let used = crl.as_ref().and_then(|named| reader.files.before.crls.get(&named.path)).cloned();
    let older_crls = used.filter(|used| crls.as_ref().is_some_and(|crls| crls.source != used.source));
    let policy =
        ClientPolicy { optional, roots: roots?, crls, revocation, names, spki, certificates, details };
    Some(Clients { policy, ca: ca?, crl, older_crls })
}

/// Warns of lists that no authority made. By them nothing is known of what the authorities issued.
pub(super) fn warn_of_foreign_lists(
    reader: &mut Reader<'_>,
    authorities: Option<(&Named, &Roots)>,
    crl: &Option<Named>,
    crls: Option<&Crls>,
    revocation: Revocation,
) {
    let (Some((ca, roots)), Some(crl), Some(crls)) = (authorities, crl, crls) else { return };
    if revocation.allow_unknown || roots.has_list_in(crls) {
        return;
    }
    let paths = [ca.path.clone(), crl.path.clone(), PathBuf::new()];
    if !reader.files.is_first(&paths, &crls.source) {
        return;
    }
    let effect = if revocation.leaf_only {
        "no certificate that they issued themselves is good"
    } else {
        "no certificate is good"
    };
    let message = format!("no list in {} is of an authority in {}: {effect}", crl.shown(), ca.shown());
    let problem = Problem::warning("crl-issuer", crl.place, message).related(ca.place, "the authorities");
    reader.push(
        problem
            .expected("the lists of these authorities")
            .hint("`crl_unknown_status = \"ALLOW\"` takes certificates of which no list is there"),
    );
}

/// Revocation lists, the file they stand in, and how they are used.
pub(super) struct Lists {
    pub(super) crl: Option<Named>,
    pub(super) crls: Option<Arc<Crls>>,
    pub(super) revocation: Revocation,
}

/// Reads the lists and how they are used. `effect` is that of a list out of date.
pub(super) fn revocation(reader: &mut Reader<'_>, table: &Table<'_>, effect: &str) -> Lists {
    let crl = pem::path(reader, table, "ca_crl").filter(|_| !reader.files.unread);
    if !table.has("ca_crl") {
        for key in ["crl_depth", "crl_unknown_status", "crl_expired"] {
            if let Some(value) = reader.any(table, key) {
                let message = format!("`{key}` means nothing without `ca_crl`");
                reader.push(Problem::error("misplaced-key", value.place, message).hint("remove the key"));
            }
        }
    }
    let answers = [("DENY", false), ("ALLOW", true)];
    let revocation = Revocation {
        leaf_only: reader
            .word(table, "crl_depth", &[("CHAIN", false), ("LEAF", true)], &[])
            .unwrap_or_default(),
        allow_unknown: reader.word(table, "crl_unknown_status", &answers, &[]).unwrap_or_default(),
        allow_expired: reader.word(table, "crl_expired", &answers, &[]).unwrap_or_default(),
    };
    let crls = crl.as_ref().and_then(|named| crls(reader, named, revocation, effect));
    Lists { crl, crls, revocation }
}

/// The authorities in a file, read once. Where it can not be used, those in use stay.
pub(super) fn roots(reader: &mut Reader<'_>, named: &Named) -> Option<Arc<Roots>> {
    if let Some(known) = reader.files.roots.get(&named.path) {
        return known.clone();
    }
    let used = reader.files.before.roots.get(&named.path).cloned();
    let roots = match read_roots(reader, named) {
        Ok(roots) => Some(used.filter(|used| used.digest == roots.digest).unwrap_or_else(|| Arc::new(roots))),
        Err(problem) if used.is_some() => {
            reader.files.kept.insert(named.path.clone(), problem.message().into());
            reader.push(problem.kept("authorities-kept", "those before stay in use"));
            used
        }
        Err(problem) => {
            reader.push(problem);
            None
        }
    };
    reader.files.roots.insert(named.path.clone(), roots.clone());
    roots
}

fn read_roots(reader: &mut Reader<'_>, named: &Named) -> Result<Roots, Problem> {
    let pem = pem::read(reader, named, PEM_BYTES_MAX)?;
    let problem = |reason: &str| {
        let message = format!("{} {reason}", named.shown());
        Problem::error("bad-file", named.place, message).expected("PEM with the certificate of an authority")
    };
    let chain =
        read_chain(&pem).map_err(|fault| problem(fault.reason).hint_if(fault.hint.map(str::to_owned)))?;
    let roots = Roots::new(&chain).map_err(|reason| problem(&format!("holds no authorities: {reason}")))?;
    if let Some(at) = not_of_authority(&chain) {
        let message = format!("certificate {at} of {} is not that of an authority", named.shown());
        let problem = Problem::warning("no-authority", named.place, message);
        reader.push(problem.expected("certificates with `CA:TRUE` in their basicConstraints").hint(
            "name the authority that issued it here; `subject_alt_names` says which of its holders get in",
        ));
    }
    Ok(roots)
}

/// The revocation lists in a file, read once. Where it can not be used, or is out of date, those in use stay.
fn crls(reader: &mut Reader<'_>, named: &Named, revocation: Revocation, effect: &str) -> Option<Arc<Crls>> {
    if let Some(known) = reader.files.crls.get(&named.path) {
        return known.clone();
    }
    let used = reader.files.before.crls.get(&named.path).cloned();
    let is_late = |crls: &Crls| crls.next_update.is_some_and(|next| next < pairs::now());
    let read = read_crls(reader, named, used.as_ref()).and_then(|crls| not_of_the_future(named, crls));
    let crls = match (read, used) {
        (Ok(crls), Some(used)) if is_late(&crls) && !is_late(&used) => {
            used.next_update.iter().for_each(|next| reader.files.look_again_at(next + 1));
            keep_crls(reader, named, late_crls(named, &crls));
            Some(used)
        }
        (Ok(crls), Some(used)) if crls.is_older_than(&used) => {
            let message =
                format!("{} is older than the lists in use: revocations would be taken back", named.shown());
            keep_crls(reader, named, Problem::error("crl-older", named.place, message));
            Some(used)
        }
        (Ok(crls), _) => {
            if is_late(&crls) {
                let effect = if revocation.allow_expired { "it still counts" } else { effect };
                reader.push(late_crls(named, &crls).kept("crl-expired", effect));
            }
            Some(crls)
        }
        (Err(problem), Some(used)) => {
            keep_crls(reader, named, problem);
            Some(used)
        }
        (Err(problem), None) => {
            reader.push(problem);
            None
        }
    };
    reader.files.crls.insert(named.path.clone(), crls.clone());
    crls
}

/// A list dated in the future would stand before all that are made until then.
fn not_of_the_future(named: &Named, crls: Arc<Crls>) -> Result<Arc<Crls>, Problem> {
    if crls.newest() <= pairs::now() + CLOCK_SKEW_SECONDS {
        return Ok(crls);
    }
    let message = format!("{} is dated in the future", named.shown());
    let problem = Problem::error("crl-date", named.place, message);
    Err(problem.hint("check the clock of this host and that of the authority"))
}

/// By how much clocks may differ.
const CLOCK_SKEW_SECONDS: i64 = 3600;

fn keep_crls(reader: &mut Reader<'_>, named: &Named, problem: Problem) {
    reader.files.kept.insert(named.path.clone(), problem.message().into());
    reader.push(problem.kept("crl-kept", "the lists before stay in use"));
}

fn read_crls(reader: &mut Reader<'_>, named: &Named, used: Option<&Arc<Crls>>) -> Result<Arc<Crls>, Problem> {
    let pem = pem::read(reader, named, CRL_BYTES_MAX)?;
    // Large lists take long to read.
    if let Some(used) = used.filter(|used| used.source == digest::of([&pem[..]])) {
        return Ok(Arc::clone(used));
    }
    Crls::read(&pem).map(Arc::new).map_err(|reason| {
        let problem = Problem::error("bad-file", named.place, format!("{} {reason}", named.shown()));
        let der = pem.first() == Some(&0x30);
        let hint = der.then(|| "turn it into PEM: openssl crl -inform DER -in FILE -out FILE.pem".to_owned());
        problem.expected("PEM with a certificate revocation list").hint_if(hint)
    })
}

fn late_crls(named: &Named, crls: &Crls) -> Problem {
    let ago = pairs::days(pairs::now() - crls.next_update.unwrap_or_default());
    let message = format!("{} was to be renewed {ago} ago", named.shown());
    let problem = Problem::error("crl-expired", named.place, message);
    problem.hint("fetch a new list; `crl_expired = \"ALLOW\"` takes an old one meanwhile")
}

/// Names of certificates: whole DNS names, URIs or e-mail addresses. `without` says what holds where there are none.
pub(super) fn names(reader: &mut Reader<'_>, table: &Table<'_>, without: &str) -> Vec<Box<str>> {
    let mut names = Vec::new();
    for text in reader.strings(table, "subject_alt_names", CLIENTS_MAX) {
        if let Some(problem) = not_bare(text) {
            reader.push(problem);
            continue;
        }
        let plain = text.value.bytes().all(|byte| byte.is_ascii_graphic());
        if plain && !text.value.is_empty() && !text.value.contains('*') {
            names.push(Box::from(text.value));
            continue;
        }
        let message = format!("`{}` is no name that a certificate can have", visible(text.value));
        let problem = Problem::error("bad-value", text.place, message);
        let hint = text
            .value
            .contains('*')
            .then(|| "names are compared as a whole: there is no wildcard".to_owned());
        reader.push(
            problem.expected("a DNS name, a URI such as `spiffe://..`, or an e-mail address").hint_if(hint),
        );
    }
    refuse_empty(reader, table, "subject_alt_names", without);
    names
}

/// What is wrong with a name as openssl shows it, or an address.
fn not_bare(text: At<&str>) -> Option<Problem> {
    const PREFIXES: [&str; 6] = ["URI:", "DNS:", "email:", "IP:", "IP Address:", "CN="];
    let shown = visible(text.value);
    let bare = PREFIXES.iter().find_map(|prefix| {
        let (start, bare) = text.value.split_at_checked(prefix.len())?;
        start.eq_ignore_ascii_case(prefix).then_some((*prefix, bare.trim()))
    });
    let expected = "a DNS name, a URI such as `spiffe://..`, or an e-mail address";
    let is_address = |name: &str| name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    if is_address(bare.map_or(text.value, |(_, bare)| bare)) {
        let message = format!("`{shown}`: addresses are not compared");
        return Some(Problem::error("bad-value", text.place, message).expected(expected));
    }
    let (prefix, bare) = bare?;
    let problem = Problem::error(
        "bad-value",
        text.place,
        format!("`{shown}`: names of certificates stand here without `{prefix}`"),
    );
    let hint = match prefix {
        "CN=" => "the subject is not compared, only names of the subjectAltName".to_owned(),
        _ => format!("write `{}`", visible(bare)),
    };
    Some(problem.expected(expected).hint(hint))
}

/// An empty list would let everybody in where nobody was meant.
fn refuse_empty(reader: &mut Reader<'_>, table: &Table<'_>, key: &str, without: &str) {
    if table.has(key) {
        reader.missing_or_empty(table, key, &format!("an entry, or no such key: {without}"));
    }
}

/// SHA-256 fingerprints: base64, or hex with or without colons.
fn pins(reader: &mut Reader<'_>, table: &Table<'_>, key: &str, without: &str) -> Vec<Sha256> {
    let mut pins = Vec::new();
    for text in reader.strings(table, key, CLIENTS_MAX) {
        match pin(text) {
            Some(pin) => pins.push(pin),
            None => {
                let message = format!("`{}` is no SHA-256 fingerprint", visible(text.value));
                let problem = Problem::error("bad-value", text.place, message);
                reader.push(problem.expected("44 characters of base64, or 64 hexadecimal digits"));
            }
        }
    }
    refuse_empty(reader, table, key, without);
    pins
}

fn pin(text: At<&str>) -> Option<Sha256> {
    let hex: String = text.value.chars().filter(|c| *c != ':').collect();
    let bytes = if hex.len() == 64 {
        let digits = hex.as_bytes().chunks_exact(2);
        digits
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
            .collect::<Option<Vec<u8>>>()?
    } else {
        data_encoding::BASE64.decode(text.value.as_bytes()).ok()?
    };
    bytes.try_into().ok()
}
