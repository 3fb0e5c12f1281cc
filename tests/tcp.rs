//! TCP servers: bytes relayed both ways, routed by addresses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::pressure::{Baseline, Dump, assert_takes, free_port, two_shards};
use crate::support::rng::{Rng, checksum};
use crate::support::{Backend, Client, Conn, DEADLINE, Failure, Gate, Gateway, config};

/// A gateway `web` with one TCP server on each of `ports`.
pub(crate) fn servers(ports: &[u16]) -> String {
    let server = |port: &u16| {
        format!(
            "[[gateway.server]]\nport = {port}\nbind = \"0.0.0.0\"\nprotocol = \"TCP\"\nhosts = [\"*\"]\n"
        )
    };
    format!("[[gateway]]\nname = \"web\"\n{}", ports.iter().map(server).collect::<String>())
}

/// A virtual service for everything with these rules: `match`, and services with weights.
fn rules(rules: &[(&str, &[(&str, u32)])]) -> String {
    let mut text = "[[virtual_service]]\nname = \"all\"\nhosts = [\"*\"]\ngateways = [\"web\"]\n".to_owned();
    for (conditions, services) in rules {
        let route: Vec<String> = services
            .iter()
            .map(|(service, weight)| {
                format!("{{ destination = {{ host = {service:?} }}, weight = {weight} }}")
            })
            .collect();
        text += &format!("[[virtual_service.tcp]]\n{conditions}\nroute = [{}]\n", route.join(", "));
    }
    text
}

/// Everything to one service, with further keys of it.
fn single(endpoints: &[SocketAddr], keys: &str) -> String {
    servers(&[0]) + &rules(&[("", &[("app", 1)])]) + &config::service("app", endpoints, keys)
}

fn connect(gateway: &Gateway) -> Client {
    Client::connect(local(gateway, "127.0.0.1"))
}

/// The address of the only listener, by one of this host's addresses.
fn local(gateway: &Gateway, ip: &str) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), gateway.address().port())
}

/// Sends every byte back, and the end.
fn echo(conn: &mut Conn) {
    while let Ok(byte) = conn.bytes(1) {
        if conn.try_send(&byte).is_err() {
            return;
        }
    }
}

/// Says its name, then waits for the end.
fn named(name: &'static str) -> Backend {
    Backend::start(move |conn| {
        conn.send(name);
        conn.half_close();
        let _ = conn.until_end();
    })
}

fn ask(address: SocketAddr) -> String {
    let mut client = Client::connect(address);
    client.half_close();
    String::from_utf8(client.until_end().unwrap()).unwrap()
}

/// An address that nobody listens at.
fn dead() -> SocketAddr {
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), free_port())
}

/// A listener whose queue is full: connecting to it takes for ever.
struct Full {
    listener: Socket,
    _queued: Vec<TcpStream>,
}

impl Full {
    fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut queued = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(500)) {
            queued.push(stream);
        }
        Self { listener, _queued: queued }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap().as_socket().unwrap()
    }
}

#[track_caller]
fn ping(client: &mut Client) {
    client.send("ping");
    assert_eq!(client.bytes(4).as_deref(), Ok(&b"ping"[..]));
}

fn random_megabytes(count: usize) -> Vec<u8> {
    Rng::from_env().bytes(count << 20)
}

