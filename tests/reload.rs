//! Reload by SIGHUP: what changes, what lives on, and that nothing is lost on the way.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::pressure::{Dump, Plain, fds, free_port, rss_kib, try_get, two_shards};
use crate::support::{Backend, Client, Conn, Gateway, config};

/// One server per port, each bound to `bind`.
fn ports(bind: &str, ports: &[u16], backend: SocketAddr) -> String {
    let mut text = String::from("[[gateway]]\nname = \"web\"\n");
    for port in ports {
        text += &format!("[[gateway.server]]\nport = {port}\n{bind}\nprotocol = \"HTTP\"\nhosts = [\"*\"]\n");
    }
    text += &config::virtual_service("all", "*", "route = [{ destination = { host = \"app\" } }]");
    text + &config::service("app", &[backend], "")
}

const LOCAL: &str = "bind = \"127.0.0.1\"";

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Switches to a tunnel that echoes, and answers plain requests.
fn echo_tunnel(conn: &mut Conn) {
    while let Some(request) = conn.request() {
        if !request.headers.has("upgrade") {
            conn.reply(200, "ok");
            continue;
        }
        conn.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        while let Ok(bytes) = conn.bytes(4) {
            conn.send(bytes);
        }
        return;
    }
}

fn open_tunnel(address: SocketAddr) -> Client {
    let mut client = Client::connect(address);
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(client.response("GET").status, 101);
    client
}

#[track_caller]
fn ping(tunnel: &mut Client) {
    tunnel.send("ping");
    assert_eq!(tunnel.bytes(4).as_deref(), Ok(&b"ping"[..]));
}

