//! What connections of all kinds share: limits of a gateway, rules for some gateways, cuts, and the record of a relay.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustls::version::{TLS12, TLS13};

use crate::pressure::{Dump, assert_takes, free_port, two_shards};
use crate::support::tempdir::TempDir;
use crate::support::tls::{Authority, TlsClient};
use crate::support::{Backend, Client, Conn, DEADLINE, Driver, Failure, Gateway, config};

const INTERNAL_ERROR: &[u8] = &[0x15, 3, 3, 0, 2, 2, 80];

/// Sends every byte back, and the end.
fn echo(conn: &mut Conn) {
    while let Ok(byte) = conn.bytes(1) {
        if conn.try_send(&byte).is_err() {
            return;
        }
    }
}

fn server(port: u16, protocol: &str, more: &str) -> String {
    format!(
        "[[gateway.server]]\nport = {port}\nbind = \"127.0.0.1\"\nprotocol = \"{protocol}\"\nhosts = [\"*\"]\n{more}\n"
    )
}

/// A gateway `web` with one TCP server and everything to one service.
fn tcp(gateway_keys: &str, backend: SocketAddr, service_keys: &str) -> String {
    format!(
        "[[gateway]]\nname = \"web\"\n{gateway_keys}\n{}[[virtual_service]]\nname = \"all\"\nhosts = [\"*\"]\n\
         gateways = [\"web\"]\n[[virtual_service.tcp]]\nroute = [{{ destination = {{ host = \"app\" }} }}]\n{}",
        server(0, "TCP", ""),
        config::service("app", &[backend], service_keys)
    )
}

fn limit(count: u32) -> String {
    format!("limits = {{ connections_max = {count} }}")
}

#[track_caller]
fn ping(client: &mut Client) {
    client.send("ping");
    assert_eq!(client.bytes(4).as_deref(), Ok(&b"ping"[..]));
}

pub(crate) fn start_with_log(driver: Driver, text: &str, filter: &str) -> Gateway {
    let directory = TempDir::new();
    let path = directory.write("ringgate.toml", text);
    let mut command = std::process::Command::new(crate::support::gateway::binary());
    command.arg("run").arg(path).args(["--driver", driver.name(), "--cores", "1", "--no-pin"]);
    command.env("RUST_LOG", filter);
    Gateway::spawn(command, directory)
}

/// TLS that ends at the gateway and goes on as bytes.
struct Terminating {
    authority: Authority,
    directory: TempDir,
}

impl Terminating {
    fn new() -> Self {
        Self { authority: Authority::new("test CA"), directory: TempDir::new() }
    }

    fn config(&self, protocol: &str, gateway_keys: &str, kind: &str, service: &str) -> String {
        let (certificate, key) = self.authority.server(&["a.test"]).write(&self.directory, "a.test");
        let tls = format!(
            "tls = {{ mode = \"SIMPLE\", server_certificate = {certificate:?}, private_key = {key:?} }}"
        );
        format!(
            "[[gateway]]\nname = \"web\"\n{gateway_keys}\n{}[[virtual_service]]\nname = \"all\"\nhosts = [\"*\"]\n\
             gateways = [\"web\"]\n[[virtual_service.{kind}]]\nroute = [{{ destination = {{ host = \"app\" }} }}]\n{service}",
            server(0, protocol, &tls)
        )
    }

    fn connect(&self, gateway: &Gateway, version: &'static rustls::SupportedProtocolVersion) -> TlsClient {
        TlsClient::connect(gateway.address(), &self.authority.client_config(&[version], None), "a.test")
    }
}

