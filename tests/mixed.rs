//! Well-formed, odd and broken requests from many connections at once, before good and broken endpoints, all from one
//! seed: nothing crashes, hangs or grows, and who asks correctly is answered correctly throughout.
//!
//! Three seconds, a minute with `RINGGATE_FULL=1`; `RINGGATE_SEED` replays.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::pressure::{Baseline, Dump, Plain, PlainRequest, full, rss_kib};
use crate::support::config::{self, http_pool};
use crate::support::rng::Rng;
use crate::support::{Client, Driver, Failure, Gateway};

/// Says what it was asked, by length or in chunks.
fn mirror(request: &PlainRequest, stream: &mut &TcpStream) -> io::Result<()> {
    let body = format!("{} {}", request.target, request.body_bytes);
    if request.target.len().is_multiple_of(2) {
        return stream.write_all(
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes(),
        );
    }
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (first, second) = body.split_at(body.len() / 2);
    stream
        .write_all(format!("{head}{:x}\r\n{first}\r\n{:x};e=1\r\n", first.len(), second.len()).as_bytes())?;
    stream.write_all(format!("{second}\r\n0\r\nT: v\r\n\r\n").as_bytes())
}

/// What must never be anybody's answer.
const POISON: &str = "POISON";

/// A broken endpoint: the target's number is the seed of what it does.
fn break_something(request: &PlainRequest, stream: &mut &TcpStream) -> io::Result<()> {
    let seed = request.target.trim_start_matches('/').parse().unwrap_or(1);
    let mut rng = Rng::new(seed);
    let ended = || Err(io::ErrorKind::ConnectionAborted.into());
    let good =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", request.target.len(), request.target);
    let poison = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{POISON}", POISON.len());
    match rng.below(14) {
        0 | 1 => stream.write_all(good.as_bytes())?,
        2 => stream.write_all((good + &poison).as_bytes())?,
        3 => return ended(),
        4 => {
            SockRef::from(*stream).set_linger(Some(Duration::ZERO))?;
            return ended();
        }
        5 => {
            let bytes = rng.bytes(300);
            stream.write_all(&bytes)?;
        }
        6 => {
            // One byte of a good answer is another.
            let mut bytes = good.into_bytes();
            let at = rng.below(bytes.len());
            bytes[at] = rng.next() as u8;
            stream.write_all(&bytes)?;
        }
        7 => {
            let cut = rng.below(good.len());
            stream.write_all(&good.as_bytes()[..cut])?;
            return ended();
        }
        8 => stream.write_all(format!("HTTP/1.1 100 Continue\r\n\r\n{good}").as_bytes())?,
        9 => stream.write_all("HTTP/1.1 102 Processing\r\n\r\n".repeat(100).as_bytes())?,
        10 => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n")?;
        }
        11 => {
            for piece in rng.pieces(good.as_bytes(), 7) {
                stream.write_all(piece)?;
            }
        }
        12 => stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort")?,
        _ => {
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nuntil the end")?;
            return ended();
        }
    }
    Ok(())
}

