//! The one normal form of a path: what is matched is what is forwarded (RFC 3986 sections 5.2.4 and 6.2.2).

use crate::support::config::{self, rule_to};
use crate::support::{Backend, Driver, Gateway};

/// Sends each path and compares what the backend gets; `Err` is a 400 with that reason.
fn assert_paths(driver: Driver, keys: &str, rows: &[(&str, Result<&str, &str>)]) {
    let backend = Backend::fixed("ok");
    let gateway = Gateway::start(driver, &config::single(backend.address(), keys, ""));
    for (sent, expected) in rows {
        let mut client = gateway.connect();
        let before = backend.requests().len();
        let response = client.get("a.test", sent);
        match expected {
            Ok(forwarded) => {
                assert_eq!(response.status, 200, "{sent}: {}", response.text());
                assert_eq!(backend.requests().pop().unwrap().target, *forwarded, "{sent}");
            }
            Err(reason) => {
                assert_eq!(
                    (response.status, response.text()),
                    (400, format!("400 Bad Request: {reason}\n")),
                    "{sent}"
                );
                assert_eq!(backend.requests().len(), before, "{sent} reached the backend");
            }
        }
    }
}

both_drivers! {
    /// The defaults: what is ambiguous is refused, what is equivalent becomes one.
    fn normal_form(driver) {
        assert_paths(driver, "", &[
            ("/", Ok("/")),
            ("/a/b", Ok("/a/b")),
            ("/a/./b", Ok("/a/b")),
            ("/a/../b", Ok("/b")),
            ("/a/b/..", Ok("/a/")),
            ("/a/b/.", Ok("/a/b/")),
            ("/..", Ok("/")),
            ("/../../etc/passwd", Ok("/etc/passwd")),
            ("/a/%2e%2e/b", Ok("/b")),
            ("/a/%2E./b", Ok("/b")),
            ("/%61%62%7e%2d", Ok("/ab~-")),
            ("/%c3%a9", Ok("/%C3%A9")),
            ("/%25%32%66", Ok("/%252f")),
            ("/a//b", Ok("/a//b")),
            ("/...", Ok("/...")),
            ("/.a", Ok("/.a")),
            ("/a;b=c/d", Ok("/a;b=c/d")),
            ("/a?b=/../c%2f%", Ok("/a?b=/../c%2f%")),
            ("/a/..?x", Ok("/?x")),
            ("/?", Ok("/?")),
            ("/a%2fb", Err("escaped_slash")),
            ("/a%2Fb", Err("escaped_slash")),
            ("/a%5cb", Err("backslash")),
            ("/a\\b", Err("backslash")),
            ("/a%00b", Err("escaped_nul")),
            ("/%", Err("bad_path")),
            ("/%2", Err("bad_path")),
            ("/%zz", Err("bad_path")),
        ]);
    }

    fn escaped_slashes_kept(driver) {
        assert_paths(driver, "path = { escaped_slashes = \"KEEP_UNCHANGED\" }", &[
            ("/a%2fb", Ok("/a%2Fb")),
            ("/a%2f../b", Ok("/a%2F../b")),
            ("/a/%2e%2e%2fb", Ok("/a/..%2Fb")),
        ]);
    }

    fn escaped_slashes_unescaped(driver) {
        assert_paths(driver, "path = { escaped_slashes = \"UNESCAPE_AND_FORWARD\" }", &[
            ("/a%2fb", Ok("/a/b")),
            ("/a%2f..%2fb", Ok("/b")),
        ]);
    }

    fn backslashes_kept(driver) {
        assert_paths(driver, "path = { backslashes = \"KEEP_UNCHANGED\" }", &[
            ("/a\\b", Ok("/a%5Cb")),
            ("/a%5cb", Ok("/a%5Cb")),
            ("/a/..\\b", Ok("/a/..%5Cb")),
        ]);
    }

    fn backslashes_converted(driver) {
        assert_paths(driver, "path = { backslashes = \"CONVERT_TO_SLASH\" }", &[
            ("/a\\b", Ok("/a/b")),
            ("/a\\..\\b", Ok("/b")),
            ("/a%5C..%5Cb", Ok("/b")),
        ]);
    }

    fn slashes_merged(driver) {
        assert_paths(driver, "path = { merge_slashes = true }", &[
            ("//a///b//", Ok("/a/b/")),
            ("/a//../b", Ok("/b")),
        ]);
    }

    /// No way of writing a path gets around a rule: `/admin` is matched however it is spelt.
    fn routes_match_the_normal_form(driver) {
        let (admin, rest) = (Backend::fixed("admin"), Backend::fixed("rest"));
        let mut text = config::gateway("", &["*"]);
        text += "[[virtual_service]]\nname = \"v\"\nhosts = [\"*\"]\ngateways = [\"web\"]\n";
        text += &rule_to("uri = { prefix = \"/admin\" }", "admin");
        text += &config::rule("route = [{ destination = { host = \"rest\" } }]");
        text += &config::service("admin", &[admin.address()], "");
        text += &config::service("rest", &[rest.address()], "");
        let gateway = Gateway::start(driver, &text);
        let mut client = gateway.connect();
        for path in ["/admin", "/%61dmin", "/./admin/x", "/x/../admin", "/x/%2e%2e/%61%64min", "/../admin"] {
            assert_eq!(client.get("a.test", path).text(), "admin", "{path}");
        }
        for path in ["/Admin", "/admi", "/admin/../x", "/?/admin"] {
            assert_eq!(client.get("a.test", path).text(), "rest", "{path}");
        }
    }

    /// `forward_path = "ORIGINAL"` sends what the client sent, and still matches the normal form.
    fn original_path_forwarded(driver) {
        let backend = Backend::fixed("signed");
        let mut text = config::gateway("", &["*"]);
        text += "[[virtual_service]]\nname = \"v\"\nhosts = [\"*\"]\ngateways = [\"web\"]\n";
        text += &config::rule(
            "match = [{ uri = { prefix = \"/bucket/\" } }]\nforward_path = \"ORIGINAL\"\nroute = [{ destination = { host = \"s3\" } }]",
        );
        text += &config::service("s3", &[backend.address()], "");
        let gateway = Gateway::start(driver, &text);
        let mut client = gateway.connect();
        for path in ["/bucket/%7efile?sig=%2f", "/x/../bucket/a/./b", "/bucket/%c3%a9"] {
            assert_eq!(client.get("a.test", path).text(), "signed");
            assert_eq!(backend.requests().pop().unwrap().target, path);
        }
        assert_eq!(client.get("a.test", "/bucket/../x").status, 404);
        assert_eq!(client.get("a.test", "/bucket/a%2fb").status, 400, "refused all the same");
    }
}
