//! No client and no endpoint can hold the gateway, make it grow, or get another's bytes.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::pressure::{Dump, Plain, cpu_time, rss_kib, try_get};
use crate::support::config::{self, http_pool};
use crate::support::gateway::binary;
use crate::support::tempdir::TempDir;
use crate::support::{Backend, Client, DEADLINE, Driver, Failure, Gate, Gateway};

/// A backend whose answer to every request is `bytes` of body; `poured` counts what its kernel took.
fn bulk_backend(bytes: usize, poured: &Arc<AtomicU64>) -> Plain {
    let poured = Arc::clone(poured);
    Plain::start(move |request, stream| {
        if request.target == "/small" {
            return stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
        stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n").as_bytes())?;
        let piece = [0x5a; 64 * 1024];
        let mut left = bytes;
        while left > 0 {
            let sent = stream.write(&piece[..piece.len().min(left)])?;
            poured.fetch_add(sent as u64, Ordering::Relaxed);
            left -= sent;
        }
        Ok(())
    })
}

/// Reads a response of `head` plus `bytes` and drops it.
fn swallow(stream: &mut TcpStream, bytes: usize) {
    let mut chunk = vec![0; 256 * 1024];
    let mut received = 0;
    while received < bytes {
        match stream.read(&mut chunk) {
            Ok(0) => panic!("ended after {received} of {bytes}"),
            Ok(count) => received += count,
            // A read with a timeout is not begun anew after a stop of the process.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => panic!("{error} after {received} of {bytes}"),
        }
    }
}

both_drivers! {
    /// 200 MB for each of many clients that read nothing: the endpoint is slowed down, memory stays flat, and a client
    /// that begins to read gets all of it.
    fn slow_readers(driver) {
        const BYTES: usize = 200_000_000;
        let poured = Arc::new(AtomicU64::new(0));
        let backend = bulk_backend(BYTES, &poured);
        let gateway = Gateway::start(driver, &config::single(backend.address(), "", ""));
        gateway.connect().get("a.test", "/small");
        let before = rss_kib(gateway.pid());
        let mut clients: Vec<TcpStream> = (0..16)
            .map(|_| {
                let mut stream = TcpStream::connect(gateway.address()).unwrap();
                stream.set_read_timeout(Some(DEADLINE)).unwrap();
                stream.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").unwrap();
                stream
            })
            .collect();
        // Until every socket on the way is full.
        let started = Instant::now();
        let mut last = u64::MAX;
        while std::mem::replace(&mut last, poured.load(Ordering::Relaxed)) != poured.load(Ordering::Relaxed) || last == 0 {
            assert!(started.elapsed() < DEADLINE);
            thread::sleep(Duration::from_millis(300));
        }
        let grown = rss_kib(gateway.pid()).saturating_sub(before);
        assert!(grown < 16 * 1024, "{grown} KiB for 16 slow readers; {last} bytes poured");
        assert!(last < 16 * BYTES as u64 / 2, "the endpoint was not slowed down: {last}");
        let buffers = Dump::of(&gateway).sum("buffers_in_use");
        assert!(buffers <= 16 * 6, "{buffers} buffers for 16 slow readers");
        // Others are served meanwhile.
        assert_eq!(gateway.connect().get("a.test", "/small").status, 200);
        swallow(&mut clients[0], BYTES);
        let grown = rss_kib(gateway.pid()).saturating_sub(before);
        assert!(grown < 24 * 1024, "{grown} KiB afterwards");
    }

    /// The same in the other direction: an endpoint that does not read its request.
    fn slow_endpoints(driver) {
        let gate = Gate::new();
        let backend = Backend::start({
            let gate = gate.clone();
            move |conn| {
                conn.head();
                gate.wait();
            }
        });
        let gateway = Gateway::start(driver, &config::single(backend.address(), "", ""));
        let before = rss_kib(gateway.pid());
        let body = vec![b'x'; 100_000_000];
        let mut clients: Vec<Client> = (0..4).map(|_| gateway.connect()).collect();
        for client in &mut clients {
            client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 200000000\r\n\r\n");
            let sent = client.send_until_stalled(&body, Duration::from_millis(500));
            assert!(sent < body.len(), "all of it was taken");
        }
        let grown = rss_kib(gateway.pid()).saturating_sub(before);
        assert!(grown < 16 * 1024, "{grown} KiB");
        gate.open();
    }

    /// Idle connections hold no buffer, before their first request as after one, and little memory.
    fn idle_connections(driver) {
        let backend = Plain::small();
        let gateway = Gateway::start(driver, &config::single(backend.address(), "", ""));
        gateway.connect().get("a.test", "/");
        Dump::wait(&gateway, "the first client gone", |dump| dump.sum("sessions_open") == 0);
        let before = rss_kib(gateway.pid());
        let mut clients: Vec<Client> = (0..2000).map(|_| gateway.connect()).collect();
        Dump::wait(&gateway, "2000 fresh sessions without a buffer", |dump| {
            dump.sum("sessions_open") == 2000 && dump.sum("buffers_in_use") == 0
        });
        // In groups: connections that were just used keep their buffers for a moment, which is not what is measured.
        for group in clients.chunks_mut(100) {
            for client in group {
                assert_eq!(client.get("a.test", "/").status, 200);
            }
            Dump::wait(&gateway, "idle sessions without a buffer", |dump| dump.sum("buffers_in_use") == 0);
        }
        let dump = Dump::of(&gateway);
        assert_eq!(dump.sum("sessions_open"), 2000);
        let each = rss_kib(gateway.pid()).saturating_sub(before) * 1024 / 2000;
        println!("{each} bytes for each idle connection");
        // The aim is 2 KiB in a release build; this one is a guard against buffers in disguise.
        assert!(each < 6 * 1024, "{each} bytes for each idle connection");
        assert_eq!(clients[1999].get("a.test", "/").status, 200);
        drop(clients);
        Dump::wait(&gateway, "all of them gone", |dump| dump.sum("sessions_open") == 0);
    }

    /// At `connections_max` the gateway waits with the next connection, and takes it in when another ends.
    fn a_flood_of_connections(driver) {
        let backend = Plain::small();
        let text = format!("[process]\nconnections_max = 20\n{}", config::single(backend.address(), "", ""));
        let gateway = Gateway::start(driver, &text);
        let mut clients: Vec<Client> = (0..300).map(|_| gateway.connect()).collect();
        for client in &mut clients {
            client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        }
        let dump = Dump::wait(&gateway, "the cap", |dump| dump.sum("accept_pauses") > 0);
        assert_eq!(dump.sum("sessions_open"), 20);
        let before = cpu_time(gateway.pid());
        thread::sleep(Duration::from_millis(500));
        let used = cpu_time(gateway.pid()) - before;
        assert!(used < Duration::from_millis(150), "{used:?} of processor time while waiting");
        // In the order in which they came; each that goes lets the next in.
        for mut client in clients {
            assert_eq!(client.response("GET").status, 200);
        }
        assert_eq!(gateway.connect().get("a.test", "/").status, 200);
        let dump = Dump::wait(&gateway, "nobody", |dump| dump.sum("sessions_open") == 0);
        assert_eq!(dump.sum("sessions"), 301);
    }

    /// Out of descriptors: those who are in are served, the process does not spin, and it recovers by itself.
    fn descriptors_used_up(driver) {
        let backend = Plain::small();
        let gateway = with_few_descriptors(driver, &config::single(backend.address(), "", ""));
        let mut first = gateway.connect();
        assert_eq!(first.get("a.test", "/").status, 200);
        let clients: Vec<Client> = (0..200).map(|_| gateway.connect()).collect();
        Dump::wait(&gateway, "accept pauses", |dump| dump.sum("accept_pauses") > 3);
        let before = cpu_time(gateway.pid());
        thread::sleep(Duration::from_secs(1));
        let used = cpu_time(gateway.pid()) - before;
        assert!(used < Duration::from_millis(300), "{used:?} of processor time in a second");
        // Its endpoint's connection is pooled: no new descriptor is needed.
        assert_eq!(first.get("a.test", "/").status, 200);
        drop(clients);
        let mut later = gateway.connect();
        assert_eq!(later.get("a.test", "/").status, 200);
        Dump::wait(&gateway, "two sessions", |dump| dump.sum("sessions_open") == 2);
    }

    /// With descriptors for the client only, the answer is a 503 that says so, and the connection lives.
    fn no_descriptor_for_the_endpoint(driver) {
        let backend = Plain::small();
        let keys = http_pool("idle_connections_max = 0");
        let gateway = with_few_descriptors(driver, &config::single(backend.address(), "", &keys));
        let mut client = gateway.connect();
        assert_eq!(client.get("a.test", "/").status, 200);
        let others: Vec<Client> = (0..200).map(|_| gateway.connect()).collect();
        Dump::wait(&gateway, "accept pauses", |dump| dump.sum("accept_pauses") > 3);
        let response = client.get("a.test", "/");
        assert_eq!((response.status, response.text().ends_with("connect_resources_exhausted\n")), (503, true));
        drop(others);
        Dump::wait(&gateway, "the flood gone", |dump| dump.sum("sessions_open") == 1);
        assert_eq!(client.get("a.test", "/").status, 200);
    }

    /// At `buffer_bytes_max` further requests are answered without buffers of their own.
    fn buffers_used_up(driver) {
        let backend = Plain::small();
        let text = "[process]\nbuffer_bytes_max = \"16MiB\"\n".to_owned() + &config::single(backend.address(), "", "");
        let gateway = Gateway::start(driver, &text);
        let mut late: Vec<Client> = (0..1500).map(|_| gateway.connect()).collect();
        let head = format!("GET / HTTP/1.1\r\nHost: a.test\r\nX: {}", "y".repeat(31_000));
        let mut holding = Vec::new();
        // One after the other: at once, they would refuse each other while they grow.
        while Dump::of(&gateway).sum("local_replies") == 0 {
            assert!(holding.len() < 300, "the bound is never reached");
            let mut client = gateway.connect();
            client.send(&head);
            holding.push(client);
            let count = holding.len() as u64;
            Dump::wait(&gateway, "a buffer for it, or a refusal", |dump| {
                dump.sum("buffers_in_use") == count || dump.sum("local_replies") > 0
            });
        }
        for client in &mut late {
            client.send("GET / HT");
        }
        let all = (late.len() + holding.len()) as u64;
        let dump = Dump::wait(&gateway, "each with a buffer or refused", |dump| {
            dump.sum("buffers_in_use") + dump.sum("local_replies") >= all
        });
        assert!(dump.sum("local_replies") > 100, "{dump:?}");
        assert!(dump.top("buffer_bytes") < 18 << 20, "{dump:?}");
        drop((holding, late));
        Dump::wait(&gateway, "all of them gone", |dump| dump.sum("buffers_in_use") == 0);
        assert_eq!(gateway.connect().get("a.test", "/").status, 200);
    }

    /// 10 000 requests in one piece are answered one by one, in order, those with and without an endpoint.
    fn a_flood_of_pipelined_requests(driver) {
        const REQUESTS: usize = 10_000;
        let backend = Plain::start(|request, stream| {
            let body = &request.target;
            stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes())
        });
        let text = config::gateway("", &["*"])
            + &config::virtual_service("v", "a.test", "route = [{ destination = { host = \"app\" } }]")
            + &config::service("app", &[backend.address()], "");
        let gateway = Gateway::start(driver, &text);
        let before = rss_kib(gateway.pid());
        for host in ["a.test", "unknown.test"] {
            let stream = TcpStream::connect(gateway.address()).unwrap();
            let mut writer = stream.try_clone().unwrap();
            let flood = thread::spawn(move || {
                let requests: String =
                    (0..REQUESTS).map(|number| format!("GET /{number} HTTP/1.1\r\nHost: {host}\r\n\r\n")).collect();
                writer.set_write_timeout(Some(2 * DEADLINE)).unwrap();
                writer.write_all(requests.as_bytes()).unwrap();
            });
            let mut client = Client::over(stream);
            for number in 0..REQUESTS {
                let response = client.response("GET");
                if host == "a.test" {
                    assert_eq!(response.text(), format!("/{number}"));
                } else {
                    assert_eq!(response.status, 404, "{number}");
                }
            }
            flood.join().unwrap();
        }
        let grown = rss_kib(gateway.pid()).saturating_sub(before);
        assert!(grown < 16 * 1024, "{grown} KiB");
    }

    /// Pipelined requests from a client that reads none of the answers stop being served.
    fn a_flood_without_a_reader(driver) {
        let backend = Plain::start(|_, stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n")?;
            stream.write_all(&[b'x'; 4000])
        });
        let gateway = Gateway::start(driver, &config::single(backend.address(), "", ""));
        let before = rss_kib(gateway.pid());
        let mut client = Client::connect_small(gateway.address(), 4096);
        let requests = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n".repeat(400_000);
        let sent = client.send_until_stalled(requests.as_bytes(), Duration::from_millis(700));
        assert!(sent < requests.len(), "all requests were taken");
        let grown = rss_kib(gateway.pid()).saturating_sub(before);
        assert!(grown < 8 * 1024, "{grown} KiB");
        assert_eq!(gateway.connect().get("a.test", "/").status, 200);
    }

    /// Heads and trailers beyond every bound are refused after a bounded number of bytes.
    fn giants_of_clients(driver) {
        let backend = Backend::start(|conn| while conn.head().is_some_and(|mut request| conn.content(&mut request).is_ok()) {});
        let gateway = Gateway::single(driver, &backend);
        let before = rss_kib(gateway.pid());
        let endless = [
            ("GET /", "a", 414),
            ("GET / HTTP/1.1\r\nHost: a.test\r\nX: ", "a", 431),
            ("GET / HTTP/1.1\r\nHost: a.test\r\n", "X: y\r\n", 431),
            ("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "T: v\r\n", 400),
            ("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n1;", "e", 400),
        ];
        for (begin, more, status) in endless {
            let mut client = gateway.connect();
            client.send(begin);
            let more = more.repeat(64 * 1024);
            let mut sent = 0;
            while !client.has_input() && sent < 64 << 20 {
                if client.try_send(more.as_bytes()).is_err() {
                    break;
                }
                sent += more.len();
            }
            assert!(sent < 16 << 20, "{begin}: {sent} bytes taken");
            let response = client.response("GET");
            assert_eq!(response.status, status, "{begin}");
        }
        let grown = rss_kib(gateway.pid()).saturating_sub(before);
        assert!(grown < 8 * 1024, "{grown} KiB");
        Dump::wait(&gateway, "no buffers", |dump| dump.sum("buffers_in_use") == 0);
    }

    /// Endpoints that never come to the end of something are cut off, and their connections closed.
    fn giants_of_endpoints(driver) {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let endless: [(&'static str, &'static str, Option<u16>); 7] = [
            ("", "HTTP/1.1 100 Continue\r\n\r\n", Some(502)),
            ("", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", Some(502)),
            ("HTTP/1.1 200 OK\r\nX: ", "y", Some(502)),
            ("HTTP/1.1 200 OK\r\n", "X: y\r\n", Some(502)),
            ("", "\r\n", Some(502)),
            (concat!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "0\r\n"), "T: v\r\n", None),
            (concat!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1;"), "e", None),
        ];
        assert!(endless[5].0.starts_with(head));
        for (number, (begin, more, status)) in endless.into_iter().enumerate() {
            let poured = Arc::new(AtomicU64::new(0));
            let backend = Plain::start({
                let poured = Arc::clone(&poured);
                move |_, stream| {
                    stream.write_all(begin.as_bytes())?;
                    let more = more.repeat(8 * 1024);
                    loop {
                        stream.write_all(more.as_bytes())?;
                        poured.fetch_add(more.len() as u64, Ordering::Relaxed);
                    }
                }
            });
            let gateway = Gateway::start(driver, &config::single(backend.address(), "", ""));
            let before = rss_kib(gateway.pid());
            let mut client = gateway.connect();
            client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
            let mut response = client.try_response("GET");
            while response.as_ref().is_ok_and(|response| response.status < 200) {
                response = client.try_response("GET");
            }
            match (status, response) {
                (Some(status), Ok(response)) => assert_eq!(response.status, status, "{number}"),
                (None, Err(broken)) => assert!(
                    matches!(broken.failure, Failure::Eof(_) | Failure::Reset), "{number}: {broken:?}"
                ),
                (expected, other) => panic!("{number}: {other:?} instead of {expected:?}"),
            }
            Dump::wait(&gateway, "the endpoint's connection gone", |dump| dump.sum("upstream_open") == 0);
            let grown = rss_kib(gateway.pid()).saturating_sub(before);
            assert!(grown < 4 * 1024, "{number}: {grown} KiB");
            let poured = poured.load(Ordering::Relaxed);
            assert!(poured < 32 << 20, "{number}: {poured} bytes taken");
        }
    }

    /// Small requests beside bulk downloads on the same shard: they wait for a turn, not for the end of the bulk.
    fn fairness(driver) {
        const BULK: usize = 400_000_000;
        let poured = Arc::new(AtomicU64::new(0));
        let backend = bulk_backend(BULK, &poured);
        let gateway = Gateway::start(driver, &config::single(backend.address(), "", ""));
        let mut client = gateway.connect();
        let alone = latencies(&mut client, 600);
        let stop = Arc::new(AtomicBool::new(false));
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let (address, stop) = (gateway.address(), Arc::clone(&stop));
                thread::spawn(move || read_bulk(address, &stop))
            })
            .collect();
        let started = Instant::now();
        while poured.load(Ordering::Relaxed) < 4 << 20 {
            assert!(started.elapsed() < DEADLINE);
            thread::yield_now();
        }
        let before = poured.load(Ordering::Relaxed);
        let beside = latencies(&mut client, 600);
        let moved = poured.load(Ordering::Relaxed) - before;
        stop.store(true, Ordering::Relaxed);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        println!("p50 and p99 alone {alone:?}, beside {moved} bytes {beside:?}");
        assert!(moved > 1 << 20, "there was no bulk beside the requests: {moved}");
        // Both share two cores with the readers, the endpoint and other tests; a starved session would wait for
        // hundreds of milliseconds. Median against median, with room for the scheduler.
        assert!(beside.0 < alone.0 * 10 + Duration::from_millis(10), "p50 {alone:?}, then {beside:?}");
        assert!(beside.1 < alone.1 * 10 + Duration::from_millis(60), "p99 {alone:?}, then {beside:?}");
    }
}

