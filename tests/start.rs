//! A start that fails says why in one line on standard error, whatever the logs are set to; and what a start takes
//! from others, or leaves to them.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::pressure::{Plain, status_path};
use crate::support::gateway::binary;
use crate::support::tempdir::TempDir;
use crate::support::{Driver, Gateway, config};

/// Runs a gateway that can not start.
fn run(config: &str, logs: &str) -> Output {
    let directory = TempDir::new();
    let path = directory.write("ringgate.toml", config);
    let mut command = Command::new(binary());
    command
        .arg("run")
        .arg(path)
        .args(["--driver", "epoll", "--cores", "1", "--no-pin"])
        .env("RUST_LOG", logs);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    output
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn with_status_file(path: &Path) -> String {
    format!("[process]\nstatus_file = {path:?}\n{}", config::single("127.0.0.1:9".parse().unwrap(), "", ""))
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_taken_port() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let text = config::single("127.0.0.1:9".parse().unwrap(), "", "")
        .replace("port = 0", &format!("port = {}", address.port()));
    let expected = format!(
        "error: can not bind {address} (gateway web, server 1): address already in use: another process listens \
         there; stop it or choose another port\n"
    );
    assert_eq!(stderr(&run(&text, "off")), expected);
    let logged = stderr(&run(&text, "info"));
    assert!(logged.contains(&expected) && logged.matches("can not bind").count() == 1, "{logged}");
    assert!(!logged.contains("reload") && !logged.contains("generation"), "{logged}");
}

/// A status file belongs to one running process: a second one does not start, and what a dead one left is taken over.
#[test]
fn a_status_file_has_one_owner() {
    let path = status_path();
    let text = with_status_file(&path);
    let mut first = Gateway::start(Driver::Epoll, &text);
    let expected = format!(
        "error: status_file {}: belongs to running process {}: choose another file or stop that process\n",
        path.display(),
        first.pid()
    );
    assert_eq!(stderr(&run(&text, "off")), expected);
    assert_eq!(read(&path)["pid"], first.pid());
    first.signal("KILL");
    first.wait_exit();
    assert!(path.exists());
    let second = Gateway::start(Driver::Epoll, &text);
    assert_eq!(read(&path)["pid"], second.pid());
    assert!(!second.stderr().contains("status_file"), "{}", second.stderr());
    second.stop();
    assert!(!path.exists());
}

/// A process leaves a file alone that became another's.
#[test]
fn a_lost_status_file_is_left_alone() {
    let (path, other) = (status_path(), status_path());
    let first = Gateway::start(Driver::Epoll, &with_status_file(&path));
    let second = Gateway::start(Driver::Epoll, &with_status_file(&other));
    fs::copy(&other, &path).unwrap();
    first.signal("HUP");
    first.wait_stderr(&format!("belongs to running process {}", second.pid()));
    first.stop();
    assert_eq!(read(&path)["pid"], second.pid());
    second.stop();
    assert!(!other.exists());
    fs::remove_file(path).unwrap();
}

/// A gateway in a shell that sets the limit of descriptors.
fn with_descriptors(ulimit: &str) -> (Gateway, Plain) {
    let backend = Plain::small();
    let directory = TempDir::new();
    let path = directory.write("ringgate.toml", config::single(backend.address(), "", ""));
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("ulimit {ulimit}; exec \"$0\" run \"$1\" --driver epoll --cores 1 --no-pin")])
        .arg(binary())
        .arg(path);
    (Gateway::spawn(command, directory), backend)
}

#[test]
fn few_descriptors_are_told() {
    let (gateway, _backend) = with_descriptors("-n 256");
    gateway.wait_stderr("256 descriptors allow about 1");
    gateway.wait_stderr(" connections, connections_max is 100000: raise ulimit -n (LimitNOFILE= in systemd)");
    gateway.stop();
}

/// A soft limit is no limit.
#[test]
fn the_soft_limit_is_raised() {
    let (gateway, _backend) = with_descriptors("-S -n 256");
    let limits = fs::read_to_string(format!("/proc/{}/limits", gateway.pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let [soft, hard] = line.split_whitespace().skip(3).take(2).collect::<Vec<_>>()[..] else {
        panic!("{line}")
    };
    assert_eq!(soft, hard);
    assert!(!gateway.stderr().contains(" 256 descriptors"), "{}", gateway.stderr());
    gateway.stop();
}

/// A value that is no filter is said, and logs are as without it.
#[test]
fn a_bad_log_filter() {
    for (value, told) in [("verbose", "\"verbose\" is no level"), ("ringgate=loud", "ringgate=loud")] {
        let log = stderr(&run("[[gateway", value));
        assert!(
            log.contains("WARN") && log.contains("RUST_LOG is not used: ") && log.contains(told),
            "{log}"
        );
        assert_eq!(log.matches("RUST_LOG").count(), 1, "{log}");
    }
    assert!(!stderr(&run("[[gateway", "warn")).contains("RUST_LOG"));
}
