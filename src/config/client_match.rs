//! `client_certificate` of a `match` block, and `forward_client_certificate` of a server: what routes and endpoints learn
//! of a client's certificate.

use crate::config::diagnostic::{Problem, Problems, visible};
use crate::config::drafts::Drafts;
use crate::config::lower::Linked;
use crate::config::matching::{CheckLiteral, string_match};
use crate::config::model::{ClientMatch, HttpMatch, Protocol, Server, ServerTls, StringMatch, TlsMode};
use crate::config::schema;
use crate::config::tree::{At, Reader, Table};
use crate::tls::identity::CertDetail;

const DETAILS: [(&str, CertDetail); 5] = [
    ("SUBJECT", CertDetail::Subject),
    ("URI", CertDetail::Uri),
    ("DNS", CertDetail::Dns),
    ("CERT", CertDetail::Cert),
    ("CHAIN", CertDetail::Chain),
];

/// What endpoints learn unless told otherwise.
const DETAILS_DEFAULT: [CertDetail; 3] = [CertDetail::Subject, CertDetail::Uri, CertDetail::Dns];

/// What is passed on of clients' certificates.
pub(super) fn details(reader: &mut Reader<'_>, tls: &Table<'_>) -> Vec<CertDetail> {
    if !tls.has("forward_client_certificate") {
        return DETAILS_DEFAULT.to_vec();
    }
    let mut details = Vec::new();
    for text in reader.strings(tls, "forward_client_certificate", DETAILS.len()) {
        match DETAILS.iter().find(|(word, _)| *word == text.value) {
            Some((_, detail)) if details.contains(detail) => {
                let problem =
                    Problem::error("bad-value", text.place, format!("`{}` stands twice", text.value));
                reader.push(problem.hint("remove one"));
            }
            Some((_, detail)) => details.push(*detail),
            None => {
                let words = DETAILS.map(|(word, _)| word);
                let message = format!("`{}` is nothing that is passed on", visible(text.value));
                let hint = reader.problems.did_you_mean(text.value, words.into_iter());
                let problem = Problem::error("bad-value", text.place, message);
                reader.push(problem.expected(format!("some of {}", words.join(", "))).hint_if(hint));
            }
        }
    }
    details
}

/// What a block asks of the client's certificate.
pub(super) fn lower(reader: &mut Reader<'_>, block: &Table<'_>) -> Option<ClientMatch> {
    let table = reader.child(block, "client_certificate", &schema::CLIENT_MATCH)?;
    let present = reader.boolean(&table, "present");
    let mut text = |key: &str, check: CheckLiteral| {
        let table = reader.child(&table, key, &schema::STRING_MATCH)?;
        string_match(reader, &table, check)
    };
    let wanted = ClientMatch {
        present: present.unwrap_or(true),
        subject: text("subject", check_subject),
        uri: text("uri", |_, _| {}),
        dns: text("dns", check_dns).map(in_lower_case),
        email: text("email", |_, _| {}),
    };
    let names = ["subject", "uri", "dns", "email"];
    let asks = names.iter().find(|key| table.has(key));
    let place = reader.place(&table.span);
    if present == Some(false)
        && let Some(key) = asks
    {
        let message = format!("`{key}` of a certificate that is not to be there");
        let problem = Problem::error("bad-match", place, message);
        reader.push(problem.expected("`present = false` alone, or without it"));
    } else if present.is_none() && asks.is_none() && !names.iter().any(|key| table.means(key)) {
        let problem = Problem::error("bad-match", place, "`client_certificate` asks for nothing");
        reader.push(problem.expected("`present`, or some of `uri`, `dns`, `email`, `subject`"));
    }
    Some(wanted)
}

/// Warns of a subject in the forms that openssl prints it in unless told otherwise.
fn check_subject(reader: &mut Reader<'_>, text: At<&str>) {
    let value = text.value.strip_prefix("subject=").unwrap_or(text.value).trim();
    let separated = value.replace("\\, ", "").contains(", ");
    let parts: Vec<&str> = match value.strip_prefix('/') {
        Some(rest) => rest.split('/').collect(),
        None if separated || value.contains(" = ") || value != text.value => value.split(", ").collect(),
        None => return,
    };
    let right: Vec<String> = parts.iter().rev().map(|part| part.trim().replacen(" = ", "=", 1)).collect();
    let message = "no subject has this form: it is compared as RFC 4514 writes it, the last part first";
    let problem = Problem::warning("subject-form", text.place, message);
    reader.push(
        problem
            .expected(format!("`{}` perhaps", visible(&right.join(","))))
            .hint("`openssl x509 -noout -subject -nameopt RFC2253 -in FILE` shows it"),
    );
}

fn check_dns(reader: &mut Reader<'_>, text: At<&str>) {
    if !text.value.is_ascii() {
        let problem = Problem::error("bad-value", text.place, "DNS names of certificates are ASCII");
        reader.push(problem.expected("the name with its labels in Punycode (`xn--..`)"));
    }
}

/// DNS names are equal in any case (RFC 4343); those of certificates are compared in lower case.
fn in_lower_case(text: StringMatch) -> StringMatch {
    match text {
        StringMatch::Exact(text) => StringMatch::Exact(text.to_ascii_lowercase().into()),
        StringMatch::Prefix(text) => StringMatch::Prefix(text.to_ascii_lowercase().into()),
        regex @ StringMatch::Regex(_) => regex,
    }
}

/// Warns of rules that wait for certificates where no client is asked for one.
pub(super) fn check(drafts: &Drafts, linked: &[Linked], problems: &mut Problems) {
    if drafts.damaged {
        return;
    }
    let asks = |server: &Server| match &server.tls {
        Some(ServerTls::Terminate(terms)) => terms.mode != TlsMode::Simple,
        // One whose `tls` could not be read may ask.
        Some(ServerTls::Passthrough) => false,
        None => server.protocol == Protocol::Https,
    };
    for (draft, linked) in drafts.virtual_services.iter().zip(linked) {
        let mut gateways = linked.gateways.iter().filter_map(|gateway| drafts.gateways.get(*gateway));
        if linked.lost || gateways.any(|draft| draft.gateway.servers.iter().any(asks)) {
            continue;
        }
        for (route, rule) in draft.virtual_service.http.iter().zip(&draft.rules) {
            let wants = |block: &HttpMatch| block.client.as_ref().is_some_and(|client| client.present);
            if !rule.broken && route.matches.iter().any(wants) {
                let message = "the rule asks for a client certificate, and no server of its gateways does";
                let problem = Problem::warning("no-client-certificates", rule.place, message);
                problems.push(problem.expected("a server with `mode = \"MUTUAL\"` or `\"OPTIONAL_MUTUAL\"`"));
            }
        }
    }
}
