//! Clients that come in clear text to a site that is served over HTTPS, and what they are told to keep to HTTPS.

use std::net::SocketAddr;

use rustls::version::TLS13;

use crate::support::tls::TlsClient;
use crate::support::{Backend, Client, Driver, Gateway, config};
use crate::tls::Site;

/// An HTTP gateway for all hosts that sends clients to HTTPS, and routes what it does not send there.
fn redirecting(driver: Driver, backend: SocketAddr, more: &str) -> Gateway {
    let tls = format!("tls = {{ https_redirect = true{more} }}\n");
    let text = config::gateway("", &["*"]) + &tls;
    let route = "route = [{ destination = { host = \"app\" } }]";
    Gateway::start(
        driver,
        &(text + &config::virtual_service("all", "*", route) + &config::service("app", &[backend], "")),
    )
}

both_drivers! {
    /// The same resource over HTTPS, on the connection that goes on; an ACME challenge is served.
    fn clear_text_is_redirected(driver) {
        let backend = Backend::fixed("challenge");
        let gateway = redirecting(driver, backend.address(), "");
        let mut client = Client::connect(gateway.address());
        for (host, target, location) in [
            ("a.test", "/a/../b?c=d%20e", "https://a.test/a/../b?c=d%20e"),
            ("A.test:8080", "/", "https://A.test/"),
            ("[::1]:80", "//evil.test/", "https://[::1]//evil.test/"),
            ("x", "http://a.test:80", "https://a.test/"),
        ] {
            let response = client.get(host, target);
            assert_eq!((response.status, response.headers.get("location")), (301, Some(location)));
            assert!(!response.headers.has("strict-transport-security"));
            assert_eq!(response.text(), "301 Moved Permanently: https_redirect\n");
        }
        client.send("POST /form HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc");
        assert_eq!(client.response("POST").status, 301);
        for target in ["/.well-known/acme-challenge/token", "/x/../.well-known/acme-challenge/token"] {
            assert_eq!(client.get("a.test", target).text(), "challenge");
        }
        for target in [
            "/.well-known/acme-challenge",
            "/.well-known/acme-challenge/",
            "/.well-known/acme-challenge/../x",
            "/.well-known/acme-challenge/..;/..;/admin",
            "/.well-known/acme-challenge/%252e%252e/admin",
            "/.well-known/acme-challenge/token/x",
        ] {
            assert_eq!(client.get("a.test", target).status, 301, "{target}");
        }
        assert_eq!(client.get("evil.test%2f.a.test", "/").text(), "400 Bad Request: no_host_to_redirect_to\n");
        client.send("GET / HTTP/1.0\r\n\r\n");
        assert_eq!(client.response("GET").text(), "400 Bad Request: no_host_to_redirect_to\n");
        assert_eq!(backend.requests().len(), 2);
    }

    /// Another port than 443 stands in the location.
    fn a_redirect_to_another_port(driver) {
        let backend = Backend::fixed("challenge");
        let gateway = redirecting(driver, backend.address(), ", https_redirect_port = 8443");
        let response = Client::connect(gateway.address()).get("a.test:80", "/a");
        assert_eq!(response.headers.get("location"), Some("https://a.test:8443/a"));
    }

    /// Every final response says it, once, whatever the endpoint says; answers of the gateway's own do too.
    fn hosts_ask_to_be_reached_over_tls(driver) {
        let (site, backend) = (Site::new(), Backend::start(|conn| {
            while let Some(request) = conn.request() {
                let more = if request.target == "/own" { "strict-transport-security: max-age=1\r\n" } else { "" };
                conn.send(format!("HTTP/1.1 103 Early Hints\r\n{more}\r\nHTTP/1.1 200 OK\r\n{more}Content-Length: 0\r\n\r\n"));
            }
        }));
        let text = site.config(backend.address(), "", "SIMPLE", "");
        let hsts = "hsts = { max_age = \"365d\", include_subdomains = true, preload = true }\n[[virtual_service]]";
        let text = text.replacen("[[virtual_service]]", hsts, 1).replacen("route = ", "match = [{ uri = { prefix = \"/o\" } }]\nroute = ", 1);
        let gateway = Gateway::start(driver, &text);
        let mut client = TlsClient::connect(gateway.address(), &site.client(&[&TLS13]), "a.test");
        for (path, status) in [("/o", 200), ("/own", 200), ("/none", 404)] {
            client.send(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
            let mut response = client.response("GET");
            if response.status == 103 {
                assert_eq!(response.headers.has("strict-transport-security"), path == "/own");
                response = client.response("GET");
            }
            assert_eq!(response.status, status);
            assert_eq!(
                response.headers.all("strict-transport-security"),
                ["max-age=31536000; includeSubDomains; preload"],
                "{path}"
            );
        }
    }

    /// Where the server asks for it, a request in clear text on its port hears why it failed; other bytes hear nothing.
    fn clear_text_on_a_tls_port(driver) {
        let (site, backend) = (Site::new(), Backend::fixed("web"));
        for (more, answer) in [
            ("", ""),
            (", answer_plain_http = true", "400 Bad Request: plain_http_on_https_port\n"),
        ] {
            let gateway = Gateway::start(driver, &site.config(backend.address(), "", "SIMPLE", more));
            let mut client = Client::connect(gateway.address());
            client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
            if answer.is_empty() {
                client.assert_closed();
            } else {
                let response = client.response("GET");
                assert_eq!(response.text(), answer);
                assert!(!response.headers.has("strict-transport-security"));
                client.assert_closed();
            }
            for bytes in ["SSH-2.0-x\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r\n", "\u{16}\u{2}"] {
                let mut client = Client::connect(gateway.address());
                client.send(bytes);
                client.assert_closed();
            }
        }
    }
}
