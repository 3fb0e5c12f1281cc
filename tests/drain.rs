//! The end of the process by signal: nothing new comes in, nothing under way is lost, and there is an end to it.

use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::pressure::{Dump, Plain, assert_takes};
use crate::support::{Backend, Client, Conn, DEADLINE, Driver, Gate, Gateway, config};

/// Within this time further signals say what the first one said.
const SAME_WISH: Duration = Duration::from_millis(500);

/// Answers each request once the gate is open.
fn gated(gate: &Gate) -> Backend {
    let gate = gate.clone();
    Backend::start(move |conn| {
        while conn.request().is_some() {
            gate.wait();
            conn.reply(200, "late");
        }
    })
}

fn tunnel_backend() -> Backend {
    Backend::start(|conn: &mut Conn| {
        if conn.request().is_some() {
            conn.send(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            );
            while let Ok(bytes) = conn.bytes(4) {
                conn.send(bytes);
            }
        }
    })
}

fn with_drain_timeout(driver: Driver, backend: &Backend, timeout: &str) -> Gateway {
    let process = format!("[process]\ndrain_timeout = {timeout:?}\n");
    Gateway::start(driver, &(process + &config::single(backend.address(), "", "")))
}

fn open_tunnel(gateway: &Gateway) -> Client {
    let mut tunnel = gateway.connect();
    tunnel.send("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(tunnel.response("GET").status, 101);
    tunnel
}

fn drain(gateway: &Gateway, signal: &str) {
    gateway.signal(signal);
    gateway.wait_stderr("draining");
    // A shard drains before it closes its listeners: once nobody listens, all of them do.
    let deadline = Instant::now() + DEADLINE;
    while TcpStream::connect(gateway.address()).is_ok() {
        assert!(Instant::now() < deadline, "still listening");
        thread::yield_now();
    }
}

both_drivers! {
    /// Connections that wait to be accepted when the signal comes are served: no client is reset.
    fn the_accept_queue_is_served(driver) {
        let backend = Plain::small();
        for shards in ["1", "2"] {
            let text = config::single(backend.address(), "", "");
            let mut gateway =
                Gateway::start_with(&text, &["--driver", driver.name(), "--cores", shards, "--no-pin"]);
            // While the process stands still, the kernel goes on taking connections in.
            gateway.signal("STOP");
            let mut clients: Vec<Client> = (0..40).map(|_| gateway.connect()).collect();
            for client in &mut clients {
                client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
            }
            gateway.signal("TERM");
            gateway.signal("CONT");
            for (number, client) in clients.iter_mut().enumerate() {
                let response = client.response("GET");
                assert_eq!(response.status, 200, "client {number} of {shards} shards");
            }
            assert_eq!(gateway.wait_exit().code(), Some(0));
        }
    }

    /// Responses of exchanges under way say that they are the last, be they the first of a connection or not, local or
    /// an endpoint's.
    fn exchanges_end_with_close(driver) {
        for signal in ["TERM", "INT"] {
            let gate = Gate::new();
            let backend = gated(&gate);
            let mut gateway = Gateway::single(driver, &backend);
            let mut clients: Vec<Client> = (0..4).map(|_| gateway.connect()).collect();
            for client in &mut clients {
                client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
            }
            backend.wait_requests(4);
            drain(&gateway, signal);
            // Time passes for sure beyond a sweep of the deadline list, which closes idle connections.
            Dump::wait(&gateway, "still four sessions", |dump| dump.sum("sessions_open") == 4);
            thread::sleep(Duration::from_millis(200));
            gate.open();
            for client in &mut clients {
                let response = client.response("GET");
                assert_eq!(response.text(), "late");
                assert!(response.headers.lists("connection", "close"), "{response:?}");
                client.assert_closed();
            }
            assert_eq!(gateway.wait_exit().code(), Some(0));
        }
    }

    /// A response that was on its way, and a request body that was, come to their ends.
    fn bodies_are_finished(driver) {
        let gate = Gate::new();
        let backend = Backend::start({
            let gate = gate.clone();
            move |conn| {
                while let Some(request) = conn.request() {
                    if request.method == "POST" {
                        conn.reply(200, request.content.body.len().to_string());
                        continue;
                    }
                    conn.send("HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n");
                    conn.send(vec![b'x'; 100_000]);
                    gate.wait();
                    conn.send(vec![b'x'; 100_000]);
                }
            }
        });
        let mut gateway = Gateway::single(driver, &backend);
        let mut download = gateway.connect();
        download.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        let mut response = download.head("GET").unwrap();
        let mut upload = gateway.connect();
        upload.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 200000\r\n\r\n");
        upload.send(vec![b'x'; 100_000]);
        Dump::wait(&gateway, "both requests", |dump| dump.sum("requests") == 2);
        drain(&gateway, "TERM");
        gate.open();
        download.content(&mut response).unwrap();
        assert_eq!(response.content.body.len(), 200_000);
        download.assert_closed();
        upload.send(vec![b'x'; 100_000]);
        assert_eq!(upload.response("POST").text(), "200000");
        upload.assert_closed();
        assert_eq!(gateway.wait_exit().code(), Some(0));
    }

    /// Idle connections are closed at once; one that never spoke gets a second, then nothing keeps the process.
    fn idle_connections_are_closed(driver) {
        let backend = Backend::fixed("ok");
        let mut gateway = Gateway::single(driver, &backend);
        let mut idle: Vec<Client> = (0..20).map(|_| gateway.connect()).collect();
        for client in &mut idle {
            assert_eq!(client.get("a.test", "/").text(), "ok");
        }
        // Past the time in which a connection keeps its buffers for the next request, and within it.
        thread::sleep(Duration::from_millis(300));
        assert_eq!(idle[0].get("a.test", "/").text(), "ok");
        let started = Instant::now();
        drain(&gateway, "TERM");
        idle.iter_mut().for_each(Client::assert_closed);
        assert_eq!(gateway.wait_exit().code(), Some(0));
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    }

    fn a_fresh_connection_gets_a_second(driver) {
        assert_takes(Duration::from_secs(1), || {
            let backend = Backend::fixed("ok");
            let mut gateway = Gateway::single(driver, &backend);
            let mut silent = gateway.connect();
            let mut late = gateway.connect();
            Dump::wait(&gateway, "two sessions", |dump| dump.sum("sessions_open") == 2);
            let started = Instant::now();
            drain(&gateway, "TERM");
            late.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
            let response = late.response("GET");
            assert!(response.text() == "ok" && response.headers.lists("connection", "close"), "{response:?}");
            silent.assert_closed();
            let took = started.elapsed();
            assert_eq!(gateway.wait_exit().code(), Some(0));
            took
        });
    }

    /// During a drain nobody gets in, and a reload is refused.
    fn nothing_new(driver) {
        let gate = Gate::new();
        let backend = gated(&gate);
        let mut gateway = Gateway::single(driver, &backend);
        let mut busy = gateway.connect();
        busy.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        backend.wait_requests(1);
        drain(&gateway, "TERM");
        let started = Instant::now();
        while TcpStream::connect(gateway.address()).is_ok() {
            assert!(started.elapsed() < Duration::from_secs(5), "still accepting");
        }
        gateway.signal("HUP");
        gateway.wait_stderr("not reloading: draining");
        gate.open();
        assert_eq!(busy.response("GET").status, 200);
        assert_eq!(gateway.wait_exit().code(), Some(0));
    }

    /// A reload that is loading when the drain begins opens nothing any more: the process ends.
    fn a_reload_does_not_outlive_the_drain(driver) {
        let backend = Backend::fixed("ok");
        let mut gateway = Gateway::single(driver, &backend);
        let mut text = config::single(backend.address(), "", "");
        text += &format!(
            "[[gateway]]\nname = \"more\"\n[[gateway.server]]\nport = {}\nbind = \"127.0.0.1\"\nprotocol = \"HTTP\"\n\
             hosts = [\"*\"]\n",
            crate::pressure::free_port()
        );
        gateway.rewrite(&text);
        // Together, so that the drain meets the reload in any of its phases.
        for _ in 0..3 {
            gateway.signal("HUP");
        }
        gateway.signal("TERM");
        let started = Instant::now();
        assert_eq!(gateway.wait_exit().code(), Some(0));
        assert!(started.elapsed() < Duration::from_secs(10), "only the deadline ended it");
    }

    /// A tunnel works on until the deadline of the drain, which ends the process in order.
    fn tunnels_last_until_the_deadline(driver) {
        assert_takes(Duration::from_secs(1), || {
            let backend = tunnel_backend();
            let mut gateway = with_drain_timeout(driver, &backend, "1s");
            let mut tunnel = open_tunnel(&gateway);
            let started = Instant::now();
            drain(&gateway, "TERM");
            while started.elapsed() < Duration::from_millis(700) {
                tunnel.send("ping");
                assert_eq!(tunnel.bytes(4).as_deref(), Ok(&b"ping"[..]));
            }
            assert_eq!(gateway.wait_exit().code(), Some(0));
            gateway.wait_stderr(" s: 0 exchanges and 1 tunnel cut\n");
            started.elapsed()
        });
    }

    /// An exchange that the deadline cuts is counted; one that ends before is none of those.
    fn a_cut_exchange_is_told(driver) {
        let gate = Gate::new();
        let backend = gated(&gate);
        let mut gateway = with_drain_timeout(driver, &backend, "1s");
        let mut idle = gateway.connect();
        let mut busy = gateway.connect();
        busy.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        backend.wait_requests(1);
        drain(&gateway, "TERM");
        idle.assert_closed();
        assert_eq!(gateway.wait_exit().code(), Some(0));
        gateway.wait_stderr(" s: 1 exchange and 0 tunnels cut\n");
        gate.open();
    }

    /// The deadline is a bound, not a wait: the last tunnel's end is the process's.
    fn the_last_tunnel_ends_it(driver) {
        let backend = tunnel_backend();
        let mut gateway = with_drain_timeout(driver, &backend, "60s");
        let tunnels = [open_tunnel(&gateway), open_tunnel(&gateway)];
        drain(&gateway, "TERM");
        drop(tunnels);
        assert_eq!(gateway.wait_exit().code(), Some(0));
        gateway.wait_stderr("drained in ");
        assert!(!gateway.stderr().contains("cut"), "{}", gateway.stderr());
    }

    /// A second signal ends the process at once, whatever is under way.
    fn a_second_signal_ends_at_once(driver) {
        for (first, second) in [("TERM", "TERM"), ("INT", "TERM"), ("TERM", "INT")] {
            let backend = tunnel_backend();
            let mut gateway = with_drain_timeout(driver, &backend, "60s");
            let mut tunnel = open_tunnel(&gateway);
            drain(&gateway, first);
            tunnel.send("ping");
            assert_eq!(tunnel.bytes(4).as_deref(), Ok(&b"ping"[..]));
            thread::sleep(SAME_WISH);
            let started = Instant::now();
            gateway.signal(second);
            assert_eq!(gateway.wait_exit().code(), Some(1), "{first}, {second}");
            assert!(started.elapsed() < Duration::from_secs(2));
        }
    }

    /// Signals that come together are one wish: `timeout(1)` signals its child and then the child's group.
    fn signals_that_come_together(driver) {
        let backend = tunnel_backend();
        let mut gateway = with_drain_timeout(driver, &backend, "60s");
        let mut tunnel = open_tunnel(&gateway);
        // While the process stands still both become pending: it meets them at the same moment.
        for signal in ["STOP", "TERM", "INT", "CONT"] {
            gateway.signal(signal);
        }
        gateway.wait_stderr("draining");
        // An answer to SIGUSR1 comes behind both.
        assert_eq!(Dump::of(&gateway).sum("tunnels_open"), 1);
        tunnel.send("ping");
        assert_eq!(tunnel.bytes(4).as_deref(), Ok(&b"ping"[..]));
        drop(tunnel);
        assert_eq!(gateway.wait_exit().code(), Some(0));
    }

    /// Clients that connect and ask without a pause while the gateway drains: each either gets a whole answer or was
    /// never served at all.
    fn traffic_is_cut_nowhere(driver) {
        let backend = Plain::small();
        let mut gateway = Gateway::start(driver, &config::single(backend.address(), "", ""));
        let address = gateway.address();
        let clients: Vec<_> = (0..4)
            .map(|_| {
                thread::spawn(move || {
                    let mut served = 0;
                    while let Ok(mut stream) = TcpStream::connect(address) {
                        if stream.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").is_err() {
                            break;
                        }
                        let mut answer = Vec::new();
                        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                        let read = read_response(&mut stream, &mut answer);
                        if !read {
                            // A connection that the closing listener never took is reset without a byte.
                            assert!(answer.is_empty(), "cut: {:?}", String::from_utf8_lossy(&answer));
                            break;
                        }
                        served += 1;
                    }
                    served
                })
            })
            .collect();
        Dump::wait(&gateway, "traffic", |dump| dump.sum("requests") > 200);
        drain(&gateway, "TERM");
        let served: u64 = clients.into_iter().map(|client| client.join().unwrap()).sum();
        assert!(served > 200);
        assert_eq!(gateway.wait_exit().code(), Some(0));
    }
}

/// Reads one small response; false when the connection ended before it was whole.
fn read_response(stream: &mut TcpStream, answer: &mut Vec<u8>) -> bool {
    use std::io::Read;
    let mut chunk = [0; 1024];
    while !answer.ends_with(b"\r\n\r\nok") {
        match stream.read(&mut chunk) {
            Ok(count @ 1..) => answer.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            _ => return false,
        }
    }
    true
}