both_drivers! {
    /// Ports open and close with the configuration, also one that closed in the reload before; the others' connections
    /// do not notice.
    fn ports_come_and_go(driver) {
        let backend = Plain::small();
        let (kept, gone, new) = (free_port(), free_port(), free_port());
        let gateway = two_shards(driver, &ports(LOCAL, &[kept, gone], backend.address()));
        let mut untouched = Client::connect(local(kept));
        let mut on_gone = Client::connect(local(gone));
        assert_eq!(untouched.get("a.test", "/").status, 200);
        assert_eq!(on_gone.get("a.test", "/").status, 200);

        gateway.reload(&ports(LOCAL, &[kept, new], backend.address()), 2);
        assert_eq!(Client::connect(local(new)).get("a.test", "/").status, 200);
        // An open connection of a closed port is served once more, and told.
        let last = on_gone.get("a.test", "/");
        assert!(last.status == 200 && last.headers.lists("connection", "close"), "{last:?}");
        on_gone.assert_closed();
        let started = Instant::now();
        while TcpStream::connect(local(gone)).is_ok() {
            assert!(started.elapsed() < Duration::from_secs(5), "the port still accepts");
        }

        for generation in 3..9 {
            let second = if generation % 2 == 1 { gone } else { new };
            gateway.reload(&ports(LOCAL, &[kept, second], backend.address()), generation);
            assert_eq!(Client::connect(local(second)).get("a.test", "/").status, 200);
        }
        let still = untouched.get("a.test", "/");
        assert!(still.status == 200 && !still.headers.has("connection"), "{still:?}");
    }

    /// A port closes within seconds also when no connection of its full queue can have a place.
    fn a_port_closes_while_the_process_is_full(driver) {
        let backend = Backend::start(echo_tunnel);
        let (kept, gone) = (free_port(), free_port());
        let text = |open: &[u16]| "[process]\nconnections_max = 2\n".to_owned() + &ports(LOCAL, open, backend.address());
        let gateway = two_shards(driver, &text(&[kept, gone]));
        let mut tunnels = [open_tunnel(local(kept)), open_tunnel(local(kept))];
        let waiting: Vec<Client> = (0..300).map(|_| Client::connect(local(gone))).collect();
        gateway.reload(&text(&[kept]), 2);
        let started = Instant::now();
        while TcpStream::connect(local(gone)).is_ok() {
            assert!(started.elapsed() < Duration::from_secs(4), "the port still accepts");
            thread::sleep(Duration::from_millis(20));
        }
        drop(waiting);
        tunnels.iter_mut().for_each(ping);
    }

    /// A server may move to another address of its port.
    fn an_address_changes(driver) {
        let backend = Plain::small();
        let port = free_port();
        let gateway = two_shards(driver, &ports(LOCAL, &[port], backend.address()));
        assert_eq!(Client::connect(local(port)).get("a.test", "/").status, 200);
        for (generation, bind) in [(2, ""), (3, "bind = \"0.0.0.0\""), (4, LOCAL)] {
            gateway.reload(&ports(bind, &[port], backend.address()), generation);
            // The old address closes about now: what comes at that very instant is reset.
            let served = |_| try_get(&mut Client::connect(local(port)), "/") == Ok(200);
            assert!((1..=3).any(served), "{bind}");
        }
    }

    /// A port that somebody else has fails the whole reload: not even the ports that are free open.
    fn a_taken_port_changes_nothing(driver) {
        let (old, new) = (Backend::fixed("old"), Backend::fixed("new"));
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken_port = taken.local_addr().unwrap().port();
        let (kept, free) = (free_port(), free_port());
        let gateway = two_shards(driver, &ports(LOCAL, &[kept], old.address()));
        let mut client = Client::connect(local(kept));
        assert_eq!(client.get("a.test", "/").text(), "old");
        gateway.rewrite(&ports(LOCAL, &[kept, free, taken_port], new.address()));
        gateway.signal("HUP");
        gateway.wait_stderr("not reloaded, generation 1 stays: can not bind");
        let log = gateway.stderr();
        assert!(log.contains(&format!("can not bind 127.0.0.1:{taken_port} (gateway ")), "{log}");
        assert!(TcpStream::connect(local(free)).is_err(), "a port of a failed reload is open");
        assert_eq!(client.get("a.test", "/").text(), "old");
        drop(taken);
        gateway.reload(&ports(LOCAL, &[kept, free, taken_port], new.address()), 2);
        for port in [kept, free, taken_port] {
            assert_eq!(Client::connect(local(port)).get("a.test", "/").text(), "new");
        }
        assert_eq!(client.get("a.test", "/").text(), "new");
    }

    /// Connections, tunnels and the pools of endpoints that stay go through reloads.
    fn what_stays_lives_on(driver) {
        let backend = Backend::start(echo_tunnel);
        let other = Backend::fixed("other");
        let text = |host: &str| {
            config::gateway("", &["*"])
                + &config::virtual_service("a", "a.test", "route = [{ destination = { host = \"app\" } }]")
                + &config::virtual_service("b", host, "route = [{ destination = { host = \"other\" } }]")
                + &config::service("app", &[backend.address()], "")
                + &config::service("other", &[other.address()], "")
        };
        let gateway = Gateway::start(driver, &text("b1.test"));
        let mut client = gateway.connect();
        let mut tunnel = open_tunnel(gateway.address());
        assert_eq!(client.get("a.test", "/").text(), "ok");
        let connections = backend.connections();
        for generation in 2..7 {
            let host = format!("b{generation}.test");
            gateway.reload(&text(&host), generation);
            ping(&mut tunnel);
            assert_eq!(client.get("a.test", "/").text(), "ok");
            assert_eq!(client.get(&host, "/").text(), "other");
            assert_eq!(client.get(&format!("b{}.test", generation - 1), "/").status, 404);
        }
        assert_eq!(backend.connections(), connections, "the pool did not outlive a reload");
        assert_eq!(other.connections(), 1, "nor did this one");
    }

    /// A request that began before a reload ends by the routes it began with, and its connection stays open.
    fn a_request_under_way_is_finished(driver) {
        let gate = crate::support::Gate::new();
        let old = Backend::start({
            let gate = gate.clone();
            move |conn| {
                while conn.request().is_some() {
                    gate.wait();
                    conn.reply(200, "old");
                }
            }
        });
        let new = Backend::fixed("new");
        let gateway = Gateway::start(driver, &config::single(old.address(), "", ""));
        let mut client = gateway.connect();
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        old.wait_requests(1);
        gateway.reload(&config::single(new.address(), "", ""), 2);
        gate.open();
        assert_eq!(client.response("GET").text(), "old");
        assert_eq!(client.get("a.test", "/").text(), "new");
        // The endpoint that no table names any more keeps no idle connection.
        Dump::wait(&gateway, "one pooled connection", |dump| dump.sum("upstream_open") == 1);
    }

    /// What is fixed for a process's life is said, not silently ignored; what may change does.
    fn fixed_keys_are_named(driver) {
        let backend = Plain::small();
        let single = config::single(backend.address(), "", "");
        let gateway = Gateway::start(driver, &single);
        for (generation, key) in [(2, "cores = 1"), (3, "driver = \"epoll\""), (4, "ring_entries = 512")] {
            gateway.reload(&format!("[process]\n{key}\n{single}"), generation);
            let log = gateway.stderr();
            let warnings = log.matches("fixed while the process lives").count();
            assert_eq!(warnings, generation as usize - 1, "{key}: {log}");
        }
        // Back to what it was started with.
        gateway.reload(&single, 5);
        assert_eq!(gateway.stderr().matches("fixed while the process lives").count(), 3);
        assert_eq!(gateway.connect().get("a.test", "/").status, 200);
    }

    /// Reloads every 50 ms under traffic, with a port that comes and goes: no request is lost, a tunnel survives,
    /// descriptors and memory come back.
    fn a_soak_loses_nothing(driver) {
        soak(driver);
    }
}

