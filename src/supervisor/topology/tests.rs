//! What is read of a large host, of one that hides most, and of one that lies.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::fixture::Fixture;
use super::*;

fn of(fixture: &Fixture) -> Topology {
    Topology::of_copy(fixture.path())
}

fn allowed(host: &Topology) -> String {
    format_list(&host.allowed().map(|core| core.core).collect::<Vec<_>>())
}

#[test]
fn two_sockets() {
    let host = of(&Fixture::two_sockets());
    assert_eq!(host.cores.len(), 16);
    let expected = Core {
        core: 13,
        online: true,
        allowed: true,
        socket: Some(1),
        numa_node: Some(1),
        llc: Some(2),
        siblings: Some(vec![5, 13]),
    };
    assert_eq!(host.core(13), Some(&expected));
    assert_eq!(host.core(16), None);
    let caches: Vec<_> = host.caches.iter().map(|cache| format_list(&cache.cores)).collect();
    assert_eq!(caches, ["0-1,8-9", "2-3,10-11", "4-5,12-13", "6-7,14-15"]);
    assert!(host.caches.iter().all(|cache| (cache.level, cache.kib) == (3, Some(16384))));
    assert_eq!(host.nodes.len(), 2);
    assert_eq!(host.cgroup, Cgroup::default());
    assert_eq!(host.leader(host.core(13).unwrap()), 5);
}

#[test]
fn network_cards() {
    let host = of(&Fixture::two_sockets());
    let names: Vec<_> = host.nics.iter().map(|nic| nic.name.as_str()).collect();
    assert_eq!(names, ["eth0", "eth1"], "loopback has no device");
    let [eth0, eth1] = &host.nics[..] else { panic!() };
    assert_eq!((eth0.rx_queues, eth0.tx_queues, eth0.numa_node, eth0.is_up()), (4, 4, Some(1), true));
    assert_eq!(eth0.irqs.len(), 5);
    let expected = Irq { irq: 62, name: Some("eth0-TxRx-1".into()), cores: Some(vec![5]) };
    assert_eq!(eth0.irqs[2], expected);
    assert_eq!((eth1.numa_node, eth1.is_up()), (Some(0), false), "a virtio device is asked by its parent");
    let anywhere = Irq { irq: 70, name: Some("virtio3-rx".into()), cores: Some((0..16).collect()) };
    assert_eq!(eth1.irqs, [anywhere]);
    let on_5: Vec<_> = host.irqs_of(5).map(|(nic, irq)| (nic, irq.irq)).collect();
    assert_eq!(on_5, [("eth0", 62), ("eth1", 70)]);
    assert_eq!(host.nic_node(), Some(1), "the one that is down does not count");
    let both_up = Fixture::two_sockets();
    both_up.write("sys/class/net/eth1/operstate", "up\n");
    assert_eq!(of(&both_up).nic_node(), None);
}

/// What this process may use: its affinity where that is known, else the cpuset, else what is online.
#[test]
fn allowed_cores() {
    let fixture = Fixture::two_sockets();
    fixture.write("sys/devices/system/cpu/online", "0-13\n");
    assert_eq!(allowed(&of(&fixture)), "0-13");
    fixture.write("sys/fs/cgroup/edge/cpuset.cpus.effective", "2-5,10-15\n");
    let host = of(&fixture);
    assert_eq!(allowed(&host), "2-5,10-13");
    assert!(!host.core(15).unwrap().online);
    assert_eq!(host.leader(host.core(12).unwrap()), 4);
    fixture.write("proc/self/status", "Name:\tringgate\nCpus_allowed_list:\t3,12-15\nMems_allowed:\t1\n");
    let host = of(&fixture);
    assert_eq!(allowed(&host), "3,12-13");
    assert_eq!(host.leader(host.core(12).unwrap()), 12, "core 4 is not ours");
}