both_drivers! {
    /// Beyond a gateway's limit connections are reset; the count outlives reloads.
    fn tcp_connections_max(driver) {
        let backend = Backend::start(echo);
        let text = tcp(&limit(2), backend.address(), "");
        let gateway = Gateway::start(driver, &text);
        let mut clients = [gateway.connect(), gateway.connect()];
        clients.iter_mut().for_each(ping);
        // The reset may come before the client has learned that it is connected.
        let refused = || match TcpStream::connect_timeout(&gateway.address(), DEADLINE) {
            Ok(stream) => assert_eq!(Client::over(stream).until_end(), Err(Failure::Reset)),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        };
        refused();
        gateway.reload(&text.replace("name = \"all\"", "name = \"other\""), 2);
        refused();
        gateway.reload(&text.replace("connections_max = 2", "connections_max = 3"), 3);
        let mut third = gateway.connect();
        ping(&mut third);
        refused();
        drop(third);
        Dump::wait(&gateway, "two are left", |dump| dump.sum("sessions_open") == 2);
        ping(&mut gateway.connect());
        assert_eq!(Dump::of(&gateway).sum("gateway_connections_refused"), 3);
        gateway.wait_stderr("limits.connections_max is reached");
    }

    /// Over HTTP the first request is answered.
    fn http_connections_max(driver) {
        let backend = Backend::fixed("ok");
        let gateway = Gateway::start(driver, &config::single(backend.address(), &limit(1), ""));
        let mut first = gateway.connect();
        assert_eq!(first.get("a.test", "/").status, 200);
        let mut second = gateway.connect();
        let response = second.get("a.test", "/");
        assert_eq!(response.text(), "503 Service Unavailable: gateway_connections_max\n");
        assert_eq!(response.headers.get("connection"), Some("close"));
        second.assert_closed();
        // One that says nothing does not keep others out for the time that heads have.
        assert_takes(Duration::from_secs(1), || {
            let began = Instant::now();
            gateway.connect().assert_closed();
            began.elapsed()
        });
        assert_eq!(first.get("a.test", "/").status, 200);
        drop((first, second));
        Dump::wait(&gateway, "all closed", |dump| dump.sum("sessions_open") == 0);
        assert_eq!(gateway.connect().get("a.test", "/").status, 200);
        let dump = Dump::of(&gateway);
        assert_eq!((dump.sum("gateway_connections_refused") > 1, dump.sum("local_replies")), (true, 1));
    }

    /// Where the name tells whose gateway it is, the count is that gateway's; beyond it the client hears an alert.
    fn tls_connections_max(driver) {
        let site = Terminating::new();
        let backend = Backend::fixed("ok");
        let port = free_port();
        let service = config::service("app", &[backend.address()], "");
        let one = site.config("HTTPS", &limit(1), "http", &service).replace("port = 0", &format!("port = {port}"));
        let passes = "tls = { mode = \"PASSTHROUGH\" }";
        let two = format!(
            "[[gateway]]\nname = \"two\"\n{}\n{}[[virtual_service]]\nname = \"two\"\nhosts = [\"p.test\"]\n\
             gateways = [\"two\"]\n[[virtual_service.tls]]\nmatch = [{{ sni_hosts = [\"p.test\"] }}]\n\
             route = [{{ destination = {{ host = \"pass\" }} }}]\n",
            limit(1),
            server(port, "TLS", passes).replace("\"*\"", "\"p.test\""),
        );
        let sink = Backend::start(|conn| drop(conn.until_end()));
        let gateway = Gateway::start(driver, &(one + &two + &config::service("pass", &[sink.address()], "")));
        let address = gateway.listening()[0].address;
        let connect = |name: &str| {
            let mut client = Client::connect(address);
            client.send(crate::passthrough::hello(name));
            client
        };
        let config = site.authority.client_config(&[&TLS13], None);
        let mut terminated = TlsClient::connect(address, &config, "a.test");
        assert_eq!(terminated.get("a.test", "/").status, 200);
        let _passed = connect("p.test");
        sink.wait_connections(1);
        for name in ["a.test", "p.test"] {
            assert_eq!(connect(name).until_end().as_deref(), Ok(INTERNAL_ERROR));
        }
        assert_eq!(Dump::of(&gateway).sum("gateway_connections_refused"), 2);
        assert_eq!(terminated.get("a.test", "/").status, 200);
    }

    /// The bound is one for all shards.
    fn shards_share_the_limit(driver) {
        let backend = Backend::start(echo);
        let gateway = two_shards(driver, &tcp(&limit(10), backend.address(), ""));
        // One that is refused may learn of it before it has learned that it is connected.
        let connect = |_| TcpStream::connect_timeout(&gateway.address(), DEADLINE).ok().map(Client::over);
        let mut clients: Vec<Client> = (0..30).filter_map(connect).collect();
        let served = clients.iter_mut().filter_map(|client| {
            client.try_send(b"ping").ok()?;
            client.bytes(4).ok()
        });
        assert_eq!(served.count(), 10);
        assert_eq!(Dump::of(&gateway).sum("gateway_connections_refused"), 20);
    }

    /// A rule holds at the gateways and ports that it names.
    fn rules_for_gateways(driver) {
        let backends = ["a", "b", "c"].map(|name| Backend::start(move |conn| {
            if conn.head().is_some() {
                conn.reply(200, name);
            }
        }));
        let ports = [free_port(), free_port()];
        let mut text = String::new();
        for (name, port) in [("one", ports[0]), ("two", ports[1])] {
            text += &format!("[[gateway]]\nname = \"{name}\"\n{}{}", server(port, "HTTP", ""), server(0, "TCP", ""));
        }
        text += "[[virtual_service]]\nname = \"all\"\nhosts = [\"*\"]\ngateways = [\"one\", \"two\"]\n";
        let rule = |kind: &str, conditions: &str, to: &str| {
            format!(
                "[[virtual_service.{kind}]]\nmatch = [{{ {conditions} }}]\n\
                 route = [{{ destination = {{ host = \"{to}\" }} }}]\n"
            )
        };
        text += &rule("http", "gateways = [\"two\"]", "a");
        text += &rule("http", &format!("port = {}, uri = {{ prefix = \"/x\" }}", ports[1]), "b");
        text += &rule("http", &format!("port = {}, gateways = [\"one\", \"two\"]", ports[0]), "c");
        text += &rule("tcp", "gateways = [\"two\"]", "a");
        text += &rule("tcp", "gateways = [\"one\"]", "b");
        for (name, backend) in ["a", "b", "c"].iter().zip(&backends) {
            text += &config::service(name, &[backend.address()], "");
        }
        let gateway = Gateway::start(driver, &text);
        for (name, server, wanted) in [("one", 1, "c"), ("two", 1, "a"), ("one", 2, "b"), ("two", 2, "a")] {
            let mut client = Client::connect(gateway.address_of(name, server));
            assert_eq!(client.get("a.test", "/x").text(), wanted, "{name} {server}");
        }
    }

    /// A relay that its time ends is cut: neither side takes what it has for all of it.
    fn timers_cut(driver) {
        for (keys, counter) in [
            ("idle_timeout = \"300ms\"", "timeout_tcp_idle"),
            ("max_connection_duration = \"300ms\"", "timeout_connection_duration"),
        ] {
            let backend = Backend::start(|conn| {
                conn.send("part");
                assert_eq!(conn.until_end(), Err(Failure::Reset));
            });
            let keys = config::tcp_pool(keys);
            let gateway = Gateway::start(driver, &tcp("", backend.address(), &keys));
            let mut client = gateway.connect();
            client.send("part");
            assert_eq!(client.bytes(4).unwrap(), b"part");
            assert_eq!(client.until_end(), Err(Failure::Reset));
            backend.wait_ended(1);
            let site = Terminating::new();
            let service = config::service("app", &[backend.address()], &keys);
            let secure = Gateway::start(driver, &site.config("TLS", "", "tcp", &service));
            for (number, version) in [&TLS12, &TLS13].into_iter().enumerate() {
                let mut client = site.connect(&secure, version);
                client.send("part");
                assert_eq!(client.bytes(4).unwrap(), b"part");
                assert!(client.until_end().is_err(), "no close_notify");
                backend.wait_ended(2 + number);
            }
            for (gateway, count) in [(&gateway, 1), (&secure, 2)] {
                Dump::wait(gateway, "the timer", |dump| dump.sum(counter) == count);
            }
        }
    }

    /// So is one that lasts beyond a drain, however much it moves.
    fn drains_cut(driver) {
        let backend = Backend::start(|conn| {
            conn.send("part");
            let rest = conn.until_end();
            assert_eq!(rest, Err(Failure::Reset));
        });
        let text = format!("[process]\ndrain_timeout = \"1s\"\n{}", tcp("", backend.address(), ""));
        let mut gateway = Gateway::start(driver, &text);
        let mut clients = [gateway.connect(), gateway.connect()];
        for client in &mut clients {
            assert_eq!(client.bytes(4).unwrap(), b"part");
        }
        let mut sender = clients[1].sender();
        let began = Instant::now();
        gateway.signal("TERM");
        // One rests, one is never at rest.
        let busy = thread::spawn(move || {
            use std::io::Write;
            while began.elapsed() < DEADLINE {
                if let Err(error) = sender.0.write_all(&[7; 1000]) {
                    return error.kind();
                }
                thread::sleep(Duration::from_millis(1));
            }
            ErrorKind::TimedOut
        });
        let [resting, moving] = clients.each_mut().map(Client::until_end);
        assert!(began.elapsed() >= Duration::from_secs(1));
        assert_eq!(resting, Err(Failure::Reset));
        // A reset is told once: to who reads or to who writes.
        let written = busy.join().unwrap();
        assert!(moving == Err(Failure::Reset) || written == ErrorKind::ConnectionReset, "{moving:?} {written}");
        backend.wait_ended(2);
        assert!(gateway.wait_exit().success());
        gateway.wait_stderr("2 tunnels cut");
    }

    /// One line when a relay ends, by the target of its own.
    fn records(driver) {
        let backend = Backend::start(|conn| {
            if conn.number == 1 {
                conn.send("four");
                conn.half_close();
            }
            let _ = conn.until_end();
            if conn.number == 2 {
                conn.reset();
            }
        });
        let keys = config::tcp_pool("idle_timeout = \"400ms\"");
        let gateway = start_with_log(driver, &tcp("", backend.address(), &keys), "info,ringgate::connection=debug");
        let record = |number: usize, parts: &[&str]| {
            let lines = || gateway.stderr().lines().filter(|line| line.contains("ringgate::connection")).count();
            let began = Instant::now();
            while lines() < number && began.elapsed() < DEADLINE {
                thread::sleep(Duration::from_millis(10));
            }
            let log = gateway.stderr();
            let line = log.lines().filter(|line| line.contains("ringgate::connection")).nth(number - 1).unwrap();
            let endpoint = format!("endpoint={}", backend.address());
            for part in parts.iter().chain(&["DEBUG", "gateway=web", "cluster=app", "peer=127.0.0.1:", "ms=", &endpoint]) {
                assert!(line.contains(part), "{part}: {line}");
            }
            assert!(!line.contains("sni="), "{line}");
        };
        let mut client = gateway.connect();
        client.send("hello");
        client.half_close();
        client.assert_closed();
        record(1, &["reason=\"client_closed\"", "received=5", "sent=0"]);
        let mut client = gateway.connect();
        assert_eq!(client.until_end().unwrap(), b"four");
        client.half_close();
        record(2, &["reason=\"endpoint_closed\"", "received=0", "sent=4"]);
        gateway.connect().half_close();
        record(3, &["reason=\"error\""]);
        assert_eq!(gateway.connect().until_end(), Err(Failure::Reset));
        record(4, &["reason=\"idle_timeout\""]);
    }
}
