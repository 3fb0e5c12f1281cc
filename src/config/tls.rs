//! `tls` of a server: from its keys and the files they name to [`ServerTls`].
//!
//! Certificates, keys and lists are read here, so that every problem with them has a place in the configuration. What
//! they are worth is judged by [`crate::tls`]. Nothing of a private key ever stands in a message.

use std::sync::Arc;

use crate::config::client_match;
use crate::config::diagnostic::{Problem, visible};
use crate::config::drafts::HostAt;
use crate::config::https;
use crate::config::model::{Protocol, ServerTls};
use crate::config::pairs;
use crate::config::pem::{self, CRL_BYTES_MAX, Named, PEM_BYTES_MAX};
use crate::config::schema;
use crate::config::tree::{At, Reader, Table};
use crate::tls::clients::{ClientPolicy, Crls, Revocation, Roots};
use crate::tls::digest::Sha256;
use crate::tls::pair::read_chain;
use crate::tls::suites;
use crate::tls::terms::Wanted;
use rustls::SupportedCipherSuite;

/// Names or pins of clients in one list.
const CLIENTS_MAX: usize = 10_000;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mode {
    Mutual,
    OptionalMutual,
    Passthrough,
    Simple,
}

const MODES: [(&str, Mode); 4] = [
    ("SIMPLE", Mode::Simple),
    ("MUTUAL", Mode::Mutual),
    ("OPTIONAL_MUTUAL", Mode::OptionalMutual),
    ("PASSTHROUGH", Mode::Passthrough),
];

/// Keys that say something of TLS that ends here.
const KEYS_OF_TERMINATION: [&str; 8] = [
    "server_certificate",
    "private_key",
    "ocsp_response",
    "certificates",
    "min_protocol_version",
    "max_protocol_version",
    "cipher_profile",
    "cipher_suites",
];

/// What a server's `tls` table says.
#[derive(Default)]
pub(super) struct Said {
    pub(super) tls: Option<ServerTls>,
    pub(super) https_redirect: Option<u16>,
    pub(super) answer_plain_http: bool,
}

/// Lowers the `tls` table of a server of `protocol` (`None`: it could not be read).
pub(super) fn lower(
    reader: &mut Reader<'_>,
    server: &Table<'_>,
    protocol: Option<Protocol>,
    hosts: &[HostAt],
) -> Said {
    let Some(protocol) = protocol else { return Said::default() };
    let has_tls = matches!(protocol, Protocol::Https | Protocol::Tls);
    if has_tls {
        reader.missing(
            server,
            "tls",
            "`tls = { mode = \"SIMPLE\", server_certificate = \"..\", private_key = \"..\" }`",
        );
    }
    let Some(table) = reader.child(server, "tls", &schema::SERVER_TLS) else { return Said::default() };
    let https_redirect = https::redirect(reader, &table, protocol);
    if !has_tls {
        if protocol == Protocol::Http && table.has("https_redirect") {
            https::nothing_else(reader, &table);
        } else {
            let problem =
                Problem::error("misplaced-key", reader.place(&table.span), "`tls` of a server without TLS");
            let expected = "`protocol = \"HTTPS\"`, or `protocol = \"TLS\"` for other protocols over TLS";
            reader.push(problem.expected(expected));
        }
        return Said { https_redirect, ..Said::default() };
    }
    let answer_plain_http = https::answer_plain_http(reader, &table, protocol);
    Said { tls: by_mode(reader, &table, protocol, hosts), https_redirect, answer_plain_http }
}

fn by_mode(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    protocol: Protocol,
    hosts: &[HostAt],
) -> Option<ServerTls> {
    reader.missing(
        table,
        "mode",
        "`mode = \"SIMPLE\"`, `\"MUTUAL\"`, `\"OPTIONAL_MUTUAL\"` or `\"PASSTHROUGH\"`",
    );
    let mode = reader.word(table, "mode", &MODES, &["AUTO_PASSTHROUGH", "ISTIO_MUTUAL"])?;
    match mode {
        Mode::Passthrough => passthrough(reader, table, protocol),
        Mode::Simple => {
            no_client_keys(reader, table, "with mode SIMPLE");
            terminate(reader, table, protocol, hosts, None)
        }
        Mode::Mutual | Mode::OptionalMutual => {
            let clients = clients(reader, table, mode == Mode::OptionalMutual);
            let lost = clients.is_none();
            // What is wrong with the certificates shows all the same.
            terminate(reader, table, protocol, hosts, clients).filter(|_| !lost)
        }
    }
}

