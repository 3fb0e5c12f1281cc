//! Handshakes that clients begin and do not end: bounded in memory and time, and in nobody's way.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};

use crate::pressure::{Baseline, Dump, full, rss_kib, two_shards};
use crate::support::tls::TlsClient;
use crate::support::{Backend, DEADLINE};
use crate::tls::Site;

/// How far the clients of a test go before they fall silent.
const STAGES: [(&str, usize); 3] = [("nothing", 0), ("half a hello", 60), ("a hello", usize::MAX)];

both_drivers! {
    /// Thousands at each stage, while others are served as if there were none; all is given back, by the clients' going or by time.
    fn half_open(driver) {
        let count = if full() { 5_000 } else { 400 };
        let (site, backend) = (Site::new(), Backend::fixed("web"));
        for (stage, bytes) in STAGES {
            let keys = "timeouts = { handshake = \"60s\" }";
            let gateway = two_shards(driver, &site.config(backend.address(), keys, "SIMPLE", ""));
            let config = site.client(&[&TLS12, &TLS13]);
            assert_eq!(TlsClient::connect(gateway.address(), &config, "a.test").get("a.test", "/").status, 200);
            Dump::wait(&gateway, "that one is gone", |dump| dump.sum("sessions_open") == 0 && dump.sum("upstream_idle") > 0);
            let before = rss_kib(gateway.pid());
            let name = || ServerName::try_from("a.test").unwrap();
            let mut hello = Vec::new();
            ClientConnection::new(Arc::clone(&config), name()).unwrap().write_tls(&mut hello).unwrap();
            let hello = &hello[..bytes.min(hello.len())];
            let silent: Vec<TcpStream> = (0..count).map(|_| {
                let mut stream = TcpStream::connect(gateway.address()).unwrap();
                stream.write_all(hello).unwrap();
                stream
            }).collect();
            let buffers = if stage == "half a hello" { count as u64 } else { 0 };
            let dump = Dump::wait(&gateway, "all wait", |dump| {
                dump.sum("sessions_open") == count as u64 && dump.sum("buffers_in_use") == buffers
            });
            assert_eq!(dump.sum("tls_refused"), 0);
            let mut longest = Duration::ZERO;
            for _ in 0..20 {
                let asked = Instant::now();
                assert_eq!(TlsClient::connect(gateway.address(), &config, "a.test").get("a.test", "/").status, 200);
                longest = longest.max(asked.elapsed());
            }
            assert!(longest < DEADLINE, "{longest:?}");
            let each = rss_kib(gateway.pid()).saturating_sub(before) * 1024 / count as u64;
            println!("{}, {stage}: {each} bytes each, a request beside them took {longest:?} at most", driver.name());
            assert!(each < 64 * 1024, "{stage}: {each} bytes for each half-open handshake");
            for stream in &silent {
                let _ = stream.shutdown(Shutdown::Both);
            }
            drop(silent);
            Dump::wait(&gateway, "all given back", |dump| dump.sum("sessions_open") == 0 && dump.sum("buffers_in_use") == 0);
        }
    }

    /// The timer ends each, whatever its stage.
    fn time_ends_them(driver) {
        let (site, backend) = (Site::new(), Backend::fixed("web"));
        let keys = "timeouts = { handshake = \"300ms\" }";
        let gateway = two_shards(driver, &site.config(backend.address(), keys, "SIMPLE", ""));
        let baseline = Baseline::of(&gateway);
        let config = site.client(&[&TLS12, &TLS13]);
        let name = || ServerName::try_from("a.test").unwrap();
        let mut hello = Vec::new();
        ClientConnection::new(config, name()).unwrap().write_tls(&mut hello).unwrap();
        let silent: Vec<TcpStream> = STAGES.iter().map(|(_, bytes)| {
            let mut stream = TcpStream::connect(gateway.address()).unwrap();
            stream.write_all(&hello[..(*bytes).min(hello.len())]).unwrap();
            stream
        }).collect();
        Dump::wait(&gateway, "three ended by time", |dump| dump.sum("timeout_handshake") == 3 && dump.sum("sessions_open") == 0);
        drop(silent);
        baseline.assert_back(&gateway);
    }
}
