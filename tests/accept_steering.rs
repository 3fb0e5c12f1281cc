//! `accept_steering = "cpu"`: connections go to the shard of the CPU that received them, which on the loopback
//! interface is the client's.

use std::net::SocketAddr;
use std::process::Command;
use std::thread;

use crate::cores::allowed;
use crate::pressure::{Dump, free_port};
use crate::support::gateway::binary;
use crate::support::tempdir::TempDir;
use crate::support::{Client, Gateway, config};

const PER_CORE: u64 = 16;

/// A gateway with these ports; nothing behind it answers.
fn text(ports: &[u16]) -> String {
    let mut text = "[process]\naccept_balance = \"off\"\naccept_steering = \"cpu\"\n".to_owned();
    text += &config::gateway("", &["*"]);
    for port in ports {
        text += &format!(
            "[[gateway.server]]\nport = {port}\nbind = \"127.0.0.1\"\nprotocol = \"HTTP\"\nhosts = [\"*\"]\n"
        );
    }
    text
}

/// Connects from each core in turn; returns how many connections each shard got from each.
fn connect_from_each_core(gateway: &Gateway, address: SocketAddr) -> Vec<Vec<u64>> {
    let mut got = Vec::new();
    for core in allowed() {
        let before = Dump::of(gateway);
        let connect = move || {
            assert!(core_affinity::set_for_current(core_affinity::CoreId { id: core as usize }));
            for _ in 0..PER_CORE {
                // Nothing is routed.
                assert_eq!(Client::connect(address).get("a.test", "/").status, 404);
            }
        };
        thread::spawn(connect).join().unwrap();
        let after = Dump::of(gateway).each("sessions");
        got.push(after.iter().zip(before.each("sessions")).map(|(after, before)| after - before).collect());
    }
    got
}

both_drivers! {
    /// Also for a listener that a reload opens; where one is opened again too soon to know the kernel's order, the
    /// log says so and connections are served all the same.
    fn connections_stay_on_their_cpu(driver) {
        let port = free_port();
        // In an order of its own: the shard's number is not its core's.
        let cores: Vec<String> = allowed().iter().rev().map(u32::to_string).collect();
        let cores = if cores.len() == 1 { format!("{0}-{0}", cores[0]) } else { cores.join(",") };
        let gateway = Gateway::start_with(&text(&[]), &["--driver", driver.name(), "--cores", &cores]);
        let shards = allowed().len();
        let expected: Vec<Vec<u64>> = (0..shards)
            .map(|core| (0..shards).map(|shard| if shard + core + 1 == shards { PER_CORE } else { 0 }).collect())
            .collect();
        assert_eq!(connect_from_each_core(&gateway, gateway.address()), expected);
        gateway.reload(&text(&[port]), 2);
        let second: SocketAddr = ([127, 0, 0, 1], port).into();
        assert_eq!(connect_from_each_core(&gateway, second), expected);
        assert_eq!(connect_from_each_core(&gateway, gateway.address()), expected);
        gateway.reload(&text(&[]), 3);
        gateway.reload(&text(&[port]), 4);
        gateway.wait_stderr("connections go by hash, not by CPU");
        let total = |got: Vec<Vec<u64>>| got.iter().flatten().sum::<u64>();
        assert_eq!(total(connect_from_each_core(&gateway, second)), PER_CORE * shards as u64);
        gateway.stop();
    }
}

/// Shards that may run anywhere have no CPU to steer to.
#[test]
fn needs_pinned_shards() {
    let directory = TempDir::new();
    let path = directory.write("c.toml", text(&[]));
    let output = Command::new(binary()).arg("run").arg(path).arg("--no-pin").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("accept_steering") && error.contains("--no-pin"), "{error}");
}
