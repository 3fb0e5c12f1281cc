//! The host as ringgate sees it: cores, their siblings, caches and NUMA nodes, the cgroup's grants, network cards.
//!
//! Read once, at the start and by `ringgate cores`; [`cores`](super::cores) chooses by it. The facts come from sysfs
//! and procfs below a root that may be a copy of another host's. What is not visible is unknown, never an error.

mod cgroup;
#[cfg(test)]
pub(crate) mod fixture;
mod nic;
mod root;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;

pub use cgroup::{Cgroup, Quota, QuotaTime};
pub use nic::{Irq, Nic};
use root::Root;
pub use root::format_list;

const CPUS: &str = "sys/devices/system/cpu";

/// Everything known of a host.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Topology {
    /// All cores (hardware threads), ascending.
    pub cores: Vec<Core>,
    /// Groups of cores that share their last-level cache, in the order of their first cores.
    pub caches: Vec<Cache>,
    /// NUMA nodes, ascending; empty when the host shows none.
    pub nodes: Vec<Node>,
    /// Grants of the cgroup.
    pub cgroup: Cgroup,
    /// Network cards.
    pub nics: Vec<Nic>,
}

/// A core in Linux's sense: a hardware thread.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Core {
    /// Number.
    pub core: u32,
    /// Whether it runs.
    pub online: bool,
    /// Whether this process may run on it.
    pub allowed: bool,
    /// Socket.
    pub socket: Option<u32>,
    /// NUMA node.
    pub numa_node: Option<u32>,
    /// Index into [`Topology::caches`].
    pub llc: Option<usize>,
    /// Hardware threads of its physical core, itself included.
    pub siblings: Option<Vec<u32>>,
}

/// Cores that share their last-level cache.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Cache {
    /// Level.
    pub level: u32,
    /// Size.
    pub kib: Option<u64>,
    /// Cores.
    pub cores: Vec<u32>,
}

/// A NUMA node.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Node {
    /// Number.
    pub node: u32,
    /// Cores; none where it only has memory.
    pub cores: Vec<u32>,
}