/// Each file that may be missing, missing: no fact but its own is lost.
#[test]
fn missing_files() {
    let fixture = Fixture::two_sockets();
    let whole = of(&fixture);
    for (path, changed) in [
        ("sys/devices/system/cpu/cpu3/topology/physical_package_id", true),
        ("sys/devices/system/cpu/cpu3/topology/core_id", false),
        ("sys/devices/system/cpu/cpu3/topology/thread_siblings_list", false),
        ("sys/devices/system/cpu/cpu3/topology", true),
        ("sys/devices/system/cpu/cpu3/cache/index2/level", true),
        ("sys/devices/system/cpu/cpu3/cache/index2/type", false),
        ("sys/devices/system/cpu/cpu3/cache/index2/size", false),
        ("sys/devices/system/cpu/cpu3/cache", true),
        ("sys/devices/system/cpu/online", false),
        ("sys/devices/system/cpu", true),
        ("sys/devices/system/node", true),
        ("sys/class/net", true),
        ("sys/class/net/eth0/operstate", true),
        ("sys/class/net/eth0/device/msi_irqs", true),
        ("sys/class/net/eth0/device/numa_node", true),
        ("sys/fs/cgroup", false),
        ("proc/irq", true),
        ("proc/irq/62/effective_affinity_list", true),
        ("proc/interrupts", true),
        ("proc/self/mountinfo", false),
        ("proc", true),
        ("sys", true),
    ] {
        let (path, aside) = (fixture.path().join(path), fixture.path().join(format!("{path}.aside")));
        std::fs::rename(&path, &aside).unwrap();
        let host = of(&fixture);
        std::fs::rename(&aside, &path).unwrap();
        assert_eq!(host != whole, changed, "{path:?}");
        host.cores.iter().for_each(|core| assert!(host.leader(core) <= core.core));
    }
    assert_eq!(of(&fixture), whole);
    assert_eq!(of(&Fixture::empty()), Topology::default());
}

/// Without lists of siblings, socket and core id tell; without those, nobody is a sibling.
#[test]
fn siblings_without_a_list() {
    let fixture = Fixture::two_sockets();
    for core in 0..16 {
        fixture.remove(&format!("sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list"));
    }
    let host = of(&fixture);
    assert_eq!(host.cores, of(&Fixture::two_sockets()).cores);
    for core in 0..16 {
        fixture.remove(&format!("sys/devices/system/cpu/cpu{core}/topology/core_id"));
    }
    let host = of(&fixture);
    assert!(host.cores.iter().all(|core| core.siblings.is_none() && host.leader(core) == core.core));
}

/// Files with anything in them, directories and pipes in their places: unknown at worst.
#[test]
fn hostile_files() {
    let files = [
        "sys/devices/system/cpu/online",
        "sys/devices/system/cpu/cpu3/topology/physical_package_id",
        "sys/devices/system/cpu/cpu3/topology/thread_siblings_list",
        "sys/devices/system/cpu/cpu3/cache/index2/level",
        "sys/devices/system/cpu/cpu3/cache/index2/shared_cpu_list",
        "sys/devices/system/cpu/cpu3/cache/index2/size",
        "sys/devices/system/node/node1/cpulist",
        "sys/class/net/eth0/operstate",
        "sys/class/net/eth0/device/numa_node",
        "sys/fs/cgroup/edge/cpu.max",
        "sys/fs/cgroup/edge/cpuset.cpus.effective",
        "proc/irq/62/effective_affinity_list",
        "proc/interrupts",
        "proc/self/cgroup",
        "proc/self/mountinfo",
        "proc/self/status",
    ];
    let texts = ["", "-1", "4294967296", "0-4294967295", "7-3", "\0", "0::/../..", "\u{1b}[2J"];
    let fixture = Fixture::two_sockets();
    for file in files {
        let path = fixture.path().join(file);
        let before = std::fs::read_to_string(&path).ok();
        for text in texts {
            fixture.write(file, text);
            let host = of(&fixture);
            assert_eq!(host.cores.len(), 16, "{file} {text:?}");
            host.cores.iter().for_each(|core| assert!(host.leader(core) <= core.core));
        }
        fixture.remove(file);
        fixture.write(&format!("{file}/inside"), "");
        assert_eq!(of(&fixture).cores.len(), 16, "{file} as a directory");
        fixture.remove(file);
        if let Some(text) = before {
            fixture.write(file, &text);
        }
    }
    fixture.write("sys/devices/system/cpu/cpu99999999999/topology/core_id", "0");
    fixture.write("sys/devices/system/cpu/cpu4294967295/topology/core_id", "0");
    assert_eq!(of(&fixture).cores.len(), 17);
    // Not UTF-8.
    std::fs::write(fixture.path().join("proc/interrupts"), b"60: \xff").unwrap();
    assert!(of(&fixture).nics.iter().flat_map(|nic| &nic.irqs).all(|irq| irq.name.is_none()));
}

/// The host that runs the test shows at least the cores that the test may use.
#[test]
fn this_host() {
    let host = Topology::detect();
    assert!(host.allowed().count() > 0);
    assert!(host.allowed().all(|core| core.online && host.leader(core) <= core.core));
}