/// What the clients of the soak have done.
#[derive(Default)]
struct Tally {
    stop: AtomicBool,
    served: AtomicU64,
}

fn traffic(address: SocketAddr, fresh: bool, tally: &Tally) {
    let mut client = Client::connect(address);
    while !tally.stop.load(Ordering::Relaxed) {
        if fresh {
            client = Client::connect(address);
        }
        let status = try_get(&mut client, "/");
        assert_eq!(status, Ok(200), "fresh: {fresh}, after {:?} requests", tally.served);
        tally.served.fetch_add(1, Ordering::Relaxed);
    }
}

fn soak(driver: crate::support::Driver) {
    let duration = Duration::from_secs(if crate::pressure::full() { 60 } else { 4 });
    let backends = [Plain::small(), Plain::small()];
    let tunnels = Backend::start(echo_tunnel);
    let (kept, sometimes) = (free_port(), free_port());
    let text = |generation: u32| {
        let all = [kept, sometimes];
        let open = if generation.is_multiple_of(2) { &all[..1] } else { &all[..] };
        ports(LOCAL, open, backends[generation as usize / 2 % 2].address())
            + &config::virtual_service("t", "t.test", "route = [{ destination = { host = \"tunnels\" } }]")
            + &config::service("tunnels", &[tunnels.address()], "")
    };
    let gateway = two_shards(driver, &text(1));
    let mut tunnel = Client::connect(local(kept));
    tunnel.send("GET / HTTP/1.1\r\nHost: t.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(tunnel.response("GET").status, 101);

    let mut generation = 1;
    let mut reload = || {
        generation += 1;
        let started = Instant::now();
        gateway.reload(&text(generation), generation);
        thread::sleep(Duration::from_millis(50).saturating_sub(started.elapsed()));
    };
    // The first reloads take memory that the following ones use again.
    (0..10).for_each(|_| reload());
    let (fds_before, rss_before) = (fds(gateway.pid()), rss_kib(gateway.pid()));
    let tally = Arc::new(Tally::default());
    let clients: Vec<_> = [false, false, true, true]
        .map(|fresh| {
            let tally = Arc::clone(&tally);
            thread::spawn(move || traffic(local(kept), fresh, &tally))
        })
        .into();
    let started = Instant::now();
    while started.elapsed() < duration {
        reload();
        ping(&mut tunnel);
        let failed = clients.iter().any(thread::JoinHandle::is_finished);
        assert!(!failed, "a client failed");
    }
    tally.stop.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().unwrap());
    assert!(tally.served.load(Ordering::Relaxed) > 100, "{:?}", tally.served);
    ping(&mut tunnel);
    after_soak(&gateway, fds_before, rss_before);
}

fn after_soak(gateway: &Gateway, fds_before: usize, rss_before: u64) {
    // One session is the tunnel; each shard may keep an idle connection to the endpoints in use.
    let dump = Dump::wait(gateway, "the clients gone", |dump| dump.sum("sessions_open") == 1);
    let pooled = dump.sum("upstream_idle") as usize;
    let fds_after = fds(gateway.pid());
    assert!(
        fds_after <= fds_before + pooled + 2,
        "descriptors: {fds_before}, then {fds_after} ({pooled} pooled)"
    );
    let rss_after = rss_kib(gateway.pid());
    assert!(rss_after < rss_before + 24 * 1024, "KiB resident: {rss_before}, then {rss_after}");
}
