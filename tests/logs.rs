//! What the log tells of the gateway's surroundings: endpoints that fail, ports that open and close.

use std::net::SocketAddr;

use crate::pressure::{Plain, free_port};
use crate::support::config::{self, http_pool};
use crate::support::{Backend, Driver, Gateway};

/// The lines about an endpoint, and how many failures they tell of.
fn told(gateway: &Gateway, endpoint: SocketAddr) -> (Vec<String>, u64) {
    let about = format!("endpoint {endpoint} of service app: ");
    let log = gateway.stderr();
    let lines: Vec<String> =
        log.lines().filter_map(|line| line.split_once(&about)).map(|(_, rest)| rest.to_owned()).collect();
    let count = |line: &String| {
        let Some((_, times)) = line.rsplit_once(" (") else { return 1 };
        let digits: String = times.chars().filter(char::is_ascii_digit).collect();
        if digits.is_empty() { 1 } else { digits.parse::<u64>().unwrap() }
    };
    let sum = lines.iter().map(count).sum();
    (lines, sum)
}

/// Fails `requests` times, ends the gateway, and returns what was told of the endpoint.
fn failing(driver: Driver, endpoint: SocketAddr, keys: &str, status: u16, requests: u64) -> Vec<String> {
    let mut gateway = Gateway::start(driver, &config::single(endpoint, "", keys));
    let mut client = gateway.connect();
    for _ in 0..requests {
        assert_eq!(client.get("a.test", "/").status, status);
    }
    // The first is told at once, the last at the end at the latest.
    gateway.wait_stderr("of service app");
    gateway.signal("TERM");
    gateway.wait_exit();
    gateway.wait_stderr("drained in");
    let (lines, sum) = told(&gateway, endpoint);
    assert_eq!(sum, requests, "{lines:?}");
    lines
}

both_drivers! {
    /// A dead endpoint is told with its address, its service and the reason: few lines, but every failure is counted.
    fn a_dead_endpoint(driver) {
        let endpoint = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let lines = failing(driver, endpoint, "", 502, 100);
        assert_eq!(lines[0], "connect failed: Connection refused");
        assert!(lines.len() < 10 && lines[1].contains("times since the last line"), "{lines:?}");
    }

    /// Endpoints that answer nonsense, nothing, or too late, are told the same way.
    fn a_bad_endpoint(driver) {
        let nonsense = Backend::start(|conn| {
            if conn.request().is_some() {
                conn.send("this is not HTTP\r\n\r\n");
            }
        });
        let lines = failing(driver, nonsense.address(), "", 502, 3);
        assert_eq!(lines[0], "not a valid response: upstream_bad_status_line");
        let silent = Backend::start(|conn| {
            if conn.request().is_some() {
                conn.wait_closed();
            }
        });
        let lines = failing(driver, silent.address(), &http_pool("first_byte_timeout = \"100ms\""), 504, 2);
        assert_eq!(lines[0], "no response within first_byte_timeout");
        let closing = Backend::start(|conn| drop(conn.request()));
        let lines = failing(driver, closing.address(), "", 502, 2);
        assert_eq!(lines[0], "closed the connection without a response");
    }

    /// An endpoint that answers, whatever it says, is no news; nor is a client that goes away or sends rubbish.
    fn a_good_endpoint(driver) {
        let backend = Backend::start(|conn| {
            while conn.request().is_some() {
                conn.reply(500, "no");
            }
        });
        let mut gateway = Gateway::single(driver, &backend);
        let mut client = gateway.connect();
        assert_eq!(client.get("a.test", "/").status, 500);
        client.send("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n");
        assert_eq!(client.response("POST").status, 400);
        gateway.signal("TERM");
        gateway.wait_exit();
        gateway.wait_stderr("drained in");
        assert!(!gateway.stderr().contains("endpoint"), "{}", gateway.stderr());
    }

    /// A reload says which ports it opens and closes.
    fn ports(driver) {
        let backend = Plain::small();
        let port = free_port();
        let single = config::single(backend.address(), "", "");
        let more = format!(
            "{single}[[gateway]]\nname = \"more\"\n[[gateway.server]]\nport = {port}\nbind = \"127.0.0.1\"\n\
             protocol = \"HTTP\"\nhosts = [\"*\"]\n"
        );
        let gateway = Gateway::start(driver, &single);
        gateway.reload(&more, 2);
        gateway.wait_stderr(&format!("listening 127.0.0.1:{port} gateway=more server=1 protocol=HTTP\n"));
        assert!(!gateway.stderr().contains("closed"), "{}", gateway.stderr());
        gateway.reload(&single, 3);
        gateway.wait_stderr(&format!("closed 127.0.0.1:{port}\n"));
        assert_eq!(gateway.stderr().matches("listening").count(), 1, "{}", gateway.stderr());
    }
}
