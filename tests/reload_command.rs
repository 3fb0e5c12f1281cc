//! `ringgate reload` and the status file it reads.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::pressure::{Plain, status_path};
use crate::support::gateway::binary;
use crate::support::{Backend, DEADLINE, Driver, Gateway, config};

/// A gateway that keeps a status file.
struct Reported {
    gateway: Gateway,
    path: PathBuf,
    /// `[process]` as it was started with.
    process: String,
}

impl Reported {
    fn start(driver: Driver, rest: &str, process_keys: &str) -> Self {
        let path = status_path();
        let process = format!("[process]\nstatus_file = {path:?}\n{process_keys}\n");
        let gateway = Gateway::start(driver, &format!("{process}{rest}"));
        Self { gateway, path, process }
    }

    fn rewrite(&self, rest: &str) {
        self.gateway.rewrite(&format!("{}{rest}", self.process));
    }

    fn status(&self) -> Value {
        serde_json::from_slice(&fs::read(&self.path).unwrap()).unwrap()
    }

    fn reload(&self, arguments: &[&str]) -> Output {
        reload(&self.path, arguments)
    }
}

fn reload(status_file: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.arg("reload").arg("--status-file").arg(status_file).args(arguments).output().unwrap()
}

#[track_caller]
fn assert_exit(output: &Output, code: i32, text: &str) {
    let all = [&output.stdout[..], &output.stderr[..]].concat();
    let all = String::from_utf8_lossy(&all);
    assert_eq!(output.status.code(), Some(code), "{all}");
    assert!(all.contains(text), "no {text:?} in {all:?}");
}

both_drivers! {
    /// What somebody lays where the file is prepared is neither written to nor waited for.
    fn a_pipe_beside_the_file(driver) {
        let backend = Backend::fixed("ok");
        let reported = Reported::start(driver, &config::single(backend.address(), "", ""), "");
        let mut beside = reported.path.clone().into_os_string();
        beside.push(".new");
        assert!(Command::new("mkfifo").arg(&beside).status().unwrap().success());
        reported.rewrite(&config::single(backend.address(), "", ""));
        assert_exit(&reported.reload(&[]), 0, "generation 2");
    }

    /// A good configuration is effective when the command returns; a bad one is not, and the command says why.
    fn outcomes(driver) {
        let (old, new) = (Backend::fixed("old"), Backend::fixed("new"));
        let reported = Reported::start(driver, &config::single(old.address(), "", ""), "");
        let mut client = reported.gateway.connect();
        assert_eq!(client.get("a.test", "/").text(), "old");

        reported.rewrite(&config::single(new.address(), "", ""));
        assert_exit(&reported.reload(&[]), 0, "generation 2 is effective");
        assert_eq!(client.get("a.test", "/").text(), "new");

        reported.rewrite(&config::single(old.address(), "no_such_key = 1", ""));
        let refused = reported.reload(&["--wait", "20"]);
        assert_exit(&refused, 1, "no_such_key");
        assert!(String::from_utf8_lossy(&refused.stderr).contains("generation 2 stays"));
        assert_eq!(client.get("a.test", "/").text(), "new");
        let status = reported.status();
        assert_eq!((&status["reload"]["ok"], &status["generation"]), (&Value::from(false), &Value::from(2)));

        reported.rewrite(&config::single(old.address(), "", ""));
        let output = reported.reload(&["--json"]);
        assert_exit(&output, 0, "{");
        let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(printed, reported.status());
        assert_eq!(client.get("a.test", "/").text(), "old");
    }

    /// The status says who runs and where, through a drain, and goes away with the process.
    fn the_status_file(driver) {
        let gate = crate::support::Gate::new();
        let backend = Backend::start({
            let gate = gate.clone();
            move |conn| {
                while conn.request().is_some() {
                    gate.wait();
                    conn.reply(200, "late");
                }
            }
        });
        let mut reported = Reported::start(driver, &config::single(backend.address(), "", ""), "");
        let status = reported.status();
        assert_eq!(status["pid"], reported.gateway.pid());
        assert_eq!(status["state"], "serving");
        let expected = serde_json::json!({
            "requests": 0, "answered": 0, "ok": true, "error": null, "warnings": [], "warnings_left_out": 0,
        });
        assert_eq!(status["reload"], expected);
        let listening = &reported.gateway.listening()[0];
        let expected = serde_json::json!([{
            "address": listening.address.to_string(), "gateway": listening.gateway, "server": listening.server,
        }]);
        assert_eq!(status["listening"], expected);

        let mut busy = reported.gateway.connect();
        busy.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        backend.wait_requests(1);
        reported.gateway.signal("TERM");
        reported.gateway.wait_stderr("draining");
        let started = Instant::now();
        while reported.status()["state"] != "draining" {
            assert!(started.elapsed() < DEADLINE);
            thread::sleep(Duration::from_millis(5));
        }
        assert_exit(&reported.reload(&[]), 1, "draining");
        gate.open();
        assert_eq!(busy.response("GET").status, 200);
        assert_eq!(reported.gateway.wait_exit().code(), Some(0));
        assert!(!reported.path.exists());
        assert_exit(&reported.reload(&[]), 1, "no gateway runs with status_file");
    }

    /// What a reload can not change, and what its configuration hardly means, is told to who asked for it.
    fn warnings(driver) {
        let backend = Plain::small();
        let single = config::single(backend.address(), "", "");
        let reported = Reported::start(driver, &single, "");
        let (head, service) = single.split_at(single.find("[[service]]").unwrap());
        let never = config::rule_to("uri = { prefix = '/never' }", "app");
        reported.gateway.rewrite(&format!("{}cores = \"all\"\n{head}{never}{service}", reported.process));
        let output = reported.reload(&[]);
        assert_exit(&output, 0, "reloaded: generation 2 is effective, with 2 warnings:\n");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.contains("warning[unreachable-route]: no request reaches this route\n"), "{told}");
        assert!(told.contains("[process] cores is fixed while the process lives"), "{told}");
        let status = reported.status();
        let codes: Vec<_> =
            status["reload"]["warnings"].as_array().unwrap().iter().map(|warning| &warning["code"]).collect();
        assert_eq!(codes, ["unreachable-route", "fixed-while-running"]);
        assert!(status["reload"]["warnings"][0]["line"].as_u64() > Some(1), "{status}");

        reported.rewrite(&single);
        let output = reported.reload(&[]);
        assert_exit(&output, 0, "generation 3 is effective\n");
        assert!(output.stderr.is_empty());
        assert_eq!(reported.status()["reload"]["warnings"], serde_json::json!([]));
    }

    /// Requests that come while a reload is loading are answered by one more.
    fn requests_coalesce(driver) {
        let backend = Plain::small();
        // Each takes some time to compile.
        let slow: String = (0..150)
            .map(|number| config::rule_to(&format!("uri = {{ regex = '/{number}[\\w-]{{12}}' }}"), "app"))
            .collect();
        let single = config::single(backend.address(), "", "");
        let (head, service) = single.split_at(single.find("[[virtual_service.http]]").unwrap());
        let reported = Reported::start(driver, &single, "");
        reported.rewrite(&format!("{head}{slow}{service}"));
        let mut sent = 0;
        while sent < 20 {
            reported.gateway.signal("HUP");
            sent += 1;
            // Signals that meet in the kernel would count as one.
            let started = Instant::now();
            while reported.status()["reload"]["requests"] != sent {
                assert!(started.elapsed() < DEADLINE, "{}", reported.status());
                thread::sleep(Duration::from_millis(1));
            }
        }
        let during = reported.status();
        assert_exit(&reported.reload(&[]), 0, "effective");
        let after = reported.status();
        assert_eq!((&after["reload"]["answered"], &after["reload"]["ok"]), (&Value::from(21), &Value::from(true)));
        let reloads = after["generation"].as_u64().unwrap() - 1;
        assert!((2..=8).contains(&reloads), "21 requests made {reloads} reloads; after 20: {during}");
    }

    /// Nobody waits for ever on a gateway that does not answer.
    fn no_answer(driver) {
        let backend = Plain::small();
        let mut reported = Reported::start(driver, &config::single(backend.address(), "", ""), "");
        reported.gateway.signal("STOP");
        let started = Instant::now();
        assert_exit(&reported.reload(&["--wait", "1"]), 3, "no answer");
        assert!(started.elapsed() >= Duration::from_secs(1));
        let asked = format!("asked process {} to reload", reported.gateway.pid());
        assert_exit(&reported.reload(&["--wait", "0"]), 0, &asked);
        reported.gateway.signal("CONT");
        assert_exit(&reported.reload(&[]), 0, "effective");
        // A process that is gone without having removed its file gets no signal sent: its id may be another's.
        reported.gateway.signal("KILL");
        reported.gateway.wait_exit();
        assert_exit(&reported.reload(&[]), 1, "does not run any more");
        fs::remove_file(&reported.path).unwrap();
    }
}