fn passthrough(reader: &mut Reader<'_>, table: &Table<'_>, protocol: Protocol) -> Option<ServerTls> {
    if protocol == Protocol::Https {
        let place = reader.any(table, "mode")?.place;
        let problem = Problem::error("bad-value", place, "HTTPS ends TLS here: it can not pass through");
        reader.push(problem.expected("`protocol = \"TLS\"` with `PASSTHROUGH`, or another mode"));
        return None;
    }
    for key in KEYS_OF_TERMINATION {
        if let Some(value) = reader.any(table, key) {
            let message = format!("`{key}` means nothing where TLS passes through");
            reader.push(Problem::error("misplaced-key", value.place, message).hint("remove the key"));
        }
    }
    no_client_keys(reader, table, "where TLS passes through");
    Some(ServerTls::Passthrough)
}

/// Keys on client certificates, where none is asked for.
fn no_client_keys(reader: &mut Reader<'_>, table: &Table<'_>, why: &str) {
    let keys = [
        "ca_certificates",
        "ca_crl",
        "crl_depth",
        "crl_unknown_status",
        "crl_expired",
        "subject_alt_names",
        "verify_certificate_spki",
        "verify_certificate_hash",
        "forward_client_certificate",
    ];
    for key in keys {
        if let Some(value) = reader.any(table, key) {
            let problem =
                Problem::error("misplaced-key", value.place, format!("`{key}` means nothing {why}"));
            reader.push(problem.expected("`mode = \"MUTUAL\"` or `\"OPTIONAL_MUTUAL\"`, or no such key"));
        }
    }
}

fn terminate(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    protocol: Protocol,
    hosts: &[HostAt],
    clients: Option<ClientPolicy>,
) -> Option<ServerTls> {
    let errors_before = reader.problems.errors();
    let pairs = pairs::read(reader, table, hosts);
    let (tls12, tls13) = versions(reader, table);
    let suites = cipher_suites(reader, table, tls12, tls13);
    // HTTP/1.0 is what old scripts and `curl -0` offer.
    let alpn: Vec<&'static [u8]> =
        if protocol == Protocol::Https { vec![b"http/1.1", b"http/1.0"] } else { Vec::new() };
    if reader.problems.errors() > errors_before || pairs.is_empty() {
        return None;
    }
    if tls12 && !pairs.iter().any(|pair| suites.iter().any(|suite| pair.signs(suite))) {
        let place =
            reader.any(table, "cipher_suites").map_or_else(|| reader.place(&table.span), |value| value.place);
        let message = "no suite for TLS 1.2 goes with the kind of key of the certificate";
        let problem = Problem::error("bad-value", place, message);
        let hint = "`ECDHE_ECDSA` needs an ECDSA or Ed25519 key, `ECDHE_RSA` an RSA key";
        reader.push(problem.expected("a suite for it, or `min_protocol_version = \"TLSV1_3\"`").hint(hint));
        return None;
    }
    let wanted = Wanted { pairs, clients, tls12, tls13, suites, alpn };
    match reader.files.compiler.compile(&wanted) {
        Ok(terms) => Some(ServerTls::Terminate(terms)),
        Err(reason) => {
            let message = format!("these TLS settings do not work: {reason}");
            reader.push(Problem::error("bad-tls", reader.place(&table.span), message));
            None
        }
    }
}

