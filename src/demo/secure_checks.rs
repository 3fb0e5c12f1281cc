//! What `ringgate demo --once` sends to the ports for TLS and TCP, and what must come back.

use std::io;
use std::sync::Arc;

use rustls::{AlertDescription, ClientConfig, Error};

use super::checks::{Finding, judge, local};
use super::client::{Answer, SecureClient, echo};
use super::pki::Trust;
use super::{Entrances, MUTUAL, PASSED, SECURE};

/// One check: name, expectation, and how it is done.
type Check = (&'static str, &'static str, fn(Entrances, &Trust) -> Finding);

pub(super) const CHECKS: &[Check] = &[
    ("HTTPS", "200, X-Forwarded-Proto: https", |at, trust| {
        judge(&get(at, &trust.anonymous, SECURE, SECURE, "/echo")?, 200, |body| {
            body.to_ascii_lowercase().contains("\r\nx-forwarded-proto: https\r\n")
        })
    }),
    ("HTTPS, the session resumed", "200, resumed", |at, trust| {
        let mut resumed = false;
        for _ in 0..2 {
            let mut client = SecureClient::connect_secure(at.tls, SECURE, &trust.anonymous)?;
            let answer = client.exchange(&request(SECURE, "/"))?;
            if answer.status != 200 {
                return judge(&answer, 200, |_| true);
            }
            resumed = client.is_resumed();
        }
        Ok((if resumed { "200, resumed" } else { "200, a full handshake" }.to_owned(), resumed))
    }),
    ("MUTUAL, with a certificate", "200 backend a|b", |at, trust| {
        judge(&get(at, &trust.known, MUTUAL, MUTUAL, "/")?, 200, |body| body.starts_with("backend "))
    }),
    ("MUTUAL, without one", "refused: CertificateRequired", |at, trust| {
        refused(get(at, &trust.anonymous, MUTUAL, MUTUAL, "/"), AlertDescription::CertificateRequired)
    }),
    ("MUTUAL, by way of another host", "421 misdirected_request", |at, trust| {
        local(&get(at, &trust.known, SECURE, MUTUAL, "/")?, 421, "misdirected_request")
    }),
    ("PASSTHROUGH by SNI", "200 TLS service one", |at, trust| passed(at, trust, PASSED[0], "one")),
    ("PASSTHROUGH, another name", "200 TLS service two", |at, trust| passed(at, trust, PASSED[1], "two")),
    ("a name that is not served", "refused: UnrecognisedName", |at, trust| {
        let answer = get(at, &trust.anonymous, "nobody.localhost", "nobody.localhost", "/");
        refused(answer, AlertDescription::UnrecognisedName)
    }),
    ("TCP", "the bytes come back", |at, _| {
        let answer = echo(at.tcp, "round trip")?;
        let ok = answer == "round trip";
        Ok((answer, ok))
    }),
];

fn request(host: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

/// A request for `host` on a connection for `name`.
fn get(at: Entrances, config: &Arc<ClientConfig>, name: &str, host: &str, path: &str) -> io::Result<Answer> {
    SecureClient::connect_secure(at.tls, name, config)?.exchange(&request(host, path))
}

/// The service's own certificate was verified, or there would be no answer.
fn passed(at: Entrances, trust: &Trust, host: &str, name: &str) -> Finding {
    judge(&get(at, &trust.anonymous, host, host, "/")?, 200, |body| body == format!("TLS service {name}\n"))
}

/// Whether the gateway said why not, with this alert.
fn refused(answer: io::Result<Answer>, wanted: AlertDescription) -> Finding {
    let error = match answer {
        Ok(answer) => return Ok((format!("{}", answer.status), false)),
        Err(error) => error,
    };
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::AlertReceived(alert)) => Ok((format!("refused: {alert:?}"), *alert == wanted)),
        _ => Err(error.into()),
    }
}
