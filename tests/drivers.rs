//! `--driver`: what is asked for is what runs, and `auto` finds its way where io_uring is forbidden.
//!
//! Forbidding it takes a seccomp filter, which takes C: a small program is compiled here that installs the filter and
//! becomes the gateway. Containers forbid io_uring in the same way.

use std::path::PathBuf;
use std::process::Command;

use crate::support::gateway::{Driver, binary};
use crate::support::tempdir::TempDir;
use crate::support::{Backend, Gateway, config};

/// Makes `io_uring_setup` fail with EPERM for itself and whatever it becomes.
const FORBID: &str = r#"
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <unistd.h>

/* The same number on every architecture. */
#define IO_URING_SETUP 425

int main(int argc, char **argv) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IO_URING_SETUP, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { sizeof filter / sizeof filter[0], filter };
    if (argc < 2 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) {
        perror("seccomp");
        return 125;
    }
    execv(argv[1], argv + 1);
    perror("execv");
    return 126;
}
"#;

/// Compiles the program with the C compiler that the build needs anyway.
fn forbid(directory: &TempDir) -> PathBuf {
    let source = directory.write("forbid.c", FORBID);
    let program = directory.path().join("forbid");
    let output =
        Command::new("cc").arg("-o").arg(&program).arg(source).output().expect("a C compiler named cc");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    program
}

fn ready(gateway: &Gateway) -> String {
    gateway.stdout().into_iter().find(|line| line.starts_with("ready ")).unwrap()
}

both_drivers! {
    /// The `ready` line names the driver that was asked for.
    fn named(driver) {
        let backend = Backend::fixed("ok");
        let gateway = Gateway::single(driver, &backend);
        assert!(ready(&gateway).ends_with(&format!(" driver={}", driver.name())), "{}", ready(&gateway));
    }
}

/// The smallest ring is submitted early when a burst fills it, and the largest can be had: both serve all of it.
#[test]
fn rings_of_any_size_serve_a_burst() {
    if !Driver::io_uring_wanted() {
        return;
    }
    let backend = Backend::fixed("ok");
    for entries in ["256", "32768"] {
        let single = config::single(backend.address(), "", "");
        let arguments = ["--driver", "io_uring", "--ring-entries", entries, "--cores", "1", "--no-pin"];
        let gateway = Gateway::start_with(&single, &arguments);
        let mut clients: Vec<_> = (0..600).map(|_| gateway.connect()).collect();
        for client in &mut clients {
            client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        }
        for client in &mut clients {
            assert_eq!(client.response("GET").text(), "ok");
        }
        gateway.stop();
    }
}

/// By default it is io_uring where the host permits it.
#[test]
fn auto_prefers_io_uring() {
    if Driver::io_uring_wanted() {
        let backend = Backend::fixed("ok");
        let gateway = Gateway::start_with(&config::single(backend.address(), "", ""), &["--cores", "1"]);
        assert!(ready(&gateway).ends_with(" driver=io_uring"), "{}", ready(&gateway));
    }
}

/// Where io_uring is forbidden, `auto` serves on epoll and says why on standard error.
#[test]
fn auto_falls_back() {
    let directory = TempDir::new();
    let backend = Backend::fixed("ok");
    let mut command = Command::new(forbid(&directory));
    let config = directory.write("c.toml", config::single(backend.address(), "", ""));
    command.arg(binary()).arg("run").arg(config).args(["--cores", "1", "--no-pin"]);
    let gateway = Gateway::spawn(command, directory);
    assert!(ready(&gateway).ends_with(" driver=epoll"), "{}", ready(&gateway));
    gateway.wait_stderr("io_uring");
    gateway.wait_stderr("not permitted");
    let log = gateway.stderr();
    let best =
        "not used: io_uring (SINGLE_ISSUER, DEFER_TASKRUN), io_uring (COOP_TASKRUN), io_uring (no flags): ";
    assert!(
        log.contains(best) && log.matches("seccomp profile").count() == 1,
        "one reason, told once: {log}"
    );
    assert_eq!(gateway.connect().get("a.test", "/").text(), "ok");
    gateway.stop();
}

/// Asked for by name, its absence is an error that says what to do.
#[test]
fn io_uring_is_not_replaced_silently() {
    let directory = TempDir::new();
    let config = directory.write("c.toml", config::single("127.0.0.1:9".parse().unwrap(), "", ""));
    let mut command = Command::new(forbid(&directory));
    command.arg(binary()).arg("run").arg(config).args(["--cores", "1", "--no-pin", "--driver", "io_uring"]);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(output.stdout.is_empty());
    assert!(text.contains("io_uring") && text.contains("driver = \"auto\""), "{text}");
}