impl Topology {
    /// Looks at this host.
    #[must_use]
    pub fn detect() -> Self {
        let mut allowed: Vec<u32> =
            core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id as u32).collect();
        allowed.sort_unstable();
        Self::read(&Root::new(Path::new("/")), Some(&allowed))
    }

    /// Looks at the copy of a host's `proc/` and `sys/` below `root`: as the process `proc/self` there would, or,
    /// without one, a process with all cores of the cpuset.
    #[must_use]
    pub fn of_copy(root: &Path) -> Self {
        let root = Root::new(root);
        let status = root.text("proc/self/status").unwrap_or_default();
        let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        Self::read(&root, allowed.and_then(root::parse_list).as_deref())
    }

    fn read(root: &Root, allowed: Option<&[u32]>) -> Self {
        let cgroup = cgroup::read(root);
        let online = root.list(&format!("{CPUS}/online")).filter(|list| !list.is_empty());
        let is_online = |core: u32| online.as_ref().is_none_or(|list| list.contains(&core));
        let is_allowed = |core: u32| match (allowed, &cgroup.cpuset) {
            (Some(allowed), _) => allowed.contains(&core),
            (None, Some(cpuset)) => cpuset.contains(&core),
            (None, None) => true,
        };
        let nodes = read_nodes(root);
        let mut numbers: BTreeSet<u32> = root.numbered(CPUS, "cpu").into_iter().collect();
        numbers.extend(allowed.unwrap_or_default());
        let mut caches: Vec<Cache> = Vec::new();
        let mut cores = Vec::new();
        for core in numbers {
            let base = format!("{CPUS}/cpu{core}");
            let online = is_online(core);
            cores.push(Core {
                core,
                online,
                allowed: online && is_allowed(core),
                socket: root.number(&format!("{base}/topology/physical_package_id")),
                numa_node: nodes.iter().find(|node| node.cores.contains(&core)).map(|node| node.node),
                llc: last_level_cache(root, &base, core).map(|cache| place_of(&mut caches, cache)),
                siblings: siblings(root, &base, core),
            });
        }
        let mut topology = Self { cores, caches, nodes, cgroup, nics: nic::read(root) };
        topology.guess_siblings(root);
        topology
    }

    /// Where no list of siblings is visible, cores of one socket and `core_id` are siblings.
    fn guess_siblings(&mut self, root: &Root) {
        let id = |core: &Core| {
            let id: u32 = root.number(&format!("{CPUS}/cpu{}/topology/core_id", core.core))?;
            Some((core.socket?, id))
        };
        if self.cores.iter().all(|core| core.siblings.is_some()) {
            return;
        }
        let ids: Vec<_> = self.cores.iter().map(|core| (core.core, id(core))).collect();
        for (index, core) in self.cores.iter_mut().enumerate() {
            let Some((_, Some(own))) = ids.get(index) else { continue };
            let same = || ids.iter().filter(|(_, id)| id.as_ref() == Some(own)).map(|(core, _)| *core);
            core.siblings.get_or_insert_with(|| same().collect());
        }
    }

    /// A core by its number.
    #[must_use]
    pub fn core(&self, number: u32) -> Option<&Core> {
        self.cores.binary_search_by_key(&number, |core| core.core).ok().and_then(|at| self.cores.get(at))
    }

    /// Cores that this process may use, ascending.
    pub fn allowed(&self) -> impl Iterator<Item = &Core> {
        self.cores.iter().filter(|core| core.allowed)
    }

    /// The first core of `core`'s physical core that this process may use; itself where siblings are unknown.
    #[must_use]
    pub fn leader(&self, core: &Core) -> u32 {
        let siblings = core.siblings.iter().flatten().copied();
        let usable = |number: &u32| self.core(*number).is_some_and(|core| core.allowed);
        siblings.filter(usable).min().unwrap_or(core.core)
    }

    /// The NUMA node that all network cards in use sit on; `None` if they do not, or nothing says where they sit.
    #[must_use]
    pub fn nic_node(&self) -> Option<u32> {
        let nodes: BTreeSet<_> =
            self.nics.iter().filter(|nic| nic.is_up()).filter_map(|nic| nic.numa_node).collect();
        if nodes.len() == 1 { nodes.first().copied() } else { None }
    }

    /// The network cards' interrupts that `core` takes, each with the card's name.
    pub fn irqs_of(&self, core: u32) -> impl Iterator<Item = (&str, &Irq)> {
        let all = self.nics.iter().flat_map(|nic| nic.irqs.iter().map(|irq| (nic.name.as_str(), irq)));
        all.filter(move |(_, irq)| irq.cores.as_ref().is_some_and(|cores| cores.contains(&core)))
    }
}

fn read_nodes(root: &Root) -> Vec<Node> {
    let base = "sys/devices/system/node";
    let node = |node| Some(Node { node, cores: root.list(&format!("{base}/node{node}/cpulist"))? });
    root.numbered(base, "node").into_iter().filter_map(node).collect()
}

/// A list without the core itself says nothing.
fn siblings(root: &Root, base: &str, core: u32) -> Option<Vec<u32>> {
    // Linux before 5.10 has the first name only; it is to go at some time.
    let files = ["thread_siblings_list", "core_cpus_list"];
    let list = files.iter().find_map(|file| root.list(&format!("{base}/topology/{file}")));
    list.filter(|list| list.contains(&core))
}

/// The cache of the highest level that holds data.
fn last_level_cache(root: &Root, base: &str, core: u32) -> Option<Cache> {
    let caches = root.numbered(&format!("{base}/cache"), "index").into_iter().filter_map(|index| {
        let base = format!("{base}/cache/index{index}");
        if root.text(&format!("{base}/type")).as_deref() == Some("Instruction") {
            return None;
        }
        let size = root.text(&format!("{base}/size"));
        Some(Cache {
            level: root.number(&format!("{base}/level"))?,
            kib: size.and_then(|size| size.strip_suffix('K')?.parse().ok()),
            cores: root.list(&format!("{base}/shared_cpu_list")).filter(|list| list.contains(&core))?,
        })
    });
    caches.max_by_key(|cache| cache.level)
}

fn place_of(caches: &mut Vec<Cache>, cache: Cache) -> usize {
    let same = |known: &Cache| known.level == cache.level && known.cores == cache.cores;
    caches.iter().position(same).unwrap_or_else(|| {
        caches.push(cache);
        caches.len() - 1
    })
}