/// One correct request, in one of its many forms, and its one correct answer.
fn ask_correctly(client: &mut Client, rng: &mut Rng, number: u64) {
    let target = format!("/{}?{number}", "x".repeat(rng.below(40)));
    let length = [0, 1, 5, 1000, 70_000][rng.below(5)];
    let body = vec![b'b'; length];
    let mut bytes = Vec::new();
    let method = ["GET", "POST", "PUT", "DELETE", "PURGE"][rng.below(5)];
    let target_form = if rng.below(4) == 0 { format!("http://good.test{target}") } else { target.clone() };
    write!(bytes, "{method} {target_form} HTTP/1.1\r\nhOsT:good.test  \r\nX-Empty:\r\n").unwrap();
    if rng.below(2) == 0 {
        write!(bytes, "Content-Length: {length}\r\n\r\n").unwrap();
        bytes.extend_from_slice(&body);
    } else {
        bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
        for piece in rng.pieces(&body, 9000) {
            write!(bytes, "{:X};x=\"y\"\r\n", piece.len()).unwrap();
            bytes.extend_from_slice(piece);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\nTrailer-Field: v\r\n\r\n");
    }
    match rng.below(3) {
        0 => client.send_pieces(rng.pieces(&bytes, 4000)),
        _ => client.send(&bytes),
    }
    let response = client.response(method);
    assert_eq!((response.status, response.text()), (200, format!("{target} {length}")), "{method} {length}");
}

fn well_formed(address: SocketAddr, mut rng: Rng, until: Instant, served: &AtomicU64) {
    let mut client = Client::connect(address);
    while Instant::now() < until {
        if rng.below(8) == 0 {
            client = Client::connect(address);
        }
        ask_correctly(&mut client, &mut rng, served.fetch_add(1, Ordering::Relaxed));
    }
}

/// Requests that are damaged, cut or mere noise. Whatever comes back is an answer of HTTP, and the connection ends.
fn broken(address: SocketAddr, mut rng: Rng, until: Instant) {
    while Instant::now() < until {
        let mut client = Client::connect(address);
        let mut bytes = match rng.below(6) {
            0 => {
                let length = 1 + rng.below(2000);
                rng.bytes(length)
            }
            1 => b"POST /q HTTP/1.1\r\nHost: good.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_vec(),
            2 => b"POST /q HTTP/1.1\r\nHost: good.test\r\nContent-Length: 5\r\n\r\nhello".to_vec(),
            _ => b"GET /q HTTP/1.1\r\nHost: good.test\r\nConnection: keep-alive\r\nX: y\r\n\r\n".to_vec(),
        };
        for _ in 0..=rng.below(3) {
            let at = rng.below(bytes.len());
            match rng.below(4) {
                0 => bytes[at] = rng.next() as u8,
                1 => bytes.insert(at, b"\r\n\0 :,;\xff"[rng.below(8)]),
                2 => drop(bytes.remove(at)),
                _ => bytes.truncate(at.max(1)),
            }
            if bytes.is_empty() {
                bytes.push(b'\r');
            }
        }
        if client.try_send(&bytes).is_err() || rng.below(4) == 0 {
            client.reset();
            continue;
        }
        if rng.below(2) == 0 {
            client.half_close();
        }
        match client.until_end() {
            Ok(answer) => assert!(
                answer.is_empty() || answer.starts_with(b"HTTP/1.1 "),
                "{:?} to {:?}",
                String::from_utf8_lossy(&answer),
                String::from_utf8_lossy(&bytes)
            ),
            Err(Failure::Reset) => {}
            Err(failure) => panic!("{failure:?} after {:?}", String::from_utf8_lossy(&bytes)),
        }
    }
}

/// Correct requests to broken endpoints: a right answer, one of the gateway's own, or a cut one; never a wrong one.
fn before_broken_endpoints(address: SocketAddr, mut rng: Rng, until: Instant) {
    let mut client = Client::connect(address);
    while Instant::now() < until {
        let target = format!("/{}", rng.next());
        client.send(format!("GET {target} HTTP/1.1\r\nHost: bad.test\r\n\r\n"));
        let mut response = client.try_response("GET");
        while response.as_ref().is_ok_and(|response| response.status < 200) {
            response = client.try_response("GET");
        }
        match response {
            Ok(response) => {
                assert!(!response.text().contains(POISON), "{target}: {response:?}");
                if response.headers.lists("connection", "close") {
                    client = Client::connect(address);
                }
            }
            Err(broken) => {
                assert_ne!(broken.failure, Failure::Timeout, "{target}: {broken:?}");
                client = Client::connect(address);
            }
        }
    }
}

fn text(good: SocketAddr, bad: SocketAddr) -> String {
    let timeouts =
        "timeouts = { header = \"2s\", body_gap = \"2s\", keep_alive = \"5s\", linger = \"100ms\" }";
    let keys = http_pool("idle_timeout = \"200ms\"");
    // Good requests may wait for a turn of the processor; only the bad endpoint's silences are timed.
    let short =
        http_pool("idle_timeout = \"200ms\", first_byte_timeout = \"150ms\", body_gap_timeout = \"150ms\"");
    config::gateway(timeouts, &["*"])
        + &config::virtual_service("g", "good.test", "route = [{ destination = { host = \"good\" } }]")
        + &config::virtual_service("b", "bad.test", "route = [{ destination = { host = \"bad\" } }]")
        + &config::service("good", &[good], &keys)
        + &config::service("bad", &[bad], &short)
}

fn median(samples: &mut [u64]) -> u64 {
    samples.sort_unstable();
    samples[samples.len() / 2]
}

fn mix(driver: Driver) {
    let (good, bad) = (Plain::start(mirror), Plain::start(break_something));
    let gateway = Gateway::start_with(
        &text(good.address(), bad.address()),
        &["--driver", driver.name(), "--cores", "2", "--no-pin"],
    );
    let baseline = Baseline::of(&gateway);
    let mut rng = Rng::from_env();
    let until = Instant::now() + Duration::from_secs(if full() { 60 } else { 3 });
    let served = Arc::new(AtomicU64::new(0));
    let address = gateway.address();
    let threads: Vec<_> = (0..18)
        .map(|number| {
            let rng = Rng::new(rng.next());
            let served = Arc::clone(&served);
            thread::spawn(move || match number % 3 {
                0 => well_formed(address, rng, until, &served),
                1 => broken(address, rng, until),
                _ => before_broken_endpoints(address, rng, until),
            })
        })
        .collect();
    let mut resident = Vec::new();
    while Instant::now() < until {
        thread::sleep(Duration::from_millis(50));
        resident.push(rss_kib(gateway.pid()));
    }
    let failed = threads.into_iter().filter_map(|thread| thread.join().err()).count();
    assert_eq!(failed, 0, "threads that met a wrong answer or none");
    let dump = Dump::of(&gateway);
    println!("{} correct requests; {dump:?}", served.load(Ordering::Relaxed));
    assert!(served.load(Ordering::Relaxed) > 100);
    assert!(dump.sum("refusals") > 10 && dump.sum("responses_cut") > 10, "{dump:?}");
    baseline.assert_back(&gateway);
    // What the allocator keeps comes and goes: the second quarter against the last one, after a warm-up.
    let quarter = resident.len() / 4;
    let (early, late) =
        (median(&mut resident[quarter..2 * quarter].to_vec()), median(&mut resident[3 * quarter..]));
    assert!(late < early + if full() { 16 } else { 48 } * 1024, "from {early} KiB resident to {late} KiB");
    gateway.stop();
}

both_drivers! {
    fn correct_requests_are_answered_correctly(driver) {
        mix(driver);
    }
}