pub(super) fn versions(reader: &mut Reader<'_>, table: &Table<'_>) -> (bool, bool) {
    let words = [("TLS_AUTO", None), ("TLSV1_2", Some(2)), ("TLSV1_3", Some(3))];
    let mut version = |key| {
        let older = reader
            .any(table, key)
            .filter(|value| matches!(value.value.as_str(), Some("TLSV1_0" | "TLSV1_1")));
        if let Some(older) = older {
            let problem =
                Problem::error("bad-value", older.place, format!("`{key}`: TLS before 1.2 is not spoken"));
            reader
                .push(problem.expected("`TLSV1_2` or `TLSV1_3`").hint("RFC 8996 deprecates the older ones"));
            return None;
        }
        reader.word(table, key, &words, &[]).flatten()
    };
    let written_min = version("min_protocol_version");
    let (min, max) = (written_min.unwrap_or(2), version("max_protocol_version").unwrap_or(3));
    if min > max {
        let place =
            reader.any(table, "max_protocol_version").map_or_else(|| reader.place(&table.span), |v| v.place);
        let problem =
            Problem::error("bad-value", place, "`max_protocol_version` is below `min_protocol_version`");
        reader.push(problem.expected("a minimum that is not above the maximum"));
    }
    let modern = modern(reader, table);
    let against = if max < 3 { Some("max_protocol_version") } else { None };
    let against = against.or_else(|| (written_min == Some(2)).then_some("min_protocol_version"));
    if modern && let Some(key) = against {
        let place =
            reader.any(table, "cipher_profile").map_or_else(|| reader.place(&table.span), |v| v.place);
        let message = format!("profile MODERN is TLS 1.3 alone, `{key}` says otherwise");
        let problem = Problem::error("bad-value", place, message);
        reader.push(problem.expected(format!("no `{key}`, or `cipher_profile = \"INTERMEDIATE\"`")));
    }
    (min <= 2 && !modern, max >= 3)
}

/// Mozilla's profiles: MODERN is TLS 1.3 alone, INTERMEDIATE adds TLS 1.2 with forward secrecy and AEAD, all that rustls
/// has.
fn modern(reader: &Reader<'_>, table: &Table<'_>) -> bool {
    reader.any(table, "cipher_profile").is_some_and(|value| value.value.as_str() == Some("MODERN"))
}

pub(super) fn cipher_suites(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    tls12: bool,
    tls13: bool,
) -> Vec<SupportedCipherSuite> {
    reader.word(table, "cipher_profile", &[("INTERMEDIATE", ()), ("MODERN", ())], &["FIPS", "OLD"]);
    let of_versions = |suite: &SupportedCipherSuite| if suite.tls13().is_some() { tls13 } else { tls12 };
    let all: Vec<SupportedCipherSuite> = suites::all().into_iter().filter(of_versions).collect();
    let Some(list) = reader.any(table, "cipher_suites") else { return all };
    if let Some(profile) = reader.any(table, "cipher_profile") {
        let message = "`cipher_profile` beside `cipher_suites`";
        let problem = Problem::error("misplaced-key", profile.place, message);
        reader.push(problem.expected("one of them").related(list.place, "the list"));
    }
    let mut chosen: Vec<SupportedCipherSuite> = Vec::new();
    let names: Vec<String> = suites::all().into_iter().map(suites::name).collect();
    for text in reader.strings(table, "cipher_suites", 100) {
        match suites::by_name(text.value) {
            Some(suite) if of_versions(&suite) => chosen.push(suite),
            Some(_) => {
                let message = format!("`{}` belongs to a TLS version that is not spoken here", text.value);
                reader.push(Problem::error("bad-value", text.place, message).hint("remove it"));
            }
            None => {
                let message = format!("`{}` is no cipher suite that is supported", visible(text.value));
                let mut known: Vec<&str> = names.iter().map(String::as_str).collect();
                suites::openssl_names().for_each(|name| known.push(name));
                let hint = reader.problems.did_you_mean(text.value, known.into_iter());
                let problem = Problem::error("bad-value", text.place, message);
                reader.push(problem.expected(format!("some of {}", names.join(", "))).hint_if(hint));
            }
        }
    }
    for (spoken, version, has) in [
        (tls12, "1.2", chosen.iter().any(|suite| suite.tls13().is_none())),
        (tls13, "1.3", chosen.iter().any(|suite| suite.tls13().is_some())),
    ] {
        if spoken && !has {
            let message = format!("`cipher_suites` has none for TLS {version}, which is spoken here");
            let problem = Problem::error("bad-value", list.place, message);
            reader
                .push(problem.expected(
                    "a suite for each version, or `min_protocol_version` / `max_protocol_version`",
                ));
        }
    }
    chosen
}

