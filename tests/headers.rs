//! Fields that are passed on, dropped, replaced (RFC 9110 sections 7.6 and 7.8), and whose forwarding fields are
//! believed.

use crate::support::config;
use crate::support::wire::Request;
use crate::support::{Backend, Gateway};

const TRUST: &str = "trusted_proxies = [\"127.0.0.0/8\"]";
const OTHERS: &str = "trusted_proxies = [\"192.0.2.0/24\", \"2001:db8::/32\"]";

/// What a backend receives of a `GET /` with these lines.
fn received(gateway: &Gateway, backend: &Backend, lines: &str) -> Request {
    let mut client = gateway.connect();
    client.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n"));
    assert_eq!(client.response("GET").status, 200);
    backend.requests().pop().unwrap()
}

both_drivers! {
    /// Fields that concern one hop stay on it, in both directions, and so do those that `Connection` names.
    fn hop_by_hop_fields_are_dropped(driver) {
        let backend = Backend::start(|conn| {
            while conn.request().is_some() {
                conn.send(
                    "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Own\r\nKeep-Alive: timeout=5\r\nX-Own: hop\r\n\
                     Proxy-Connection: keep-alive\r\nProxy-Authenticate: Basic\r\nUpgrade: h2c\r\nX-Kept: yes\r\n\
                     Content-Length: 2\r\n\r\nok",
                );
            }
        });
        let gateway = Gateway::single(driver, &backend);
        let mut client = gateway.connect();
        client.send(
            "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: keep-alive, X-Mine\r\nconnection: x-other\r\nKeep-Alive: 5\r\n\
             X-Mine: hop\r\nX-Other: hop\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic eDp5\r\nTE: gzip\r\n\
             X-Kept: yes\r\n\r\n",
        );
        let response = client.response("GET");
        let request = backend.only_request();
        for name in ["connection", "keep-alive", "proxy-connection", "x-mine", "x-other", "te", "proxy-authorization"] {
            assert!(!request.headers.has(name), "{name} went upstream: {request:?}");
        }
        for name in ["connection", "keep-alive", "x-own", "proxy-connection", "proxy-authenticate", "upgrade"] {
            assert!(!response.headers.has(name), "{name} came down: {response:?}");
        }
        assert_eq!((request.headers.get("x-kept"), response.headers.get("x-kept")), (Some("yes"), Some("yes")));
    }

    /// `Connection` cannot be used to take away what the backend relies on.
    fn protected_fields_cannot_be_nominated(driver) {
        let backend = Backend::fixed("ok");
        let gateway = Gateway::single(driver, &backend);
        let request = received(
            &gateway,
            &backend,
            "Connection: close, host, authorization, cookie, x-forwarded-for, x-forwarded-proto, x-forwarded-host, via, \
             x-request-id, content-length\r\nAuthorization: Bearer t\r\nCookie: a=b\r\n",
        );
        for name in ["host", "authorization", "x-forwarded-for", "x-forwarded-proto", "x-request-id", "via"] {
            assert!(request.headers.has(name), "{name} was taken away: {request:?}");
        }
    }

    /// All other fields pass in order, repeated ones and odd values included.
    fn end_to_end_fields_pass(driver) {
        let backend = Backend::start(|conn| {
            while conn.request().is_some() {
                conn.send(
                    "HTTP/1.1 200 Fine\r\nSet-Cookie: a=1\r\nsErVeR: origin\r\nSet-Cookie: b=2\r\nX-Empty:\r\n\
                     X-Latin: \u{e9}\r\nContent-Length: 0\r\n\r\n",
                );
            }
        });
        let gateway = Gateway::single(driver, &backend);
        let mut client = gateway.connect();
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\nX-B: 1\r\nx-a:  2 \r\nX-B: 3\r\nX-Empty:\r\nUser_Agent: x\r\n\r\n");
        let response = client.response("GET");
        let pass = |fields: &[(String, String)], names: &[&str]| -> Vec<String> {
            let kept = fields.iter().filter(|(name, _)| names.contains(&name.as_str()));
            kept.map(|(name, value)| format!("{name}={value}")).collect()
        };
        let request = backend.only_request();
        assert_eq!(
            pass(&request.headers.0, &["X-B", "x-a", "X-Empty", "User_Agent"]),
            ["X-B=1", "x-a=2", "X-B=3", "X-Empty=", "User_Agent=x"]
        );
        assert_eq!(
            pass(&response.headers.0, &["Set-Cookie", "sErVeR", "X-Empty"]),
            ["Set-Cookie=a=1", "sErVeR=origin", "Set-Cookie=b=2", "X-Empty="]
        );
        assert_eq!((response.status, response.reason.as_str()), (200, "Fine"));
        assert_eq!(response.headers.get("x-latin").map(str::len), Some("\u{c3}\u{a9}".len()), "bytes as they are");
    }

    /// An unknown client's claims about where a request came from are replaced by what is known.
    fn an_untrusted_client_is_not_believed(driver) {
        for keys in ["", OTHERS] {
            let backend = Backend::fixed("ok");
            let gateway = Gateway::start(driver, &config::single(backend.address(), keys, ""));
            let request = received(
                &gateway,
                &backend,
                "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.test\r\nX-Forwarded-Port: 1\r\n\
                 X-Real-IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nVia: 1.1 evil\r\nX-Request-Id: evil\r\nX_Forwarded_For: 6.6.6.6\r\n\
                 X-Forwarded-Client-Cert: Hash=0\r\nX_Forwarded_Client_Cert: Hash=0\r\n",
            );
            let get = |name: &str| request.headers.get(name);
            assert_eq!(get("x-forwarded-for"), Some("127.0.0.1"));
            assert_eq!(get("x-forwarded-proto"), Some("http"));
            assert_eq!(get("x-forwarded-host"), Some("a.test"));
            assert_eq!(get("via"), Some("1.1 ringgate"));
            assert_eq!((get("x-forwarded-port"), get("x-real-ip"), get("forwarded"), get("x_forwarded_for")), (None, None, None, None));
            assert_eq!((get("x-forwarded-client-cert"), get("x_forwarded_client_cert")), (None, None));
            assert!(get("x-request-id").is_some_and(|id| id != "evil" && id.len() >= 16), "{request:?}");
        }
    }

    /// A trusted proxy's are continued.
    fn a_trusted_proxy_is_believed(driver) {
        let backend = Backend::fixed("ok");
        let gateway = Gateway::start(driver, &config::single(backend.address(), TRUST, ""));
        let request = received(
            &gateway,
            &backend,
            "X-Forwarded-For: 192.0.2.9\r\nX-Forwarded-For: 192.0.2.8\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: www.test\r\n\
             X-Forwarded-Port: 443\r\nX-Real-IP: 192.0.2.9\r\nForwarded: for=192.0.2.9\r\nVia: 2 edge\r\nX-Request-Id: id-1\r\n",
        );
        let get = |name: &str| request.headers.get(name);
        assert_eq!(get("x-forwarded-for"), Some("192.0.2.9, 192.0.2.8, 127.0.0.1"));
        assert_eq!((get("x-forwarded-proto"), get("x-forwarded-host")), (Some("https"), Some("www.test")));
        assert_eq!((get("x-forwarded-port"), get("x-real-ip")), (Some("443"), Some("192.0.2.9")));
        assert_eq!((get("forwarded"), get("via")), (Some("for=192.0.2.9"), Some("2 edge, 1.1 ringgate")));
        assert_eq!(get("x-request-id"), Some("id-1"));
        let request = received(&gateway, &backend, "");
        assert_eq!(request.headers.get("x-forwarded-for"), Some("127.0.0.1"));
        assert_eq!(request.headers.get("x-forwarded-proto"), Some("http"));
    }

    /// Each request without an id of its own gets another one.
    fn request_ids_differ(driver) {
        let backend = Backend::fixed("ok");
        let gateway = Gateway::single(driver, &backend);
        let mut client = gateway.connect();
        for _ in 0..50 {
            client.get("a.test", "/");
        }
        let mut ids: Vec<_> =
            backend.requests().iter().map(|request| request.headers.get("x-request-id").unwrap().to_owned()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 50);
    }

    /// `Host` passes as it is; an absolute target's authority counts instead and goes upstream as `Host`.
    fn host_and_absolute_form(driver) {
        let backend = Backend::fixed("ok");
        let gateway = Gateway::single(driver, &backend);
        let mut client = gateway.connect();
        for (target, host, sent, upstream) in [
            ("/x?y", "A.Test:8080", "A.Test:8080", "/x?y"),
            ("http://b.test/x?y=/../z", "a.test", "b.test", "/x?y=/../z"),
            ("http://b.test:81", "a.test", "b.test:81", "/"),
            ("HTTP://b.test?q", "a.test", "b.test", "/?q"),
        ] {
            client.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            assert_eq!(client.response("GET").status, 200);
            let request = backend.requests().pop().unwrap();
            assert_eq!((request.headers.get("host"), request.target.as_str()), (Some(sent), upstream), "{target}");
        }
    }
}
