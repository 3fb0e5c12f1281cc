//! `tls` of a traffic policy, of a service or a subset: from its keys and the files they name to [`UpstreamTls`].
//!
//! Endpoints are verified unless the operator says otherwise in so many words. The authorities of this host are read only
//! where a policy needs them.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::pki_types::{DnsName, ServerName};

use crate::config::diagnostic::{Problem, visible};
use crate::config::model::UpstreamTls;
use crate::config::pairs;
use crate::config::pem;
use crate::config::schema;
use crate::config::tls::{cipher_suites, names, revocation, roots, versions};
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
    let servers = if reader.boolean(table, "insecure_skip_verify") == Some(true) {
        unverified(reader, table);
        None
    } else {
        servers(reader, table)
    };
    let (tls12, tls13) = versions(reader, table);
    let suites = cipher_suites(reader, table, tls12, tls13);
    if reader.problems.errors() > errors_before {
        return None;
    }
    let wanted = Wanted { servers, identity, sni, tls12, tls13, suites };
    match reader.files.originations.compile(&wanted) {
        Ok(settings) => Some(settings),
        Err(reason) => {
            let message = format!("these TLS settings do not work: {reason}");
            reader.push(Problem::error("bad-tls", reader.place(&table.span), message));
            None
        }
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

fn servers(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<ServerPolicy> {
    let roots = if table.has("ca_certificates") {
        pem::path(reader, table, "ca_certificates").and_then(|named| roots(reader, &named))
    } else {
        system_roots(reader, table)
    };
    let (crls, revocation) = revocation(reader, table, "no endpoint is trusted");
    let names = names(reader, table, "then certificates must be for `sni`, or the endpoints' addresses");
    Some(ServerPolicy { roots: roots?, crls, revocation, names })
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
