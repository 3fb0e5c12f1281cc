//! Everything that can go wrong with a connection, thousands of times at once: afterwards the gateway holds what it
//! held at first. `RINGGATE_FULL=1` makes it ten thousand.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use crate::pressure::{Baseline, Dump, Plain, PlainRequest, full, rss_kib};
use crate::support::config::{self, http_pool};
use crate::support::{Client, Driver, Gateway};

/// Clients at a time.
const THREADS: usize = 32;

/// What an endpoint does to a request, by its target.
fn misbehave(request: &PlainRequest, stream: &mut &TcpStream) -> io::Result<()> {
    let ended = || Err(io::ErrorKind::ConnectionAborted.into());
    let reset = || SockRef::from(*stream).set_linger(Some(Duration::ZERO));
    match request.target.as_str() {
        "/reset" => {
            reset()?;
            return ended();
        }
        "/close" => return ended(),
        "/half-head" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nConte")?;
            return ended();
        }
        "/half-body" | "/half-body-reset" => {
            if request.target.ends_with("reset") {
                reset()?;
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal")?;
            return ended();
        }
        "/hang" => thread::sleep(Duration::from_secs(1)),
        "/gap" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")?;
            thread::sleep(Duration::from_secs(1));
            return ended();
        }
        "/garbage" => stream.write_all(b"what is this\r\n\r\n")?,
        "/unasked" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n")?;
        }
        "/pooled-close" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
            return ended();
        }
        "/tunnel" => {
            stream.write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
            )?;
            io::copy(&mut &**stream, &mut &**stream)?;
            return ended();
        }
        "/bulk" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")?;
            for _ in 0..1000 {
                stream.write_all(&[0; 100_000])?;
            }
        }
        _ => stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?,
    }
    Ok(())
}

/// Sends a request head and reads an answer, whatever comes of it.
fn ask(client: &mut Client, host: &str, target: &str) {
    let _ = client.try_send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
    let _ = client.try_response("GET");
}

fn open_tunnel(client: &mut Client) {
    let _ =
        client.try_send(b"GET /tunnel HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
    assert_eq!(client.head("GET").unwrap().status, 101);
    client.send("ping");
    assert_eq!(client.bytes(4).as_deref(), Ok(&b"ping"[..]));
}

type Mishap = fn(Client);

/// Requests whose target decides what goes wrong.
fn targets(mut client: Client) {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let all = [
        "/reset",
        "/close",
        "/half-head",
        "/half-body",
        "/half-body-reset",
        "/hang",
        "/gap",
        "/garbage",
        "/unasked",
        "/pooled-close",
    ];
    ask(&mut client, "a.test", all[NEXT.fetch_add(1, Ordering::Relaxed) % all.len()]);
    ask(&mut client, "a.test", "/");
}

const MISHAPS: &[(&str, Mishap)] = &[
    ("silent", |mut client| drop(client.until_end())),
    ("part of a head", |mut client| {
        client.send("GET / HTTP/1.1\r\nHo");
        assert_eq!(client.response("GET").status, 408);
    }),
    ("part of a body", |mut client| {
        client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 9\r\n\r\nabc");
        assert_eq!(client.response("POST").status, 408);
    }),
    ("no reader", |mut client| {
        client.send("GET /bulk HTTP/1.1\r\nHost: a.test\r\n\r\n");
        // Longer than the timer; nothing depends on it having fired.
        thread::sleep(Duration::from_millis(400));
    }),
    ("idle", |mut client| {
        ask(&mut client, "a.test", "/");
        let _ = client.until_end();
    }),
    ("reset at once", Client::reset),
    ("reset in a head", |mut client| {
        client.send("GET / HTTP/1.1\r\nHo");
        client.reset();
    }),
    ("reset in a body", |mut client| {
        client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100000\r\n\r\nabc");
        client.reset();
    }),
    ("reset in a response", |mut client| {
        client.send("GET /bulk HTTP/1.1\r\nHost: a.test\r\n\r\n");
        let _ = client.bytes(100_000);
        client.reset();
    }),
    ("gone before a response", |mut client| {
        client.send("GET /hang HTTP/1.1\r\nHost: a.test\r\n\r\n");
        client.reset();
    }),
    ("half-closed", |mut client| {
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        client.half_close();
        assert_eq!(client.response("GET").status, 200);
        let _ = client.until_end();
    }),
    ("half-closed in a body", |mut client| {
        client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 9\r\n\r\nabc");
        client.half_close();
        let _ = client.until_end();
    }),
    ("tunnel closed", |mut client| open_tunnel(&mut client)),
    ("tunnel reset", |mut client| {
        open_tunnel(&mut client);
        client.reset();
    }),
    ("tunnel idle", |mut client| {
        open_tunnel(&mut client);
        let _ = client.until_end();
    }),
    ("malformed", |mut client| {
        client.send("GET / HTTP/1.1\r\nHost : a.test\r\n\r\n");
        assert_eq!(client.response("GET").status, 400);
    }),
    ("lingering", |mut client| {
        client.send("POST / HTTP/1.1\r\nHost: unknown.test\r\nContent-Length: 1000000\r\n\r\n");
        assert_eq!(client.response("POST").status, 404);
        let _ = client.until_end();
        // Stays although the gateway has said its last; longer than the timer.
        thread::sleep(Duration::from_millis(300));
    }),
    ("refused", |mut client| ask(&mut client, "dead.test", "/")),
    ("connect timeout", |mut client| ask(&mut client, "hole.test", "/")),
    ("endpoints", targets),
    ("endpoints again", targets),
    ("endpoints once more", targets),
];

/// A full accept queue, for connect timeouts.
fn hole() -> (Socket, Vec<TcpStream>, SocketAddr) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&SockAddr::from(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(500)) {
        queued.push(stream);
    }
    (listener, queued, address)
}

