//! The requests that `ringgate demo --once` sends through the gateway, and what must come back.

use std::fmt;
use std::net::SocketAddr;

use super::client::{Answer, Client, web_socket};
use super::pki::Trust;
use super::{Entrances, Failure, secure_checks};

/// The outcome of one check.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outcome {
    /// What was tried.
    pub name: &'static str,
    /// What must come back.
    pub expected: &'static str,
    /// What did.
    pub got: String,
    /// Whether they agree.
    pub ok: bool,
}

/// Outcomes as an aligned table with a closing line.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Report(pub Vec<Outcome>);

impl Report {
    /// Whether everything came back as it must.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.0.iter().all(|outcome| outcome.ok)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |of: fn(&Outcome) -> &str, head: &str| {
            self.0.iter().map(|outcome| of(outcome).chars().count()).max().unwrap_or_default().max(head.len())
        };
        let name = width(|outcome| outcome.name, "check");
        let expected = width(|outcome| outcome.expected, "expected");
        let got = width(|outcome| &outcome.got, "got");
        writeln!(f, "  {:name$}  {:expected$}  {:got$}  result", "check", "expected", "got")?;
        for outcome in &self.0 {
            let result = if outcome.ok { "ok" } else { "FAILED" };
            let Outcome { name: n, expected: e, got: g, .. } = outcome;
            writeln!(f, "  {n:name$}  {e:expected$}  {g:got$}  {result}")?;
        }
        let failed = self.0.iter().filter(|outcome| !outcome.ok).count();
        writeln!(f, "\n{} of {} as expected", self.0.len() - failed, self.0.len())
    }
}

/// What a check finds: a short text and whether it is what must be.
pub(super) type Finding = Result<(String, bool), Failure>;

/// One check: name, expectation, and how it is done.
type Check = (&'static str, &'static str, fn(SocketAddr) -> Finding);

const CHECKS: &[Check] = &[
    ("route by host", "200 backend a|b", |to| {
        judge(&get(to, "demo.localhost", "/", "")?, 200, |body| body.starts_with("backend "))
    }),
    ("any other host", "200 backend a|b", |to| {
        judge(&get(to, "elsewhere.test", "/", "")?, 200, |body| body.starts_with("backend "))
    }),
    ("route by header", "200 backend b, always", canary),
    ("weights 75 : 25", "both backends, a more often", weights),
    ("the client's address", "200, X-Forwarded-For: 127.0.0.1", |to| {
        let answer = get(to, "demo.localhost", "/echo", "X-Forwarded-For: 192.0.2.1\r\n")?;
        judge(&answer, 200, |body| body.to_ascii_lowercase().contains("\r\nx-forwarded-for: 127.0.0.1\r\n"))
    }),
    ("chunked request body", "200, the same body", |to| {
        let request = "POST /echo HTTP/1.1\r\nHost: demo.localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
                       5\r\nhello\r\n7\r\n, world\r\n0\r\n\r\n";
        judge(&Client::connect(to)?.exchange(request)?, 200, |body| body.ends_with("hello, world"))
    }),
    ("one normal form of paths", "200, GET /echo upstream", |to| {
        let answer = get(to, "demo.localhost", "/x/../%65cho", "")?;
        judge(&answer, 200, |body| body.starts_with("GET /echo HTTP/1.1\r\n"))
    }),
    ("escaped slash", "400 escaped_slash", |to| {
        local(&get(to, "demo.localhost", "/echo%2Fx", "")?, 400, "escaped_slash")
    }),
    ("keep-alive", "3 x 200 on one connection", keep_alive),
    ("streamed response", "200, 5 lines", |to| {
        judge(&get(to, "demo.localhost", "/stream", "")?, 200, |body| body.lines().count() == 5)
    }),
    ("WebSocket", "the message comes back", |to| {
        let answer = web_socket(to, "demo.localhost", "/ws", "round trip")?;
        let ok = answer == "round trip";
        Ok((answer, ok))
    }),
    ("slow backend", "200", |to| judge(&get(to, "demo.localhost", "/slow", "")?, 200, |_| true)),
    ("backend says 500", "500 passes", |to| {
        judge(&get(to, "demo.localhost", "/fail/500", "")?, 500, |body| body == "500 from the backend\n")
    }),
    ("backend hangs up", "502", |to| judge(&get(to, "demo.localhost", "/fail/close", "")?, 502, |_| true)),
    ("backend talks nonsense", "502", |to| {
        judge(&get(to, "demo.localhost", "/fail/garbage", "")?, 502, |_| true)
    }),
    ("body stops midway", "200, told incomplete", |to| cut(&get(to, "demo.localhost", "/fail/cut", "")?)),
    ("body ends by reset", "200, told incomplete", |to| cut(&get(to, "demo.localhost", "/fail/reset", "")?)),
    ("no route", "404 no_route", |to| local(&get(to, "demo.localhost", "/nothing", "")?, 404, "no_route")),
    ("two framings at once", "400 length_and_chunked", |to| {
        let request = "POST /echo HTTP/1.1\r\nHost: demo.localhost\r\nContent-Length: 5\r\n\
                       Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        local(&Client::connect(to)?.exchange(request)?, 400, "length_and_chunked")
    }),
];

