//! `tls` of a traffic policy, of a service or a subset: from its keys and the files they name to [`UpstreamTls`].
//!
//! Endpoints are verified unless the operator says otherwise in so many words. The authorities of this host are read only
//! where a policy needs them.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::pki_types::{DnsName, ServerName};

use crate::config::clients::{Lists, names, revocation, roots, warn_of_foreign_lists};
use crate::config::diagnostic::{Problem, visible};
use crate::config::model::UpstreamTls;
use crate::config::pairs;
use crate::config::pairs::Choice;
use crate::config::pem;
use crate::config::pem::Named;
use crate::config::schema;
use crate::config::tls::{cipher_suites, versions};
use crate::config::tree::{Reader, Table};
use crate::tls::clients::Roots;
use crate::tls::origination::{ServerPolicy, Wanted};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mode {
    Disable,
    Mutual,
    Simple,
}

const MODES: [(&str, Mode); 3] =
    [("DISABLE", Mode::Disable), ("SIMPLE", Mode::Simple), ("MUTUAL", Mode::Mutual)];

/// Keys on whose certificate is good.
const KEYS_OF_TRUST: [&str; 6] =
    ["ca_certificates", "ca_crl", "crl_depth", "crl_unknown_status", "crl_expired", "subject_alt_names"];

/// Lowers the `tls` table of a traffic policy; `None` where there is none. The inner `None` is no TLS, or an error.
pub(super) fn lower(reader: &mut Reader<'_>, policy: &Table<'_>) -> Option<Option<Arc<UpstreamTls>>> {
    let table = reader.child(policy, "tls", &schema::UPSTREAM_TLS)?;
    reader.missing(&table, "mode", "`mode = \"SIMPLE\"`, `\"MUTUAL\"` or `\"DISABLE\"`");
    let mode = reader.word(&table, "mode", &MODES, &["ISTIO_MUTUAL"]);
    Some(mode.and_then(|mode| match mode {
        Mode::Disable => {
            disabled(reader, &table);
            None
        }
        Mode::Simple | Mode::Mutual => enabled(reader, &table, mode),
    }))
}

fn disabled(reader: &mut Reader<'_>, table: &Table<'_>) {
    for key in schema::UPSTREAM_TLS.keys.iter().filter(|key| **key != "mode") {
        refuse(reader, table, key, "means nothing with mode DISABLE", "`mode = \"SIMPLE\"` or `\"MUTUAL\"`");
    }
}

/// Refuses a key that does not go with the others.
fn refuse(reader: &mut Reader<'_>, table: &Table<'_>, key: &str, why: &str, instead: &str) {
    if let Some(value) = reader.any(table, key) {
        let problem = Problem::error("misplaced-key", value.place, format!("`{key}` {why}"));
        reader.push(problem.expected(format!("{instead}, or no such key")));
    }
}

/// Whom to trust, and the files that say so.
struct Trust {
    policy: ServerPolicy,
    ca: Option<Named>,
    crl: Option<Named>,
}

fn enabled(reader: &mut Reader<'_>, table: &Table<'_>, mode: Mode) -> Option<Arc<UpstreamTls>> {
    let errors_before = reader.problems.errors();
    let identity = match mode {
        Mode::Mutual => pairs::read_client(reader, table),
        _ => {
            for key in ["client_certificate", "private_key"] {
                refuse(reader, table, key, "means nothing with mode SIMPLE", "`mode = \"MUTUAL\"`");
            }
            None
        }
    };
    let sni = sni(reader, table);
    let trust = if reader.boolean(table, "insecure_skip_verify") == Some(true) {
        unverified(reader, table);
        None
    } else {
        trust(reader, table)
    };
    let (tls12, tls13) = versions(reader, table);
    let suites = cipher_suites(reader, table, tls12, tls13);
    if reader.problems.errors() > errors_before || reader.files.unread {
        return None;
    }
    let wanted = Wanted { servers: None, identity: None, sni, tls12, tls13, suites };
    compile(reader, table, wanted, identity, trust)
}

