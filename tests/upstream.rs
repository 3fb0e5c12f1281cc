//! Endpoints and the connections to them: balancing, reuse, caps, ends.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::support::config::{self, http_pool};
use crate::support::{Backend, Client, Driver, Gate, Gateway};

/// A gateway with one service of these endpoints, written as in TOML.
fn balanced(driver: Driver, endpoints: &str) -> Gateway {
    let mut text = config::gateway("", &["*"]);
    text += &config::virtual_service("v", "*", "route = [{ destination = { host = \"app\" } }]");
    text += &format!("[[service]]\nname = \"app\"\nendpoints = [{endpoints}]\n");
    Gateway::start(driver, &text)
}

fn count(client: &mut Client, requests: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..requests {
        *counts.entry(client.get("a.test", "/").text()).or_insert(0) += 1;
    }
    counts
}

/// A backend that shows how many of its requests were under way at once: answers when the gate opens.
fn gated(gate: &Gate) -> Backend {
    let gate = gate.clone();
    Backend::start(move |conn| {
        while conn.request().is_some() {
            gate.wait();
            conn.reply(200, "ok");
        }
    })
}

both_drivers! {
    /// Endpoints take turns; a weight multiplies an endpoint's share, 0 takes it out.
    fn round_robin(driver) {
        let backends = ["a", "b", "c"].map(Backend::fixed);
        let address = |index: usize| -> SocketAddr { backends[index].address() };
        let plain = format!("{{ address = \"{}\" }}, {{ address = \"{}\" }}", address(0), address(1));
        let gateway = balanced(driver, &plain);
        assert_eq!(count(&mut gateway.connect(), 20), BTreeMap::from([("a".into(), 10), ("b".into(), 10)]));

        let weighted = format!(
            "{{ address = \"{}\", weight = 3 }}, {{ address = \"{}\" }}, {{ address = \"{}\", weight = 0 }}",
            address(0), address(1), address(2)
        );
        let gateway = balanced(driver, &weighted);
        assert_eq!(count(&mut gateway.connect(), 40), BTreeMap::from([("a".into(), 30), ("b".into(), 10)]));
    }

    /// Subsets pick endpoints by label.
    fn subsets(driver) {
        let backends = ["one", "two"].map(Backend::fixed);
        let mut text = config::gateway("", &["*"]);
        text += &config::virtual_service("v", "*", "match = [{ uri = { prefix = \"/v2\" } }]\nroute = [{ destination = { host = \"app\", subset = \"v2\" } }]");
        text += &config::rule("route = [{ destination = { host = \"app\", subset = \"v1\" } }]");
        text += &format!(
            "[[service]]\nname = \"app\"\nendpoints = [{{ address = \"{}\", labels = {{ version = \"v1\" }} }}, \
             {{ address = \"{}\", labels = {{ version = \"v2\" }} }}]\n\
             subsets = [{{ name = \"v1\", labels = {{ version = \"v1\" }} }}, {{ name = \"v2\", labels = {{ version = \"v2\" }} }}]\n",
            backends[0].address(), backends[1].address()
        );
        let gateway = Gateway::start(driver, &text);
        let mut client = gateway.connect();
        for _ in 0..5 {
            assert_eq!((client.get("a.test", "/").text(), client.get("a.test", "/v2").text()), ("one".into(), "two".into()));
        }
    }

    /// Clients that come one after the other share one upstream connection; clients at once get one each, all kept.
    fn connections_are_reused(driver) {
        let gate = Gate::new();
        let backend = gated(&gate);
        let gateway = Gateway::single(driver, &backend);
        let mut clients: Vec<_> = (0..5).map(|_| gateway.connect()).collect();
        for client in &mut clients {
            client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        }
        backend.wait_requests(5);
        assert_eq!(backend.connections(), 5);
        gate.open();
        clients.iter_mut().for_each(|client| assert_eq!(client.response("GET").text(), "ok"));
        for _ in 0..20 {
            assert_eq!(gateway.connect().get("a.test", "/").text(), "ok");
        }
        assert_eq!(backend.connections(), 5);
    }

    /// No more idle connections are kept than the cap says.
    fn idle_cap(driver) {
        let gate = Gate::new();
        let backend = gated(&gate);
        let gateway = Gateway::start(driver, &config::single(backend.address(), "", &http_pool("idle_connections_max = 2")));
        let mut clients: Vec<_> = (0..5).map(|_| gateway.connect()).collect();
        for client in &mut clients {
            client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        }
        backend.wait_requests(5);
        gate.open();
        clients.iter_mut().for_each(|client| assert_eq!(client.response("GET").text(), "ok"));
        backend.wait_ended(3);
        for _ in 0..10 {
            assert_eq!(gateway.connect().get("a.test", "/").text(), "ok");
        }
        assert_eq!(backend.connections(), 5, "the two that were kept served the rest");
    }

    /// A cap of none closes each connection after its response.
    fn no_idle_connections(driver) {
        let backend = Backend::fixed("ok");
        let gateway = Gateway::start(driver, &config::single(backend.address(), "", &http_pool("idle_connections_max = 0")));
        let mut client = gateway.connect();
        for number in 1..4 {
            assert_eq!(client.get("a.test", "/").text(), "ok");
            backend.wait_ended(number);
        }
        assert_eq!(backend.connections(), 3);
    }

    /// An idle connection is closed after its time, without a request having to find it.
    fn idle_timeout(driver) {
        let backend = Backend::fixed("ok");
        let gateway = Gateway::start(driver, &config::single(backend.address(), "", &http_pool("idle_timeout = \"1s\"")));
        let mut client = gateway.connect();
        assert_eq!(client.get("a.test", "/").text(), "ok");
        backend.wait_ended(1);
        assert_eq!(client.get("a.test", "/").text(), "ok");
        assert_eq!(backend.connections(), 2);
    }

    /// `Connection: close` and a response without length both end the upstream connection.
    fn a_backend_may_close(driver) {
        let backend = Backend::start(|conn| {
            if conn.request().is_some() {
                conn.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
                conn.wait_closed();
            }
        });
        let gateway = Gateway::single(driver, &backend);
        let mut client = gateway.connect();
        for number in 1..4 {
            let response = client.get("a.test", "/");
            assert_eq!(response.text(), "ok");
            assert!(!response.headers.lists("connection", "close"), "the backend's wish is not the client's");
            backend.wait_ended(number);
        }
    }

    /// Bytes that nobody asked for never become the answer to a later request: right behind a response, or while the
    /// connection is idle.
    fn unasked_bytes_never_poison(driver) {
        const POISON: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
        let (go, done) = (Gate::new(), Gate::new());
        let backend = Backend::start({
            let (go, done) = (go.clone(), done.clone());
            move |conn| {
                while let Some(request) = conn.request() {
                    match request.target.as_str() {
                        "/behind" => conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok{POISON}")),
                        "/chunked" => conn.send(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n{POISON}")),
                        "/none" => conn.send(format!("HTTP/1.1 204 No Content\r\n\r\n{POISON}")),
                        "/idle" => {
                            conn.reply(200, "ok");
                            go.wait();
                            conn.send_unread(POISON);
                            done.open();
                        }
                        _ => conn.reply(200, "clean"),
                    }
                }
            }
        });
        let gateway = Gateway::single(driver, &backend);
        for path in ["/behind", "/chunked", "/none"] {
            let mut client = gateway.connect();
            assert!([200, 204].contains(&client.get("a.test", path).status));
            assert_eq!(client.get("a.test", "/after").text(), "clean", "after {path}");
            assert_eq!(gateway.connect().get("a.test", "/after").text(), "clean", "after {path}");
        }
        let mut client = gateway.connect();
        assert_eq!(client.get("a.test", "/idle").text(), "ok");
        go.open();
        done.wait();
        assert_eq!(client.get("a.test", "/after").text(), "clean");
        let clean = backend.requests().iter().filter(|request| request.target == "/after").count();
        assert_eq!(clean, 7);
    }
}
