//! `ringgate cores`: another host's copy, this host, and the shards of a running gateway.

#[path = "../src/supervisor/topology/fixture.rs"]
mod fixture;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use self::fixture::Fixture;
use crate::pressure::status_path;
use crate::support::gateway::binary;
use crate::support::tempdir::TempDir;
use crate::support::{Backend, DEADLINE, Driver, Gateway, config};

fn cores(arguments: &[&str]) -> Output {
    Command::new(binary()).arg("cores").args(arguments).output().unwrap()
}

/// On a copy of a host.
fn cores_of(fixture: &Fixture, arguments: &[&str]) -> Output {
    cores(&[&["--sysroot", fixture.path().to_str().unwrap()], arguments].concat())
}

#[track_caller]
fn assert_exit(output: &Output, code: i32, text: &str) {
    let all = [&output.stdout[..], &output.stderr[..]].concat();
    let all = String::from_utf8_lossy(&all);
    assert_eq!(output.status.code(), Some(code), "{all}");
    assert!(all.contains(text), "no {text:?} in {all}");
    assert!(!all.contains('\u{1b}'), "colours in a pipe");
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// Two sockets with a quota, a cpuset and a core that is offline: the whole text is recorded.
#[test]
fn a_bounded_host() {
    let fixture = Fixture::two_sockets();
    fixture.write("sys/fs/cgroup/edge/cpu.max", "250000 100000\n");
    fixture.write("sys/fs/cgroup/edge/cpuset.cpus.effective", "0-7,12-14\n");
    fixture.write("sys/devices/system/cpu/online", "0-14\n");
    let output = cores_of(&fixture, &[]);
    assert_exit(&output, 0, "auto: 3 shards on 4-6");
    insta::assert_snapshot!("bounded_host", text(&output));
    let output = cores_of(&fixture, &["--cores", "all"]);
    assert_exit(&output, 0, "note       11 shards share a quota of 2.5 cores");
}

/// A host that shows nothing but its cores, and one that shows nothing.
#[test]
fn hosts_that_hide() {
    let fixture = Fixture::two_sockets();
    for path in ["sys/devices/system/node", "sys/class/net", "proc", "sys/fs"] {
        fixture.remove(path);
    }
    for core in 0..16 {
        fixture.remove(&format!("sys/devices/system/cpu/cpu{core}/topology/physical_package_id"));
        fixture.remove(&format!("sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list"));
        fixture.remove(&format!("sys/devices/system/cpu/cpu{core}/cache"));
    }
    let output = cores_of(&fixture, &[]);
    assert_exit(&output, 0, "auto: 16 shards on 0-15");
    assert!(text(&output).contains("? sockets, ? NUMA nodes, ? last-level caches"), "{}", text(&output));
    assert_exit(&cores_of(&fixture, &["--cores", "numa:0"]), 1, "this host shows none");
    let nothing = Fixture::empty();
    assert_exit(&cores_of(&nothing, &[]), 1, "could not be read");
    assert_exit(&cores_of(&nothing, &["--cores", "2"]), 0, "2 shards");
    assert_exit(&cores(&["--sysroot", "/nonexistent"]), 1, "not a directory");
}

/// JSON has each fact, each choice and its reason; an error is in it as well.
#[test]
fn as_json() {
    let fixture = Fixture::two_sockets();
    fixture.write("sys/fs/cgroup/edge/cpu.max", "150000 100000\n");
    let value = json(&cores_of(&fixture, &["--cores", "numa:0", "--format", "json"]));
    assert_eq!(value["asked"], "numa:0");
    assert_eq!(value["host"]["cgroup"]["quota"], serde_json::json!({"cores": 1.5, "group": "/edge"}));
    assert_eq!(value["host"]["nics"][0]["irqs"][1]["cores"], serde_json::json!([4]));
    let core = &value["host"]["cores"][5];
    assert_eq!(core["siblings"], serde_json::json!([5, 13]));
    assert_eq!(core["nic_irqs"], serde_json::json!([62, 70]));
    assert_eq!((&core["shard"], &core["why"]), (&Value::Null, &"not in the nodes asked for".into()));
    let shards = value["shards"].as_array().unwrap();
    let taken: Vec<_> = shards.iter().map(|shard| shard["core"].as_u64().unwrap()).collect();
    assert_eq!(taken, [0, 1]);
    assert_eq!(shards[1]["why"], value["host"]["cores"][1]["why"]);
    assert_eq!(value["error"], Value::Null);

    let output = cores_of(&fixture, &["--cores", "numa:0,7", "--format", "json"]);
    assert_exit(&output, 1, "no NUMA node 7: this host has the nodes 0-1");
    let value = json(&output);
    assert!(value["error"].as_str().unwrap().contains("NUMA node 7"), "{value}");
    assert_eq!(value["shards"], serde_json::json!([]));
    assert_eq!(value["host"]["cores"].as_array().unwrap().len(), 16);
}

/// `[process] cores` counts, `--cores` comes before it; a bad configuration is explained.
#[test]
fn configurations() {
    let fixture = Fixture::two_sockets();
    let directory = TempDir::new();
    let rest = config::single("127.0.0.1:9".parse().unwrap(), "", "");
    let path = directory.write("a.toml", format!("[process]\ncores = \"numa:1\"\n{rest}"));
    let path = path.to_str().unwrap();
    assert_exit(&cores_of(&fixture, &[path]), 0, "numa:1: 4 shards on 4-7");
    assert_exit(&cores_of(&fixture, &[path, "--cores", "3-2,1"]), 2, "backwards");
    assert_exit(&cores_of(&fixture, &[path, "--cores", "2,1"]), 0, "2,1: 2 shards on 2,1");
    let bad = directory.write("b.toml", "[process]\ncores = \"numa:x\"\n");
    assert_exit(&cores_of(&fixture, &[bad.to_str().unwrap()]), 1, "`x` is not a NUMA node");
    assert_exit(&cores(&[bad.to_str().unwrap(), "--running"]), 1, "nothing was sent");
    assert_exit(&cores(&[path, "--running"]), 1, "sets no `status_file`");
}

#[test]
fn usage() {
    for arguments in [
        &["--running"][..],
        &["a.toml", "--status-file", "b"],
        &["a.toml", "--running", "--cores", "all"],
        &["--status-file", "b", "--sysroot", "/"],
        &["--format", "yaml"],
        &["--over", "soon"],
        &["--over", "0.2"],
        &["a.toml", "--over", "1"],
        &["--status-file", "a", "--over", "-1"],
        &["a.toml", "b.toml"],
    ] {
        assert_eq!(cores(arguments).status.code(), Some(2), "{arguments:?}");
    }
    assert_exit(
        &cores(&["--status-file", "/nonexistent/status.json"]),
        1,
        "no gateway runs with status_file",
    );
    assert_exit(&cores(&["--status-file", "/dev/null"]), 1, "not a status file");
}

/// Wrong forms are answered with the right ones, and where JSON is wanted, errors are JSON too.
#[test]
fn failures() {
    assert_exit(&cores(&["--cores", "ALL"]), 2, "expected auto, all, a number of cores");
    for arguments in [
        &["--status-file", "/nonexistent/status.json"][..],
        &["--sysroot", "/nonexistent"],
        &["/nonexistent/ringgate.toml"],
    ] {
        let output = cores(&[arguments, &["--format", "json"]].concat());
        assert_exit(&output, 1, "error");
        assert!(!json(&output)["error"].as_str().unwrap().is_empty(), "{arguments:?}");
    }
}

/// A reader that went away is no failure; a full disk is one. Neither is a panic, on standard error as well.
#[test]
fn output_that_can_not_be_written() {
    for arguments in [&["cores"][..], &["check", "configs/quickstart.toml"], &["--help"]] {
        let run = |stdout: Stdio| {
            let mut command = Command::new(binary());
            command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).stdout(stdout).output().unwrap()
        };
        let full = run(fs::OpenOptions::new().write(true).open("/dev/full").unwrap().into());
        assert_exit(&full, 1, "error: standard output: No space left");
        // The pipe's other end goes away first.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert_exit(&run(writer.into()), 0, "");
    }
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(binary());
    let status =
        command.args(["cores", "--cores", "1023"]).stdout(writer.try_clone().unwrap()).stderr(writer);
    assert_eq!(status.status().unwrap().code(), Some(1));
}