/// Median and 99th percentile of so many small requests.
fn latencies(client: &mut Client, count: usize) -> (Duration, Duration) {
    let mut times: Vec<Duration> = (0..count)
        .map(|_| {
            let started = Instant::now();
            assert_eq!(try_get(client, "/small"), Ok(200));
            started.elapsed()
        })
        .collect();
    times.sort_unstable();
    (times[count / 2], times[count * 99 / 100])
}

/// Downloads again and again until told to stop.
fn read_bulk(address: std::net::SocketAddr, stop: &AtomicBool) {
    let mut chunk = vec![0; 256 * 1024];
    while !stop.load(Ordering::Relaxed) {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n").unwrap();
        while !stop.load(Ordering::Relaxed) {
            match stream.read(&mut chunk) {
                Ok(0) => break,
                Err(error) if error.kind() != io::ErrorKind::Interrupted => panic!("read: {error}"),
                _ => {}
            }
        }
    }
}

/// A gateway that may open 64 descriptors.
fn with_few_descriptors(driver: Driver, text: &str) -> Gateway {
    let directory = TempDir::new();
    let path = directory.write("ringgate.toml", text);
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n 64; exec \"$0\" run \"$1\" --driver \"$2\" --cores 1 --no-pin"])
        .arg(binary())
        .arg(path)
        .arg(driver.name());
    Gateway::spawn(command, directory)
}
