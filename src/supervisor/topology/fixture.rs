//! Copies of hosts in a temporary directory, for tests of this crate and of the binary (`tests/cores.rs`).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;

/// A directory with `proc/` and `sys/`; gone when dropped.
#[derive(Debug)]
pub(crate) struct Fixture(TempDir);

impl Fixture {
    /// Nothing in it.
    pub(crate) fn empty() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Removes a file or a directory.
    pub(crate) fn remove(&self, path: &str) {
        let path = self.path().join(path);
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }

    fn link(&self, target: &str, path: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    /// Two sockets, each a NUMA node with four physical cores of two threads and two last-level caches. Threads n and
    /// n + 8 are siblings. `eth0` on node 1 is up and has four queue pairs, whose interrupts 61 to 64 go to cores 4
    /// to 7; `eth1` on node 0, a virtio device, is down. The cgroup has no bounds.
    pub(crate) fn two_sockets() -> Self {
        let fixture = Self::empty();
        fixture.write("proc/self/cgroup", "0::/edge\n");
        fixture.write(
            "proc/self/mountinfo",
            "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n",
        );
        fixture.write("sys/fs/cgroup/edge/cpu.max", "max 100000\n");
        fixture.write("sys/devices/system/cpu/online", "0-15\n");
        for core in 0..16 {
            fixture.core(core);
        }
        fixture.write("sys/devices/system/node/node0/cpulist", "0-3,8-11\n");
        fixture.write("sys/devices/system/node/node1/cpulist", "4-7,12-15\n");
        // Names that only look like numbered ones.
        fixture.write("sys/devices/system/cpu/cpufreq/policy0", "");
        fixture.write("sys/devices/system/node/possible", "0-1\n");
        fixture.pci_nic();
        fixture.virtio_nic();
        fixture.write("sys/class/net/lo/operstate", "unknown\n");
        fixture.write("sys/class/net/lo/queues/rx-0/rps_cpus", "0\n");
        fixture
    }

    fn core(&self, core: u32) {
        let base = format!("sys/devices/system/cpu/cpu{core}");
        let (first, socket) = (core % 8, core % 8 / 4);
        self.write(&format!("{base}/topology/physical_package_id"), &format!("{socket}\n"));
        self.write(&format!("{base}/topology/core_id"), &format!("{}\n", first % 4));
        self.write(&format!("{base}/topology/thread_siblings_list"), &format!("{first},{}\n", first + 8));
        let pair = first / 2 * 2;
        let shared = format!("{pair}-{},{}-{}\n", pair + 1, pair + 8, pair + 9);
        let own = format!("{first},{}\n", first + 8);
        let caches = [
            ("1", "Instruction", "32K", &own),
            ("2", "Unified", "1024K", &own),
            ("3", "Unified", "16384K", &shared),
        ];
        // The instruction cache is index 0, the last level index 2.
        for (index, (level, kind, size, cores)) in caches.into_iter().enumerate() {
            let base = format!("{base}/cache/index{index}");
            self.write(&format!("{base}/level"), level);
            self.write(&format!("{base}/type"), kind);
            self.write(&format!("{base}/size"), size);
            self.write(&format!("{base}/shared_cpu_list"), cores);
        }
    }

    fn pci_nic(&self) {
        let device = "sys/devices/pci0000:80/0000:81:00.0";
        self.link("../../bus/pci", &format!("{device}/subsystem"));
        self.write(&format!("{device}/numa_node"), "1\n");
        let mut interrupts = String::from("            CPU0       CPU1\n");
        for irq in 60..65 {
            self.write(&format!("{device}/msi_irqs/{irq}"), "msix\n");
            let name = if irq == 60 { "eth0-mgmt".into() } else { format!("eth0-TxRx-{}", irq - 61) };
            interrupts
                .push_str(&format!(" {irq}:  17   4  PCI-MSIX-0000:81:00.0  {}-edge  {name}\n", irq - 60));
            let core = if irq == 60 { 0 } else { irq - 57 };
            self.write(&format!("proc/irq/{irq}/effective_affinity_list"), &format!("{core}\n"));
            self.write(&format!("proc/irq/{irq}/smp_affinity_list"), "0-15\n");
        }
        self.write(
            "proc/interrupts",
            &format!("{interrupts} 70: 0 0 PCI-MSIX  0-edge virtio3-rx\nNMI: 0 0\n"),
        );
        let net = format!("{device}/net/eth0");
        self.link("../..", &format!("{net}/device"));
        self.write(&format!("{net}/operstate"), "up\n");
        for queue in 0..4 {
            self.write(&format!("{net}/queues/rx-{queue}/rps_cpus"), "0\n");
            self.write(&format!("{net}/queues/tx-{queue}/xps_cpus"), "0\n");
        }
        self.link("../../devices/pci0000:80/0000:81:00.0/net/eth0", "sys/class/net/eth0");
    }

    fn virtio_nic(&self) {
        let function = "sys/devices/pci0000:00/0000:00:03.0";
        self.write(&format!("{function}/numa_node"), "0\n");
        self.write(&format!("{function}/msi_irqs/70"), "msix\n");
        self.write("proc/irq/70/smp_affinity_list", "0-15\n");
        self.link("../../../../bus/virtio", &format!("{function}/virtio3/subsystem"));
        let net = format!("{function}/virtio3/net/eth1");
        self.link("../..", &format!("{net}/device"));
        self.write(&format!("{net}/operstate"), "down\n");
        self.write(&format!("{net}/queues/rx-0/rps_cpus"), "0\n");
        self.write(&format!("{net}/queues/tx-0/xps_cpus"), "0\n");
        self.link("../../devices/pci0000:00/0000:00:03.0/virtio3/net/eth1", "sys/class/net/eth1");
    }
}