both_drivers! {
    /// Bytes go both ways as they come; a backend may be the first to speak.
    fn relays(driver) {
        let backend = Backend::start(|conn| {
            conn.send("hello\n");
            echo(conn);
        });
        let gateway = Gateway::start(driver, &single(&[backend.address()], ""));
        assert_eq!(gateway.listening()[0].protocol, "TCP");
        let baseline = Baseline::of(&gateway);
        let mut client = connect(&gateway);
        assert_eq!(client.bytes(6).unwrap(), b"hello\n");
        for text in ["GET / HTTP/1.1\r\n\r\n", "\0\0", "x"] {
            client.send(text);
            assert_eq!(client.bytes(text.len()).unwrap(), text.as_bytes());
        }
        let dump = Dump::wait(&gateway, "no buffer", |dump| dump.sum("buffers_in_use") == 0);
        assert_eq!((dump.sum("relays_open"), dump.sum("exchanges_open")), (1, 0));
        ping(&mut client);
        drop(client);
        backend.wait_ended(1);
        baseline.assert_back(&gateway);
        assert_eq!(Dump::of(&gateway).sum("relays"), 1);
    }

    /// The end of one direction is passed on; the other goes on.
    fn half_close_by_the_client(driver) {
        let backend = Backend::start(|conn| {
            let all = conn.until_end().unwrap();
            conn.send(format!("{} bytes", all.len()));
        });
        let gateway = Gateway::start(driver, &single(&[backend.address()], ""));
        let mut client = connect(&gateway);
        client.send("twelve bytes");
        client.half_close();
        assert_eq!(client.until_end().unwrap(), b"12 bytes");
        Dump::wait(&gateway, "the end", |dump| dump.sum("relays_open") == 0 && dump.sum("relays_broken") == 0);
    }

    /// The same from the other side.
    fn half_close_by_the_backend(driver) {
        let backend = Backend::start(|conn| {
            conn.send("last words");
            conn.half_close();
            assert_eq!(conn.until_end().unwrap(), b"heard");
        });
        let gateway = Gateway::start(driver, &single(&[backend.address()], ""));
        let mut client = connect(&gateway);
        assert_eq!(client.until_end().unwrap(), b"last words");
        client.send("heard");
        client.half_close();
        backend.wait_ended(1);
    }

    /// A side that resets resets the other: nobody takes a part for the whole.
    fn resets_are_passed_on(driver) {
        let gate = Gate::new();
        let backend = Backend::start({
            let gate = gate.clone();
            move |conn| {
                if conn.number == 0 {
                    conn.send("part");
                    gate.wait();
                    conn.reset();
                } else {
                    conn.send("part");
                    assert_eq!(conn.until_end(), Err(Failure::Reset));
                }
            }
        });
        let gateway = Gateway::start(driver, &single(&[backend.address()], ""));
        let mut client = connect(&gateway);
        assert_eq!(client.bytes(4).unwrap(), b"part");
        gate.open();
        assert_eq!(client.until_end(), Err(Failure::Reset));
        let mut client = connect(&gateway);
        assert_eq!(client.bytes(4).unwrap(), b"part");
        client.reset();
        backend.wait_ended(2);
        Dump::wait(&gateway, "two broken", |dump| dump.sum("relays_broken") == 2);
    }

    /// Weights are exact over a cycle, rules are tried in order.
    fn weights_and_rules(driver) {
        let backends = [named("a"), named("b"), named("c")];
        let text = servers(&[0])
            + &rules(&[
                ("match = [{ source_subnets = [\"127.0.0.2\"] }]", &[("c", 1)]),
                ("match = [{ destination_subnets = [\"127.0.9.0/24\"] }]", &[("c", 1)]),
                ("match = [{ port = 1 }]", &[("c", 1)]),
                ("match = [{ source_subnets = [\"127.0.0.0/8\"] }]", &[("a", 3), ("b", 1)]),
            ])
            + &config::service("a", &[backends[0].address()], "")
            + &config::service("b", &[backends[1].address()], "")
            + &config::service("c", &[backends[2].address()], "");
        let gateway = Gateway::start(driver, &text);
        let mut answers: Vec<String> = (0..8).map(|_| ask(local(&gateway, "127.0.0.1"))).collect();
        answers.sort();
        assert_eq!(answers.concat(), "aaaaaabb");
        assert_eq!(ask(local(&gateway, "127.0.9.7")), "c");
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(IpAddr::from([127, 0, 0, 2]), 0).into()).unwrap();
        socket.connect_timeout(&local(&gateway, "127.0.0.1").into(), DEADLINE).unwrap();
        assert_eq!(Client::over(socket.into()).until_end().unwrap(), b"c");
    }

    /// What no rule is for is closed.
    fn no_rule(driver) {
        let backend = named("a");
        let text = servers(&[0])
            + &rules(&[("match = [{ source_subnets = [\"10.0.0.0/8\"] }]", &[("app", 1)])])
            + &config::service("app", &[backend.address()], "");
        let gateway = Gateway::start(driver, &text);
        connect(&gateway).assert_closed();
        Dump::wait(&gateway, "refused", |dump| dump.sum("relays_refused") == 1);
        assert_eq!(backend.connections(), 0);
    }

    /// An endpoint that can not be reached costs a client nothing while another is left.
    fn other_endpoints_are_tried(driver) {
        let backend = Backend::start(echo);
        let gateway = Gateway::start(driver, &single(&[dead(), dead(), backend.address()], ""));
        for _ in 0..6 {
            let mut client = connect(&gateway);
            ping(&mut client);
        }
        let dump = Dump::of(&gateway);
        assert!(dump.sum("upstream_dial_failures") >= 4, "{dump:?}");
        assert_eq!(dump.sum("relays_refused"), 0);
    }

    /// With none left the client is reset.
    fn no_endpoint(driver) {
        let gateway = Gateway::start(driver, &single(&[dead()], ""));
        // The reset may come before the client has looked at its new connection.
        match TcpStream::connect(local(&gateway, "127.0.0.1")) {
            Ok(stream) => assert_eq!(Client::over(stream).until_end(), Err(Failure::Reset)),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
        Dump::wait(&gateway, "refused", |dump| dump.sum("relays_refused") == 1);
        gateway.wait_stderr("connect failed");
    }

    /// `connect_timeout`, then the next endpoint.
    fn connect_timeout(driver) {
        let (full, backend) = (Full::new(), Backend::start(echo));
        let keys = config::tcp_pool("connect_timeout = \"400ms\"");
        let gateway = Gateway::start(driver, &single(&[full.address(), backend.address()], &keys));
        let began = Instant::now();
        for _ in 0..2 {
            ping(&mut connect(&gateway));
        }
        assert!(began.elapsed() >= Duration::from_millis(400));
        Dump::wait(&gateway, "one dial ran out", |dump| dump.sum("timeout_connect") == 1);
    }

    /// A relay at rest ends; one that is not, in whatever direction, goes on.
    fn idle_timeout(driver) {
        let backend = Backend::start(echo);
        let keys = config::tcp_pool("idle_timeout = \"3s\"");
        let gateway = Gateway::start(driver, &single(&[backend.address()], &keys));
        assert_takes(Duration::from_secs(3), || {
            let mut client = connect(&gateway);
            for _ in 0..6 {
                // Together longer than the timer, each far shorter: also on a host that stands still for a moment.
                thread::sleep(Duration::from_millis(600));
                ping(&mut client);
            }
            let began = Instant::now();
            assert_eq!(client.until_end(), Err(Failure::Reset));
            // The ping before was under way already when the gateway last looked at its clock.
            began.elapsed() + Duration::from_millis(30)
        });
        Dump::wait(&gateway, "the timer", |dump| dump.sum("timeout_tcp_idle") >= 1);
    }

    /// The end of the longest duration, whatever moves.
    fn connection_duration(driver) {
        let backend = Backend::start(echo);
        let keys = config::tcp_pool("max_connection_duration = \"800ms\"");
        let gateway = Gateway::start(driver, &single(&[backend.address()], &keys));
        let mut client = connect(&gateway);
        let began = Instant::now();
        while client.try_send(b"ping").is_ok() && client.bytes(4).is_ok() {
            assert!(began.elapsed() < DEADLINE, "it lasts");
        }
        assert!(began.elapsed() >= Duration::from_millis(800), "{:?}", began.elapsed());
        Dump::wait(&gateway, "the timer", |dump| dump.sum("timeout_connection_duration") == 1);
        backend.wait_ended(1);
    }

    /// 64 MiB in both directions at once arrive unchanged, by splice; at rest no pipe and no buffer is held, and what is
    /// small goes on.
    fn bulk(driver) {
        let (up, down) = (random_megabytes(64), random_megabytes(64));
        let wanted = checksum(&up);
        let backend = Backend::start({
            let (length, down) = (up.len(), down.clone());
            move |conn| {
                thread::scope(|scope| {
                    let mut sender = conn.sender();
                    let down = &down;
                    scope.spawn(move || sender.send(down));
                    let received = conn.bytes(length).unwrap();
                    assert_eq!(checksum(&received), wanted);
                });
                echo(conn);
            }
        });
        let gateway = Gateway::start(driver, &single(&[backend.address()], ""));
        let mut client = connect(&gateway);
        thread::scope(|scope| {
            let mut sender = client.sender();
            scope.spawn({
                let up = &up;
                move || sender.send(up)
            });
            let received = client.bytes(down.len()).unwrap();
            assert_eq!(checksum(&received), checksum(&down));
        });
        let dump = Dump::wait(&gateway, "no buffer", |dump| dump.sum("buffers_in_use") == 0);
        assert!(dump.sum("spliced_relays") >= 2, "{dump:?}");
        for _ in 0..3 {
            ping(&mut client);
            thread::sleep(Duration::from_millis(700));
        }
        client.half_close();
        client.assert_closed();
    }

    /// The end behind bulk is passed on, and so is a reset in its middle.
    fn bulk_and_an_end(driver) {
        let body = random_megabytes(8);
        let backend = Backend::start({
            let body = body.clone();
            move |conn| {
                conn.send(&body);
                if conn.number == 1 {
                    conn.reset();
                }
            }
        });
        let gateway = Gateway::start(driver, &single(&[backend.address()], ""));
        let mut client = connect(&gateway);
        assert_eq!(checksum(&client.until_end().unwrap()), checksum(&body));
        let mut client = connect(&gateway);
        assert_eq!(client.bytes(100_000).unwrap().len(), 100_000);
        assert_eq!(client.until_end(), Err(Failure::Reset));
    }

    /// A client that does not read holds its own relay up and nobody else's; memory stays bounded.
    fn slow_readers(driver) {
        let backend = Backend::start(|conn| {
            if conn.number == 0 {
                assert!(conn.try_send(&vec![7; 256 << 20]).is_err(), "all of it was taken");
            } else {
                echo(conn);
            }
        });
        let gateway = Gateway::start(driver, &single(&[backend.address()], ""));
        let slow = connect(&gateway);
        backend.wait_connections(1);
        let mut quick = connect(&gateway);
        for _ in 0..50 {
            ping(&mut quick);
        }
        drop(slow);
        backend.wait_ended(1);
        ping(&mut quick);
    }

    /// Relays live on over reloads, also those of a port that closes, and hold no table.
    fn reloads(driver) {
        let (old, new) = (Backend::start(echo), named("new"));
        let (kept, gone) = (free_port(), free_port());
        let text = |ports: &[u16], backend: &Backend| {
            servers(ports) + &rules(&[("", &[("app", 1)])]) + &config::service("app", &[backend.address()], "")
        };
        let gateway = two_shards(driver, &text(&[kept, gone], &old));
        let address = |port: u16| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        let mut relays = [Client::connect(address(kept)), Client::connect(address(gone))];
        relays.iter_mut().for_each(ping);
        for generation in 2..6 {
            gateway.reload(&text(&[kept], &new), generation);
            relays.iter_mut().for_each(ping);
        }
        assert_eq!(ask(address(kept)), "new");
        let began = Instant::now();
        while TcpListener::bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), gone)).is_err() {
            assert!(began.elapsed() < DEADLINE, "the port is still taken");
            thread::sleep(Duration::from_millis(20));
        }
        relays.iter_mut().for_each(ping);
    }

    /// During a drain relays work on until its deadline, which says how many it cut.
    fn drains(driver) {
        assert_takes(Duration::from_secs(1), || {
            let backend = Backend::start(echo);
            let text = "[process]\ndrain_timeout = \"1s\"\n".to_owned() + &single(&[backend.address()], "");
            let mut gateway = Gateway::start(driver, &text);
            let mut client = connect(&gateway);
            ping(&mut client);
            gateway.signal("TERM");
            gateway.wait_stderr("draining");
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(600) {
                ping(&mut client);
            }
            assert_eq!(gateway.wait_exit().code(), Some(0));
            gateway.wait_stderr(" s: 0 exchanges and 1 tunnel cut\n");
            began.elapsed()
        });
    }

    /// The last relay's end is the drain's.
    fn the_last_relay_ends_a_drain(driver) {
        let backend = Backend::start(echo);
        let text = "[process]\ndrain_timeout = \"60s\"\n".to_owned() + &single(&[backend.address()], "");
        let mut gateway = Gateway::start(driver, &text);
        let mut client = connect(&gateway);
        ping(&mut client);
        gateway.signal("TERM");
        gateway.wait_stderr("draining");
        ping(&mut client);
        drop(client);
        assert_eq!(gateway.wait_exit().code(), Some(0));
    }
}
