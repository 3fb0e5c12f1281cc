//! `tls` of a server: from its keys and the files they name to [`ServerTls`].
//!
//! Certificates, keys and lists are read here, so that every problem with them has a place in the configuration. What
//! they are worth is judged by [`crate::tls`]. Nothing of a private key ever stands in a message.

use std::path::Path;
use std::sync::Arc;

use crate::config::clients::{self, Clients};
use crate::config::diagnostic::{Problem, visible};
use crate::config::drafts::HostAt;
use crate::config::effective::{FileKind, UsedFile};
use crate::config::host::show;
use crate::config::https;
use crate::config::model::{Protocol, ServerTls, TlsTerms};
use crate::config::pairs::{self, Choice};
use crate::config::schema;
use crate::config::tree::{Reader, Table};
use crate::tls::about::About;
use crate::tls::clients::Roots;
use crate::tls::suites;
use crate::tls::terms::Wanted;
use rustls::SupportedCipherSuite;

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
        let simple = "`tls = { mode = \"SIMPLE\", server_certificate = \"..\", private_key = \"..\" }`";
        let passed = format!("{simple}, or `tls = {{ mode = \"PASSTHROUGH\" }}`");
        reader.missing(server, "tls", if protocol == Protocol::Tls { &passed } else { simple });
    }
    let Some(table) = reader.child(server, "tls", &schema::SERVER_TLS) else { return Said::default() };
    let https_redirect = https::redirect(reader, &table, protocol);
    if !has_tls {
        let is_about = |key| table.has(key) || table.means(key);
        if protocol == Protocol::Http && (is_about("https_redirect") || is_about("https_redirect_port")) {
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
            let clients = clients::lower(reader, table, mode == Mode::OptionalMutual);
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
    clients: Option<Clients>,
) -> Option<ServerTls> {
    let errors_before = reader.problems.errors();
    let choices = pairs::read(reader, table, hosts);
    let (tls12, tls13) = versions(reader, table);
    let suites = cipher_suites(reader, table, tls12, tls13);
    // HTTP/1.0 is what old scripts and `curl -0` offer.
    let alpn: Vec<&'static [u8]> =
        if protocol == Protocol::Https { vec![b"http/1.1", b"http/1.0"] } else { Vec::new() };
    if reader.problems.errors() > errors_before || choices.is_empty() {
        return None;
    }
    let wanted = Wanted { pairs: Vec::new(), clients: None, tls12, tls13, suites, alpn };
    compile(reader, table, hosts, wanted, choices, clients)
}

/// Compiles the terms. Where new files do not work together, what was in use of them stays; which of them is to blame is
/// found by trying.
fn compile(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    hosts: &[HostAt],
    mut wanted: Wanted,
    mut choices: Vec<Choice>,
    mut clients: Option<Clients>,
) -> Option<ServerTls> {
    let has_older = choices.iter().any(|choice| choice.before.is_some());
    let older_crls = clients.as_ref().and_then(|clients| clients.older_crls.clone());
    let mut problem: Option<Problem> = None;
    for (older_pairs, older) in [(false, false), (false, true), (true, false), (true, true)] {
        if older_pairs && !has_older || older && older_crls.is_none() {
            continue;
        }
        let pair = |choice: &Choice| {
            choice.before.clone().filter(|_| older_pairs).unwrap_or_else(|| choice.pair.clone())
        };
        wanted.pairs = choices.iter().map(pair).collect();
        wanted.clients = clients.as_ref().map(|clients| clients.policy.clone());
        if let (true, Some(policy)) = (older, &mut wanted.clients) {
            policy.crls.clone_from(&older_crls);
        }
        let terms = match work(reader, table, &wanted) {
            Ok(terms) => terms,
            Err(reason) => {
                problem.get_or_insert(reason);
                continue;
            }
        };
        if let Some(problem) = problem {
            let reason: Arc<str> = problem.message().into();
            for choice in choices.iter_mut().filter(|_| older_pairs) {
                let Some(before) = choice.before.take() else { continue };
                choice.kept = Some(Arc::clone(&reason));
                reader.push(pairs::kept(problem.clone(), &before));
                choice.pair = before;
            }
            if let (true, Some(Clients { policy, crl: Some(crl), .. })) = (older, &mut clients) {
                policy.crls = older_crls;
                reader.files.kept.insert(crl.path.clone(), reason);
                reader.push(problem.kept("crl-kept", "the lists before stay in use"));
            }
        }
        list_files(reader, hosts, choices, clients);
        return Some(ServerTls::Terminate(terms));
    }
    reader.problems.extend(problem);
    None
}

/// Makes terms of what is wanted, or says why they do not work.
fn work(reader: &mut Reader<'_>, table: &Table<'_>, wanted: &Wanted) -> Result<Arc<TlsTerms>, Problem> {
    let Wanted { pairs, suites, tls12, .. } = wanted;
    pairs::check_kinds(reader, table, pairs)?;
    if *tls12 && !pairs.iter().any(|pair| suites.iter().any(|suite| pair.signs(suite))) {
        let place =
            reader.any(table, "cipher_suites").map_or_else(|| reader.place(&table.span), |value| value.place);
        let message = "no suite for TLS 1.2 goes with the kind of key of the certificate";
        let problem = Problem::error("bad-value", place, message);
        let hint = "`ECDHE_ECDSA` needs an ECDSA or Ed25519 key, `ECDHE_RSA` an RSA key";
        return Err(problem.expected("a suite for it, or `min_protocol_version = \"TLSV1_3\"`").hint(hint));
    }
    reader.files.compiler.compile(wanted).map_err(|reason| {
        let message = format!("these TLS settings do not work: {reason}");
        Problem::error("bad-tls", reader.place(&table.span), message)
    })
}

/// Takes down which files the server uses.
fn list_files(reader: &mut Reader<'_>, hosts: &[HostAt], choices: Vec<Choice>, clients: Option<Clients>) {
    let hosts: Arc<[String]> = hosts.iter().map(|host| show(&host.value)).collect();
    let file = |kind, path: &Path, digest, about: &Arc<About>, kept| UsedFile {
        gateway: Arc::from(""),
        server: 0,
        hosts: Arc::clone(&hosts),
        kind,
        path: path.to_owned(),
        digest,
        about: Arc::clone(about),
        kept,
    };
    let files = &mut *reader.files;
    for Choice { pair, kept, certificate, paths, .. } in choices {
        files.made.use_pair(&paths, &pair);
        files.used.push(file(FileKind::Certificate, &certificate.path, pair.digest, &pair.about, kept));
    }
    let Some(Clients { policy, ca, crl, .. }) = clients else { return };
    let kept = files.kept.get(&ca.path).cloned();
    let Roots { digest, about, .. } = &*policy.roots;
    files.used.push(file(FileKind::Authorities, &ca.path, *digest, about, kept));
    files.made.roots.insert(ca.path, Arc::clone(&policy.roots));
    if let (Some(crl), Some(crls)) = (crl, policy.crls) {
        let kept = files.kept.get(&crl.path).cloned();
        files.used.push(file(FileKind::RevocationLists, &crl.path, crls.source, &crls.about, kept));
        files.made.crls.insert(crl.path, crls);
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
    let mut unknown = false;
    let names: Vec<String> = suites::all().into_iter().map(suites::name).collect();
    for text in reader.strings(table, "cipher_suites", 100) {
        match suites::by_name(text.value) {
            Some(suite) if of_versions(&suite) => chosen.push(suite),
            Some(_) => {
                let message = format!("`{}` belongs to a TLS version that is not spoken here", text.value);
                reader.push(Problem::error("bad-value", text.place, message).hint("remove it"));
            }
            None => {
                unknown = true;
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
        // A misspelt one may be for it.
        if spoken && !has && !unknown {
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