/// Runs every check against a gateway.
#[must_use]
pub fn run(at: Entrances, trust: &Trust) -> Report {
    let outcome = |name, expected, finding: Finding| {
        let (got, ok) = finding.unwrap_or_else(|error| (format!("error: {error}"), false));
        Outcome { name, expected, got, ok }
    };
    let plain = CHECKS.iter().map(|(name, expected, check)| outcome(name, expected, check(at.http)));
    let secure = secure_checks::CHECKS.iter();
    let secure = secure.map(|(name, expected, check)| outcome(name, expected, check(at, trust)));
    Report(plain.chain(secure).collect())
}

fn get(to: SocketAddr, host: &str, path: &str, headers: &str) -> Result<Answer, Failure> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n");
    Ok(Client::connect(to)?.exchange(&request)?)
}

/// The status and the first line of a short body.
fn summary(answer: &Answer) -> String {
    let line = answer.body.lines().next().unwrap_or_default();
    let short: String = line.chars().take(60).collect();
    format!("{} {short}", answer.status).trim_end().to_owned()
}

pub(super) fn judge(answer: &Answer, status: u16, body: impl FnOnce(&str) -> bool) -> Finding {
    Ok((summary(answer), answer.complete && answer.status == status && body(&answer.body)))
}

/// Whether the answer is the gateway's own, with this reason code.
pub(super) fn local(answer: &Answer, status: u16, reason: &str) -> Finding {
    judge(answer, status, |body| body.trim_end().ends_with(&format!(": {reason}")))
}

fn cut(answer: &Answer) -> Finding {
    let told = if answer.complete { "taken for complete" } else { "told incomplete" };
    Ok((format!("{}, {told}", answer.status), answer.status == 200 && !answer.complete))
}

fn keep_alive(to: SocketAddr) -> Finding {
    let mut client = Client::connect(to)?;
    let mut served = 0;
    for _ in 0..3 {
        let answer = client.exchange("GET / HTTP/1.1\r\nHost: demo.localhost\r\n\r\n")?;
        served += usize::from(answer.complete && answer.status == 200);
    }
    Ok((format!("{served} x 200"), served == 3))
}

fn canary(to: SocketAddr) -> Finding {
    for _ in 0..8 {
        let answer = get(to, "demo.localhost", "/", "X-Canary: yes\r\n")?;
        if answer.status != 200 || answer.body != "backend b\n" {
            return Ok((summary(&answer), false));
        }
    }
    Ok(("8 x backend b".into(), true))
}

/// Of 200 requests with weights of 75 : 25, `a` gets most and `b` some; even where the choice is random, another
/// outcome is rarer than one in 10^14.
fn weights(to: SocketAddr) -> Finding {
    let (mut a, mut b) = (0, 0);
    let mut client = Client::connect(to)?;
    for _ in 0..200 {
        match client.exchange("GET / HTTP/1.1\r\nHost: demo.localhost\r\n\r\n")?.body.as_str() {
            "backend a\n" => a += 1,
            "backend b\n" => b += 1,
            other => return Ok((other.to_owned(), false)),
        }
    }
    Ok((format!("{a} : {b}"), a > b && b > 0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::demo::Site;
    use crate::demo::backend::Backend;

    /// The checks that do not depend on a gateway's doing hold against a backend alone, and only those.
    #[test]
    fn a_bare_backend_passes_what_needs_no_gateway() {
        let bare = Backend::start("b").unwrap().address();
        let trust = Site::start().unwrap().trust().unwrap();
        // Nobody listens there.
        let nobody = Entrances::find(0).unwrap();
        let report = run(Entrances { http: bare, ..nobody }, &trust);
        let failed: Vec<_> =
            report.0.iter().filter(|outcome| !outcome.ok).map(|outcome| outcome.name).collect();
        assert_eq!(
            failed,
            [
                "weights 75 : 25",
                "the client's address",
                "one normal form of paths",
                "escaped slash",
                "backend hangs up",
                "backend talks nonsense",
                "no route",
                "two framings at once",
                "HTTPS",
                "HTTPS, the session resumed",
                "MUTUAL, with a certificate",
                "MUTUAL, without one",
                "MUTUAL, by way of another host",
                "PASSTHROUGH by SNI",
                "PASSTHROUGH, another name",
                "a name that is not served",
                "TCP",
            ],
            "{report}"
        );
    }

    /// The longest reason codes stay whole.
    #[test]
    fn reasons_are_not_cut() {
        let body = "502 Bad Gateway: upstream_bad_transfer_encoding\n";
        let shown = summary(&Answer { status: 502, body: body.into(), complete: true });
        assert_eq!(shown, format!("502 {}", body.trim_end()));
    }

    #[test]
    fn the_report_is_aligned() {
        let row = |name, got: &str, ok| Outcome { name, expected: "200", got: got.into(), ok };
        let report = Report(vec![row("a", "200 x", true), row("longer", "5", false)]);
        assert_eq!(
            report.to_string(),
            "  check   expected  got    result\n  a       200       200 x  ok\n  \
             longer  200       5      FAILED\n\n1 of 2 as expected\n"
        );
    }
}