/// The place of the file can be read from the configuration; wrong usage is exit code 2.
#[test]
fn usage() {
    let backend = Plain::small();
    let reported = Reported::start(Driver::Epoll, &config::single(backend.address(), "", ""), "");
    let run = |arguments: &[&str]| Command::new(binary()).arg("reload").args(arguments).output().unwrap();
    let config_path = reported.gateway.directory().join("ringgate.toml");
    assert_exit(&run(&[config_path.to_str().unwrap()]), 0, "generation 2");
    reported.gateway.rewrite(&config::single(backend.address(), "", ""));
    assert_exit(&run(&[config_path.to_str().unwrap()]), 1, "sets no `status_file`");
    reported.rewrite("[[gateway");
    assert_exit(&run(&[config_path.to_str().unwrap()]), 1, "nothing was sent");
    assert_exit(&run(&[]), 2, "--status-file");
    assert_exit(&run(&["--status-file", "x", "--wait", "soon"]), 2, "soon");
    assert_exit(&run(&["--status-file", "/dev/null"]), 1, "not a status file of ringgate");
}

/// A place that can not be written is an error at the start, a relative one is refused.
#[test]
fn bad_places() {
    let backend = Plain::small();
    let single = config::single(backend.address(), "", "");
    for (path, text) in
        [("/nonexistent/status.json", "/nonexistent/status.json"), ("status.json", "absolute")]
    {
        let directory = crate::support::tempdir::TempDir::new();
        let file = directory.write("x.toml", format!("[process]\nstatus_file = {path:?}\n{single}"));
        let output =
            Command::new(binary()).args(["run", "--cores", "1", "--no-pin"]).arg(file).output().unwrap();
        assert_exit(&output, 1, text);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(told.matches("error").count(), 1, "told once: {told}");
    }
}