/// What is shown of this host is what `run` does on it, for `numa:` too where there are nodes.
#[test]
fn this_host() {
    let first_node = |value: &Value| value["host"]["numa_nodes"][0]["node"].as_u64();
    let value = json(&cores(&["--format", "json"]));
    let mut forms = vec!["auto".to_owned(), "all".into()];
    forms.extend(first_node(&value).map(|node| format!("numa:{node}")));
    let backend = Backend::fixed("ok");
    for form in forms {
        let value = json(&cores(&["--cores", &form, "--format", "json"]));
        let expected = value["shards"].as_array().unwrap().len();
        let single = config::single(backend.address(), "", "");
        let gateway = Gateway::start_with(&single, &["--cores", &form, "--driver", "epoll"]);
        let ready = gateway.stdout().pop().unwrap();
        assert!(ready.contains(&format!("shards={expected} ")), "{form}: {ready}, not {expected}");
        for shard in value["shards"].as_array().unwrap() {
            gateway.wait_stderr(&format!("core=\"{}\"", shard["core"]));
        }
        gateway.stop();
    }
    let missing = Command::new(binary())
        .args(["run", "configs/quickstart.toml", "--cores", "numa:1023"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert_exit(&missing, 1, "no NUMA node 1023");
}

/// A gateway with a status file.
fn running(driver: Driver, shards: &[&str]) -> (Gateway, PathBuf, Backend) {
    let backend = Backend::fixed("ok");
    let path = status_path();
    let single = config::single(backend.address(), "", "");
    let text = format!("[process]\nstatus_file = {path:?}\n{single}");
    let arguments = [&["--driver", driver.name()], shards].concat();
    (Gateway::start_with(&text, &arguments), path, backend)
}

fn ask(path: &Path, arguments: &[&str]) -> Output {
    cores(&[&["--status-file", path.to_str().unwrap()], arguments].concat())
}

both_drivers! {
    /// Connections, requests and shares of each shard add up, for the table, the JSON and the dump alike.
    fn load_of_shards(driver) {
        let (gateway, path, _backend) = running(driver, &["--cores", "all", "--no-pin"]);
        let mut clients: Vec<_> = (0..8).map(|_| gateway.connect()).collect();
        for client in &mut clients {
            assert_eq!(client.get("a.test", "/").text(), "ok");
        }
        let status = json(&ask(&path, &["--over", "0", "--format", "json"]));
        let shards = status["load"]["shards"].as_array().unwrap();
        let sum = |key: &str| shards.iter().map(|shard| shard[key].as_f64().unwrap()).sum::<f64>();
        assert_eq!((sum("connections"), sum("accepted"), sum("requests")), (8.0, 8.0, 8.0));
        for key in ["accept_share", "accept_share_total"] {
            assert!((sum(key) - 1.0).abs() < 0.001, "{status}");
        }
        assert!(sum("busy_share_total") > 0.0 && sum("busy_share") <= shards.len() as f64, "{status}");
        assert!(shards.iter().all(|shard| shard["core"].is_null()), "not pinned: {status}");
        assert!(status["load"]["window_s"].as_f64().unwrap() > 0.0);

        // Nobody came since.
        let output = ask(&path, &[]);
        assert_exit(&output, 0, "SHARD  CORE  CONNECTIONS  REQUESTS");
        let lines: Vec<String> = text(&output).lines().map(str::to_owned).collect();
        assert!(lines[0].starts_with(&format!("process {}: serving, generation 1;", gateway.pid())));
        assert_eq!(lines.len(), 3 + shards.len());
        assert!(lines[3..].iter().all(|line| line.split_whitespace().nth(7) == Some("-")), "{lines:?}");

        gateway.wait_stdout("three dumps", |lines| {
            lines.iter().filter(|line| line.starts_with("dump ")).count() == 3
        });
        let line = gateway.stdout().iter().rev().find_map(|line| line.strip_prefix("dump ").map(str::to_owned));
        let dump: Value = serde_json::from_str(&line.unwrap()).unwrap();
        assert!(dump["window_s"].as_f64().unwrap() >= 1.0, "{dump}");
        let first = &dump["shards"][0];
        assert_eq!((&first["shard"], &first["connections"]), (&0.into(), &first["stats"]["sessions_open"]));
        assert!(first["age_us"].as_u64().unwrap() > first["cpu_us"].as_u64().unwrap());
        gateway.stop();
    }

    /// A shard that works all the time is busy all the time, and says which core it is on.
    fn busy_share(driver) {
        let (gateway, path, _backend) = running(driver, &["--cores", "1"]);
        ask(&path, &["--over", "0"]);
        let mut client = gateway.connect();
        let started = Instant::now();
        let share = loop {
            for _ in 0..200 {
                assert_eq!(client.get("a.test", "/").text(), "ok");
            }
            let status = json(&ask(&path, &["--over", "0", "--format", "json"]));
            let shard = &status["load"]["shards"][0];
            assert_eq!(shard["core"], json(&cores(&["--cores", "1", "--format", "json"]))["shards"][0]["core"]);
            let share = shard["busy_share"].as_f64().unwrap();
            if share > 0.01 {
                break share;
            }
            assert!(started.elapsed() < DEADLINE, "{status}");
        };
        assert!(share <= 1.0);
        gateway.stop();
    }

    /// Every question gets an answer that began after it, whatever else is asked meanwhile.
    fn many_questions(driver) {
        let (gateway, path, _backend) = running(driver, &["--cores", "all", "--no-pin"]);
        let askers: Vec<_> = (0..4)
            .map(|_| {
                let path = path.clone();
                thread::spawn(move || {
                    (0..3).for_each(|_| assert_exit(&ask(&path, &["--over", "0"]), 0, "SHARD"));
                })
            })
            .collect();
        for _ in 0..30 {
            gateway.signal("USR1");
        }
        askers.into_iter().for_each(|asker| asker.join().unwrap());
        let started = Instant::now();
        loop {
            let status: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            if status["load"]["requests"] == status["load"]["answered"] {
                break;
            }
            assert!(started.elapsed() < DEADLINE, "{status}");
            thread::sleep(Duration::from_millis(5));
        }
        gateway.stop();
    }

    /// A drain whose first shards are done already still tells of the others.
    fn while_draining(driver) {
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
        let path = status_path();
        let single = config::single(backend.address(), "", "");
        let mut gateway = Gateway::start_with(
            &format!("[process]\nstatus_file = {path:?}\n{single}"),
            &["--driver", driver.name(), "--cores", "all", "--no-pin"],
        );
        let mut busy = gateway.connect();
        busy.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        backend.wait_requests(1);
        gateway.signal("TERM");
        let started = Instant::now();
        loop {
            let output = ask(&path, &["--over", "0", "--format", "json"]);
            assert_exit(&output, 0, "load");
            let status = json(&output);
            if status["load"]["shards"].as_array().unwrap().len() == 1 {
                assert_eq!(status["load"]["shards"][0]["connections"], 1, "{status}");
                break;
            }
            assert!(started.elapsed() < DEADLINE, "{status}");
        }
        gate.open();
        assert_eq!(busy.response("GET").status, 200);
        assert_eq!(gateway.wait_exit().code(), Some(0));
    }

    /// Nobody waits for ever on a gateway that does not answer.
    fn no_answer(driver) {
        let (mut gateway, path, _backend) = running(driver, &["--cores", "1", "--no-pin"]);
        gateway.signal("STOP");
        assert_exit(&ask(&path, &["--wait", "0"]), 3, "no answer");
        gateway.signal("CONT");
        assert_exit(&ask(&path, &["--over", "0"]), 0, "serving");
        gateway.signal("KILL");
        gateway.wait_exit();
        assert_exit(&ask(&path, &[]), 1, "does not run any more");
        fs::remove_file(&path).unwrap();
    }
}

/// A gateway that is stopped can not answer, and that is what is said.
#[test]
fn a_stopped_gateway() {
    let (gateway, path, _backend) = running(Driver::Epoll, &["--cores", "1"]);
    let status: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let send = |signal: &str| {
        let kill = Command::new("sh").arg("-c").arg(format!("kill -{signal} {}", status["pid"])).status();
        assert!(kill.unwrap().success());
    };
    send("STOP");
    let output = ask(&path, &["--wait", "0.3"]);
    send("CONT");
    assert_exit(&output, 3, "within 0.3 s (it is stopped");
    assert_exit(&ask(&path, &["--over", "0.1"]), 0, "BUSY");
    gateway.stop();
}
