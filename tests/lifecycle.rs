//! Starting, draining, reloading.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::config;
use crate::support::gateway::binary;
use crate::support::tempdir::TempDir;
use crate::support::{Backend, Client, DEADLINE, Gate, Gateway};

both_drivers! {
    /// Whoever starts it and stops reading its stdout does not lose control of it.
    fn a_full_stdout_holds_nothing_up(driver) {
        let backend = Backend::fixed("ok");
        let folder = TempDir::new();
        let file = folder.path().join("edge.toml");
        std::fs::write(&file, config::single(backend.address(), "", "")).unwrap();
        let mut child = Command::new(binary())
            .args(["run", "--cores", "1", "--no-pin", "--driver", driver.name()])
            .arg(&file)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.starts_with("ready") {
            line.clear();
            assert!(stdout.read_line(&mut line).unwrap() > 0, "it ended early");
        }
        let kill = |signal: &str| {
            let id = child.id().to_string();
            assert!(Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
        };
        // Each prints a kilobyte, a pipe holds 64. Those that arrive together count once: so one after the other.
        for _ in 0..200 {
            kill("USR1");
            thread::sleep(Duration::from_millis(2));
        }
        kill("TERM");
        let started = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if started.elapsed() > DEADLINE {
                child.kill().unwrap();
                panic!("still there");
            }
            thread::sleep(Duration::from_millis(10));
        };
        assert_eq!(status.code(), Some(0));
        drop(stdout);
    }

    /// Idle, both signals end the process with exit code 0.
    fn signals_end_it(driver) {
        for signal in ["TERM", "INT"] {
            let backend = Backend::fixed("ok");
            let mut gateway = Gateway::single(driver, &backend);
            assert_eq!(gateway.connect().get("a.test", "/").text(), "ok");
            gateway.signal(signal);
            assert_eq!(gateway.wait_exit().code(), Some(0), "{signal}");
            assert!(TcpStream::connect(gateway.address()).is_err());
        }
    }

    /// A request under way is finished, told that it was the last, and nothing new is accepted.
    fn drain_finishes_what_is_under_way(driver) {
        let gate = Gate::new();
        let backend = Backend::start({
            let gate = gate.clone();
            move |conn| {
                while conn.request().is_some() {
                    gate.wait();
                    conn.reply(200, "late");
                }
            }
        });
        let mut gateway = Gateway::single(driver, &backend);
        let mut idle = gateway.connect();
        let mut busy = gateway.connect();
        busy.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        backend.wait_requests(1);
        gateway.signal("TERM");
        gateway.wait_stderr("draining");
        idle.assert_closed();
        gate.open();
        assert_eq!(busy.response("GET").text(), "late");
        busy.assert_closed();
        assert_eq!(gateway.wait_exit().code(), Some(0));
    }

    /// A reload changes where new requests go, also on connections that are open; its listener stays.
    fn reload(driver) {
        let (old, new) = (Backend::fixed("old"), Backend::fixed("new"));
        let gateway = Gateway::start(driver, &config::single(old.address(), "", ""));
        let mut client = gateway.connect();
        assert_eq!(client.get("a.test", "/").text(), "old");
        gateway.reload(&config::single(new.address(), "", ""), 2);
        assert_eq!(client.get("a.test", "/").text(), "new");
        assert_eq!(gateway.connect().get("a.test", "/").text(), "new");
    }

    /// A configuration with errors changes nothing, and the log says what is wrong.
    fn bad_reload(driver) {
        let backend = Backend::fixed("ok");
        let gateway = Gateway::single(driver, &backend);
        let mut client = gateway.connect();
        assert_eq!(client.get("a.test", "/").text(), "ok");
        gateway.rewrite(&config::single(backend.address(), "no_such_key = 1", ""));
        gateway.signal("HUP");
        gateway.wait_stderr("not reloaded, generation 1 stays: ");
        assert!(gateway.stderr().contains("no_such_key"), "{}", gateway.stderr());
        assert_eq!(client.get("a.test", "/").text(), "ok");
        gateway.reload(&config::single(backend.address(), "", ""), 2);
        assert_eq!(client.get("a.test", "/").text(), "ok");
    }

    /// No request is lost while the configuration is reloaded over and over.
    fn reload_under_traffic(driver) {
        let backends = [Backend::fixed("a"), Backend::fixed("b")];
        let gateway = Gateway::start_with(
            &config::single(backends[0].address(), "", ""),
            &["--driver", driver.name(), "--cores", "all", "--no-pin"],
        );
        let address = gateway.address();
        let stop = Gate::new();
        let clients: Vec<_> = (0..4)
            .map(|number| {
                let stop = stop.clone();
                thread::spawn(move || {
                    let mut served = 0;
                    let mut kept = Client::connect(address);
                    while !stop.is_open() {
                        // Odd clients connect anew each time.
                        if number % 2 == 1 {
                            kept = Client::connect(address);
                        }
                        assert_eq!(kept.get("a.test", "/").status, 200);
                        served += 1;
                    }
                    served
                })
            })
            .collect();
        for generation in 2..12 {
            let backend = &backends[generation as usize % 2];
            gateway.reload(&config::single(backend.address(), "", ""), generation);
        }
        stop.open();
        for client in clients {
            assert!(client.join().unwrap() > 0);
        }
    }
}
