//! Network cards: queues, interrupts and the cores that take them.

use std::collections::HashMap;

use serde::Serialize;

use super::root::Root;

/// A network interface with a device behind it; loopback, bridges and tunnels have none.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Nic {
    /// Name of the interface.
    pub name: String,
    /// `up`, `down`, `unknown`, ...
    pub state: Option<String>,
    /// NUMA node of the device.
    pub numa_node: Option<u32>,
    /// Receive queues.
    pub rx_queues: usize,
    /// Transmit queues.
    pub tx_queues: usize,
    /// Interrupts of the device; empty where they are not visible.
    pub irqs: Vec<Irq>,
}

/// An interrupt of a network card.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Irq {
    /// Number.
    pub irq: u32,
    /// What the driver calls it, which mostly names the queue.
    pub name: Option<String>,
    /// Cores that take it.
    pub cores: Option<Vec<u32>>,
}

impl Nic {
    /// Whether it may carry traffic; drivers that can not tell say `unknown`.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.state.as_deref() != Some("down")
    }
}

/// Reads all that have a device, by name.
pub(super) fn read(root: &Root) -> Vec<Nic> {
    let with_device = |name: &String| root.exists(&format!("sys/class/net/{name}/device"));
    let names: Vec<String> = root.names("sys/class/net").into_iter().filter(with_device).collect();
    if names.is_empty() {
        return Vec::new();
    }
    let irq_names = irq_names(&root.text("proc/interrupts").unwrap_or_default());
    names.into_iter().map(|name| read_one(root, name, &irq_names)).collect()
}

fn read_one(root: &Root, name: String, irq_names: &HashMap<u32, String>) -> Nic {
    let base = format!("sys/class/net/{name}");
    let mut device = format!("{base}/device");
    // A virtio device's interrupts and node are those of the PCI function it sits on.
    if root.link_name(&format!("{device}/subsystem")).as_deref() == Some("virtio") {
        device.push_str("/..");
    }
    let mut numbers = root.numbered(&format!("{device}/msi_irqs"), "");
    if numbers.is_empty() {
        // Without MSI: one line, and 0 where there is none.
        numbers.extend(root.number::<u32>(&format!("{device}/irq")).filter(|&irq| irq != 0));
    }
    let queues = root.names(&format!("{base}/queues"));
    let count = |prefix: &str| queues.iter().filter(|queue| queue.starts_with(prefix)).count();
    Nic {
        state: root.text(&format!("{base}/operstate")),
        numa_node: root.number(&format!("{device}/numa_node")),
        rx_queues: count("rx-"),
        tx_queues: count("tx-"),
        irqs: numbers
            .into_iter()
            .map(|irq| Irq { irq, name: irq_names.get(&irq).cloned(), cores: affinity(root, irq) })
            .collect(),
        name,
    }
}

/// Where the interrupt goes, else where it may go.
fn affinity(root: &Root, irq: u32) -> Option<Vec<u32>> {
    ["effective_affinity_list", "smp_affinity_list"]
        .iter()
        .find_map(|file| root.list(&format!("proc/irq/{irq}/{file}")).filter(|list| !list.is_empty()))
}

/// Last word of each line `41:  1942  0  PCI-MSIX-0000:00:04.0  1-edge  eth0-rx-0`.
fn irq_names(text: &str) -> HashMap<u32, String> {
    let name = |line: &str| {
        let (number, rest) = line.split_once(':')?;
        Some((number.trim().parse().ok()?, rest.split_ascii_whitespace().last()?.to_owned()))
    };
    text.lines().filter_map(name).collect()
}
