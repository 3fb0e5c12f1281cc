//! Accept balance: long-lived connections are spread over the shards, and none is lost on its way to another.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use socket2::{Domain, Socket, Type};

use crate::pressure::{Baseline, Dump, Plain, free_port};
use crate::support::{Client, DEADLINE, Driver, Gateway, config};

const SHARDS: usize = 4;

/// One server, and another on each of `ports`.
fn text(backend: &Plain, balance: &str, ports: &[u16]) -> String {
    let mut text = format!("[process]\naccept_balance = {balance:?}\n");
    text += &config::single(backend.address(), "", "");
    let mut servers = String::new();
    for port in ports {
        servers += &format!(
            "[[gateway.server]]\nport = {port}\nbind = \"127.0.0.1\"\nprotocol = \"HTTP\"\nhosts = [\"*\"]\n"
        );
    }
    let at = text.find("[[virtual_service]]").unwrap();
    text.insert_str(at, &servers);
    text
}

fn start(driver: Driver, text: &str) -> Gateway {
    Gateway::start_with(text, &["--driver", driver.name(), "--cores", &SHARDS.to_string(), "--no-pin"])
}

/// Connects from an address that nobody else uses: the kernel's choice of a shard follows from both ends' addresses.
fn connect_from(from: SocketAddr, to: SocketAddr) -> (Client, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&from.into()).unwrap();
    socket.connect_timeout(&to.into(), DEADLINE).unwrap();
    let stream: TcpStream = socket.into();
    let local = stream.local_addr().unwrap();
    (Client::over(stream), local)
}

/// Connects until `count` connections are on shard 0, the kernel choosing; resets the others.
fn crowd(gateway: &Gateway, count: usize) -> Vec<(Client, SocketAddr)> {
    let (mut wanted, mut others) = (Vec::new(), Vec::new());
    let open = |dump: &Dump| dump.sum("sessions_open");
    while wanted.len() < count {
        let client = connect_from("127.0.0.2:0".parse().unwrap(), gateway.address());
        let total = (wanted.len() + others.len() + 1) as u64;
        let dump = Dump::wait(gateway, "one more session", |dump| open(dump) == total);
        let on_first = dump.each("sessions_open")[0] > wanted.len() as u64;
        if on_first { &mut wanted } else { &mut others }.push(client);
    }
    others.into_iter().for_each(|(client, _)| client.reset());
    Dump::wait(gateway, "the others gone", |dump| open(dump) == count as u64);
    wanted
}

fn ask(client: &mut Client) {
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
}