fn clients(reader: &mut Reader<'_>, table: &Table<'_>, optional: bool) -> Option<ClientPolicy> {
    reader.missing(
        table,
        "ca_certificates",
        "`ca_certificates = \"..\"`, a PEM file with the clients' authorities",
    );
    let roots = pem::path(reader, table, "ca_certificates").and_then(|named| roots(reader, &named));
    let (crls, revocation) = revocation(reader, table, "no client gets in");
    let details = client_match::details(reader, table);
    let without = "then every client of the authorities gets in";
    let names = names(reader, table, without);
    let [spki, certificates] =
        ["verify_certificate_spki", "verify_certificate_hash"].map(|key| pins(reader, table, key, without));
    if crls.is_none() && table.has("ca_crl") {
        return None;
    }
    Some(ClientPolicy { optional, roots: roots?, crls, revocation, names, spki, certificates, details })
}

/// The revocation lists and how they are used. `effect` is that of a list out of date.
pub(super) fn revocation(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    effect: &str,
) -> (Option<Arc<Crls>>, Revocation) {
    let list = pem::path(reader, table, "ca_crl");
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
    (list.and_then(|named| crls(reader, &named, revocation, effect)), revocation)
}

/// The authorities in a file, read once.
pub(super) fn roots(reader: &mut Reader<'_>, named: &Named) -> Option<Arc<Roots>> {
    if let Some(known) = reader.files.roots.get(&named.path) {
        return known.clone();
    }
    let roots = pem::read(reader, named, PEM_BYTES_MAX).and_then(|pem| {
        let problem = |reason: &str| {
            let message = format!("{} {reason}", named.shown());
            Problem::error("bad-file", named.place, message)
                .expected("PEM with the certificate of an authority")
        };
        match read_chain(&pem) {
            Ok(chain) => match Roots::new(&chain) {
                Ok(roots) => return Some(Arc::new(roots)),
                Err(reason) => reader.push(problem(&format!("holds no authorities: {reason}"))),
            },
            Err(fault) => reader.push(problem(fault.reason).hint_if(fault.hint.map(str::to_owned))),
        }
        None
    });
    reader.files.roots.insert(named.path.clone(), roots.clone());
    roots
}

/// The revocation lists in a file, read once.
fn crls(reader: &mut Reader<'_>, named: &Named, revocation: Revocation, effect: &str) -> Option<Arc<Crls>> {
    if let Some(known) = reader.files.crls.get(&named.path) {
        return known.clone();
    }
    let crls = pem::read(reader, named, CRL_BYTES_MAX).and_then(|pem| match Crls::read(&pem) {
        Ok(crls) => Some(Arc::new(crls)),
        Err(reason) => {
            let problem = Problem::error("bad-file", named.place, format!("{} {reason}", named.shown()));
            let der = pem.first() == Some(&0x30);
            let hint =
                der.then(|| "turn it into PEM: openssl crl -inform DER -in FILE -out FILE.pem".to_owned());
            reader.push(problem.expected("PEM with a certificate revocation list").hint_if(hint));
            None
        }
    });
    if let Some(next) = crls.as_ref().and_then(|crls| crls.next_update) {
        let late = pairs::now() - next;
        if late > 0 {
            let ago = pairs::days(late);
            let effect = if revocation.allow_expired { "it still counts" } else { effect };
            let message = format!("{} was to be renewed {ago} ago: {effect}", named.shown());
            let problem = Problem::warning("crl-expired", named.place, message);
            reader
                .push(problem.hint("fetch a new list; `crl_expired = \"ALLOW\"` takes an old one meanwhile"));
        }
    }
    reader.files.crls.insert(named.path.clone(), crls.clone());
    crls
}

/// Names of certificates: whole DNS names, URIs or e-mail addresses. `without` says what holds where there are none.
pub(super) fn names(reader: &mut Reader<'_>, table: &Table<'_>, without: &str) -> Vec<Box<str>> {
    let mut names = Vec::new();
    for text in reader.strings(table, "subject_alt_names", CLIENTS_MAX) {
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