fn text(app: SocketAddr, hole: SocketAddr) -> String {
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let timeouts = "timeouts = { header = \"200ms\", body_gap = \"200ms\", write_gap = \"200ms\", keep_alive = \"200ms\", \
                    tunnel_idle = \"200ms\", linger = \"100ms\" }";
    let pool =
        http_pool("idle_timeout = \"100ms\", first_byte_timeout = \"200ms\", body_gap_timeout = \"200ms\"")
            .replace("connection_pool = {", "connection_pool = { tcp = { connect_timeout = \"100ms\" },");
    let mut text = config::gateway(timeouts, &["*.test"]);
    for (name, address) in [("a", app), ("dead", dead), ("hole", hole)] {
        let route = format!("route = [{{ destination = {{ host = {name:?} }} }}]");
        text += &config::virtual_service(name, &format!("{name}.test"), &route);
        text += &config::service(name, &[address], &pool);
    }
    text
}

fn run_all(address: SocketAddr, count: usize) {
    let next = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let next = Arc::clone(&next);
            thread::spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let (_, mishap) = MISHAPS[number % MISHAPS.len()];
                    mishap(Client::connect(address));
                }
            })
        })
        .collect();
    let failed = threads.into_iter().filter_map(|thread| thread.join().err()).count();
    assert_eq!(failed, 0, "threads whose clients did not get what they must");
}

fn check(driver: Driver) {
    let backend = Plain::start(misbehave);
    let (_listener, _queued, hole) = hole();
    let gateway = Gateway::start(driver, &text(backend.address(), hole));
    // What is allocated once per process must not count.
    run_all(gateway.address(), 4 * MISHAPS.len());
    let baseline = Baseline::of(&gateway);
    let before = rss_kib(gateway.pid());
    run_all(gateway.address(), if full() { 10_000 } else { 2_000 });
    baseline.assert_back(&gateway);
    let grown = rss_kib(gateway.pid()).saturating_sub(before);
    assert!(grown < 16 * 1024, "{grown} KiB more resident");
    let dump = Dump::of(&gateway);
    for name in [
        "timeout_header",
        "timeout_body_gap",
        "timeout_write_gap",
        "timeout_keep_alive",
        "timeout_connect",
        "timeout_first_byte",
        "timeout_upstream_body_gap",
        "timeout_tunnel_idle",
        "timeout_linger",
        "refusals",
        "responses_cut",
        "upstream_dial_failures",
        "upstream_reused",
    ] {
        assert!(dump.sum(name) > 0, "{name} never happened: {dump:?}");
    }
    let mut client = gateway.connect();
    assert_eq!(client.get("a.test", "/").text(), "ok");
    drop(client);
    gateway.stop();
}

both_drivers! {
    fn nothing_is_left_behind(driver) {
        check(driver);
    }
}