both_drivers! {
    /// Forty connections that stay: without balance they lie as chance has it, with it each shard has its share.
    fn long_lived_connections_are_spread(driver) {
        let mut spread = Vec::new();
        for balance in ["off", "auto"] {
            let backend = Plain::small();
            let gateway = start(driver, &text(&backend, balance, &[]));
            let baseline = Baseline::of(&gateway);
            let mut clients: Vec<Client> = (0..40).map(|_| gateway.connect()).collect();
            for client in &mut clients {
                assert_eq!(client.get("a.test", "/").status, 200);
            }
            let dump = Dump::wait(&gateway, "forty sessions", |dump| dump.sum("sessions_open") == 40);
            assert_eq!(dump.sum("sessions_handed_over"), dump.sum("sessions_taken_over"));
            assert_eq!(dump.sum("sessions"), 40);
            spread.push((dump.each("sessions_open"), dump.sum("sessions_handed_over")));
            drop((clients, backend));
            baseline.assert_back(&gateway);
            gateway.stop();
        }
        println!("off: {:?}, auto: {:?}", spread[0], spread[1]);
        assert_eq!(spread[0].1, 0, "moved although off");
        // Ten each; one more or less where two shards accepted at the same moment.
        assert!(spread[1].0.iter().all(|open| (8..=12).contains(open)), "{:?}", spread[1]);
    }

    /// Connections that the kernel all gives to one shard: it keeps them when told so, and shares them otherwise. A
    /// reload changes which.
    fn a_crowded_shard_shares(driver) {
        let backend = Plain::small();
        let gateway = start(driver, &text(&backend, "off", &[]));
        let sources: Vec<SocketAddr> = crowd(&gateway, 12)
            .into_iter()
            .map(|(client, source)| {
                client.reset();
                source
            })
            .collect();
        for (generation, balance, expected) in [(2, "auto", [3; SHARDS]), (3, "off", [12, 0, 0, 0])] {
            Dump::wait(&gateway, "no sessions", |dump| dump.sum("sessions_open") == 0);
            gateway.reload(&text(&backend, balance, &[]), generation);
            let mut clients: Vec<Client> = Vec::new();
            for source in &sources {
                let (mut client, _) = connect_from(*source, gateway.address());
                assert_eq!(client.get("a.test", "/").status, 200);
                clients.push(client);
            }
            let dump = Dump::of(&gateway);
            assert_eq!(dump.each("sessions_open"), expected, "{balance}: {dump:?}");
            assert_eq!(dump.each("sessions_handed_over"), [9, 0, 0, 0]);
            assert_eq!(dump.each("sessions_taken_over"), [0, 3, 3, 3]);
            clients.into_iter().for_each(Client::reset);
        }
        gateway.stop();
    }

    /// While a crowded shard hands over, listeners come and go and connections wait in the queues of those that go:
    /// every client gets its answer.
    fn none_is_lost_in_reloads(driver) {
        let backend = Plain::small();
        let gateway = start(driver, &text(&backend, "off", &[]));
        // On shard 0, for the whole test.
        let held = crowd(&gateway, 24);
        let port = free_port();
        let second: SocketAddr = ([127, 0, 0, 1], port).into();
        gateway.reload(&text(&backend, "auto", &[port]), 2);
        let handed = |gateway: &Gateway| Dump::of(gateway).each("sessions_handed_over")[0];
        for round in 0..4 {
            let before = handed(&gateway);
            let going = round % 2 == 0;
            // While the process stands still, the kernel goes on taking connections in.
            gateway.signal("STOP");
            let mut clients: Vec<Client> = (0..40).map(|_| gateway.connect()).collect();
            if going {
                clients.extend((0..40).map(|_| Client::connect(second)));
            }
            clients.iter_mut().for_each(ask);
            gateway.rewrite(&text(&backend, "auto", if going { &[] } else { std::slice::from_ref(&port) }));
            gateway.signal("HUP");
            gateway.signal("CONT");
            for (number, client) in clients.iter_mut().enumerate() {
                assert_eq!(client.response("GET").status, 200, "client {number} in round {round}");
            }
            gateway.wait_stderr(&format!("reloaded generation={}", round + 3));
            assert!(handed(&gateway) > before, "round {round}: nothing was handed over");
        }
        traffic_during_reloads(&gateway, &backend, 7);
        drop(held);
        gateway.stop();
    }

    /// The drain begins while a crowded shard hands over what waited in its queue.
    fn none_is_lost_in_the_drain(driver) {
        let backend = Plain::small();
        for round in 0..6 {
            let mut gateway = start(driver, &text(&backend, "off", &[]));
            let held = crowd(&gateway, 6);
            gateway.reload(&text(&backend, "auto", &[]), 2);
            gateway.signal("STOP");
            let mut clients: Vec<Client> = (0..200).map(|_| gateway.connect()).collect();
            clients.iter_mut().for_each(ask);
            if round % 2 == 0 {
                gateway.signal("TERM");
                gateway.signal("CONT");
            } else {
                gateway.signal("CONT");
                gateway.signal("TERM");
            }
            for (number, client) in clients.iter_mut().enumerate() {
                assert_eq!(client.response("GET").status, 200, "client {number} in round {round}");
            }
            assert_eq!(gateway.wait_exit().code(), Some(0));
            drop(held);
        }
    }
}

/// Clients that connect anew for each request while reloads follow one another.
fn traffic_during_reloads(gateway: &Gateway, backend: &Plain, generation: u32) {
    let (address, over) = (gateway.address(), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    assert_eq!(Client::connect(address).get("a.test", "/").status, 200);
                }
            });
        }
        for generation in generation..generation + 10 {
            gateway.reload(&text(backend, "auto", &[]), generation);
        }
        over.store(true, Ordering::Relaxed);
    });
}