/// Compiles the settings. Where new files do not work together, what was in use of them stays; which of them is to blame
/// is found by trying.
fn compile(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    mut wanted: Wanted,
    mut identity: Option<Choice>,
    mut trust: Option<Trust>,
) -> Option<Arc<UpstreamTls>> {
    let older_pair = identity.as_ref().and_then(|choice| choice.before.clone());
    let older_lists = trust.as_ref().and_then(|trust| {
        let used = reader.files.before.crls.get(&trust.crl.as_ref()?.path)?;
        let fresh = trust.policy.crls.as_ref()?;
        (used.source != fresh.source).then(|| Arc::clone(used))
    });
    let mut problem: Option<Problem> = None;
    for (pair, lists) in [(false, false), (false, true), (true, false), (true, true)] {
        if pair && older_pair.is_none() || lists && older_lists.is_none() {
            continue;
        }
        let fresh = || identity.as_ref().map(|choice| choice.pair.clone());
        wanted.identity = if pair { older_pair.clone() } else { fresh() };
        wanted.servers = trust.as_ref().map(|trust| trust.policy.clone());
        if let (true, Some(policy)) = (lists, &mut wanted.servers) {
            policy.crls.clone_from(&older_lists);
        }
        let settings = match reader.files.originations.compile(&wanted) {
            Ok(settings) => settings,
            Err(reason) => {
                let message = format!("these TLS settings do not work: {reason}");
                problem.get_or_insert_with(|| Problem::error("bad-tls", reader.place(&table.span), message));
                continue;
            }
        };
        if let Some(problem) = problem {
            if let (true, Some(choice), Some(before)) = (pair, &mut identity, older_pair) {
                reader.push(pairs::kept(problem.clone(), &before));
                choice.pair = before;
            }
            if let (true, Some(trust)) = (lists, &mut trust) {
                trust.policy.crls = older_lists;
                reader.push(problem.kept("crl-kept", "the lists before stay in use"));
            }
        }
        take_down(reader, identity, trust);
        return Some(settings);
    }
    reader.problems.extend(problem);
    None
}

/// Takes down what is in use of which files, for the next load.
fn take_down(reader: &mut Reader<'_>, identity: Option<Choice>, trust: Option<Trust>) {
    let made = &mut reader.files.made;
    if let Some(Choice { pair, paths, .. }) = identity {
        made.use_pair(&paths, &pair);
    }
    let Some(Trust { policy, ca, crl }) = trust else { return };
    if let Some(ca) = ca {
        made.roots.insert(ca.path, policy.roots);
    }
    if let (Some(crl), Some(crls)) = (crl, policy.crls) {
        made.crls.insert(crl.path, crls);
    }
}

fn sni(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<ServerName<'static>> {
    let text = reader.string(table, "sni")?;
    let name = text.value.strip_suffix('.').unwrap_or(text.value);
    if name.parse::<IpAddr>().is_err()
        && let Ok(name) = DnsName::try_from(name.to_ascii_lowercase())
    {
        return Some(ServerName::DnsName(name));
    }
    let message = format!("`{}` is no DNS name", visible(text.value));
    let problem = Problem::error("bad-value", text.place, message);
    let hint = "without `sni` none is sent, and certificates must be for the endpoints' addresses";
    reader.push(problem.expected("a name such as `api.example.com`").hint(hint));
    None
}

fn unverified(reader: &mut Reader<'_>, table: &Table<'_>) {
    for key in KEYS_OF_TRUST {
        refuse(
            reader,
            table,
            key,
            "means nothing with `insecure_skip_verify`: no certificate is looked at",
            "`insecure_skip_verify = false`",
        );
    }
    if let Some(value) = reader.any(table, "insecure_skip_verify") {
        let message = "whoever answers at an endpoint's address is taken for it";
        let problem = Problem::warning("unverified-endpoints", value.place, message);
        reader.push(problem.hint("`ca_certificates` with the authority of the endpoints says whom to trust"));
    }
}

fn trust(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<Trust> {
    let ca = pem::path(reader, table, "ca_certificates").filter(|_| !reader.files.unread);
    let roots = match &ca {
        Some(named) => roots(reader, named),
        None if table.has("ca_certificates") || reader.files.unread => None,
        None => system_roots(reader, table),
    };
    let Lists { crl, crls, revocation } = revocation(reader, table, "no endpoint is trusted");
    warn_of_foreign_lists(reader, ca.as_ref().zip(roots.as_deref()), &crl, crls.as_deref(), revocation);
    let names = names(reader, table, "then certificates must be for `sni`, or the endpoints' addresses");
    Some(Trust { policy: ServerPolicy { roots: roots?, crls, revocation, names }, ca, crl })
}

fn system_roots(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<Arc<Roots>> {
    match reader.files.system_roots() {
        Ok(roots) => Some(roots),
        Err(reason) => {
            let message = format!("this host has no authorities to verify endpoints with: {reason}");
            let problem = Problem::error("no-authorities", reader.place(&table.span), message);
            let expected = "`ca_certificates = \"..\"`, a PEM file with the endpoints' authorities";
            reader.push(problem.expected(expected).hint("or install them: the package ca-certificates"));
            None
        }
    }
}
