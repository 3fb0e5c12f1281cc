//! Which cores get a shard, and why.
//!
//! `auto`, a count and `numa:` rank physical cores: first those of the NUMA node that the network cards sit on, then
//! whole nodes and whole last-level caches, those with the most usable cores first. So a quota or a count below the
//! number of cores keeps the shards together: received data is in that node's memory and cache already, and what
//! shards do share (process-wide counters, certificates and regexes, connections handed over) stays in one cache.

use std::cmp::Reverse;

use crate::config::model::Cores;
use crate::supervisor::topology::{Core, Topology, format_list};

/// A core for each shard.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Plan {
    cores: Cores,
    /// In shard order.
    pub shards: Vec<Placement>,
}

/// The core of a shard.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Placement {
    /// Core.
    pub core: u32,
    /// Why this one, in a few words.
    pub why: String,
}

/// Chooses a core for each shard.
///
/// # Errors
/// One sentence that names what is available.
pub fn plan(cores: &Cores, host: &Topology) -> Result<Plan, String> {
    let allowed: Vec<u32> = host.allowed().map(|core| core.core).collect();
    let available = || format_list(&allowed);
    let place = |core: u32, why: &str| Placement { core, why: why.into() };
    let shards = match cores {
        // Without pinning a number is all that is needed; with it, the shard says what fails.
        Cores::Count(count) if allowed.is_empty() => {
            (0..*count).map(|core| place(core, "the host's cores are unknown")).collect()
        }
        _ if allowed.is_empty() => {
            return Err(
                "the cores of this host could not be read; use --no-pin with a number of cores".into()
            );
        }
        Cores::All => allowed.iter().map(|&core| place(core, "every usable core takes one")).collect(),
        Cores::Auto => take_physical(host, &ranked(physical(host), host.nic_node())),
        Cores::Numa(nodes) => take_physical(host, &ranked(in_nodes(host, nodes)?, host.nic_node())),
        Cores::Count(count) => {
            let usable = allowed.len();
            if *count == 0 || *count as usize > usable {
                return Err(format!(
                    "cores = {count}: this process may use {usable} cores ({})",
                    available()
                ));
            }
            take_count(host, *count as usize)
        }
        Cores::List(list) => match list.iter().find(|core| !allowed.contains(core)) {
            Some(core) => {
                let reason = host.core(*core).map_or("not on this host", |core| unusable(host, core));
                return Err(format!(
                    "core {core} is not among the cores this process may use ({}): it is {reason}",
                    available()
                ));
            }
            None => list.iter().map(|&core| place(core, "named in the list")).collect(),
        },
    };
    Ok(Plan { cores: cores.clone(), shards })
}

/// The first usable core of each physical core.
fn physical(host: &Topology) -> Vec<&Core> {
    host.allowed().filter(|core| host.leader(core) == core.core).collect()
}

/// The physical cores of these nodes.
fn in_nodes<'h>(host: &'h Topology, nodes: &[u32]) -> Result<Vec<&'h Core>, String> {
    let mut all = Vec::new();
    for number in nodes {
        let Some(node) = host.nodes.iter().find(|node| node.node == *number) else {
            let known: Vec<u32> = host.nodes.iter().map(|node| node.node).collect();
            return Err(match &known[..] {
                [] => format!("no NUMA node {number}: this host shows none; use auto or a list of cores"),
                [only] => format!("no NUMA node {number}: this host has one node, {only}"),
                _ => format!("no NUMA node {number}: this host has the nodes {}", format_list(&known)),
            });
        };
        let cores = physical(host).into_iter().filter(|core| core.numa_node == Some(*number));
        let before = all.len();
        all.extend(cores);
        if all.len() == before {
            let allowed: Vec<u32> = host.allowed().map(|core| core.core).collect();
            return Err(format!(
                "NUMA node {number} has the cores {}, none of which this process may use (it may use {})",
                format_list(&node.cores),
                format_list(&allowed)
            ));
        }
    }
    Ok(all)
}

/// The best first.
fn ranked(mut cores: Vec<&Core>, first_node: Option<u32>) -> Vec<&Core> {
    let all = cores.clone();
    let count = |same: &dyn Fn(&Core) -> bool| all.iter().filter(|core| same(core)).count();
    cores.sort_by_cached_key(|core| {
        let node = core.numa_node;
        let elsewhere = first_node.is_none() || node != first_node;
        let in_node = count(&|other| other.numa_node == node);
        let in_cache = count(&|other| other.llc == core.llc && other.numa_node == node);
        (elsewhere, Reverse(in_node), node, Reverse(in_cache), core.llc, core.core)
    });
    cores
}

/// As many of the ranked physical cores as the quota feeds, ascending.
fn take_physical(host: &Topology, ranked: &[&Core]) -> Vec<Placement> {
    let quota = host.cgroup.quota.as_ref().map_or(usize::MAX, |quota| quota.time.shards());
    let mut shards: Vec<Placement> =
        ranked.iter().take(quota).map(|core| place_physical(host, core, ranked, quota)).collect();
    shards.sort_by_key(|shard| shard.core);
    shards
}

/// The first physical cores of the ranking, then their siblings in the same order; ascending.
fn take_count(host: &Topology, count: usize) -> Vec<Placement> {
    let first = ranked(physical(host), host.nic_node());
    let siblings = host.allowed().filter(|core| host.leader(core) != core.core).collect();
    let mut shards: Vec<Placement> =
        first.iter().take(count).map(|core| place_physical(host, core, &first, count)).collect();
    for core in ranked(siblings, host.nic_node()).into_iter().take(count - shards.len()) {
        let why =
            format!("sibling of {}: {count} shards on {} physical cores", host.leader(core), first.len());
        shards.push(Placement { core: core.core, why });
    }
    shards.sort_by_key(|shard| shard.core);
    shards
}

/// The core of a shard that has a physical core to itself; where only some of `among` are taken, why this one.
fn place_physical(host: &Topology, core: &Core, among: &[&Core], taken: usize) -> Placement {
    let siblings = core.siblings.as_ref().map_or(1, Vec::len);
    let mut why =
        String::from(if siblings > 1 { "first thread of a physical core" } else { "physical core" });
    if taken < among.len() {
        if let Some(llc) = core.llc
            && among.iter().any(|other| other.llc != Some(llc))
        {
            why.push_str(&format!(", in LLC {llc}"));
        }
        if let Some(node) = core.numa_node
            && among.iter().any(|other| other.numa_node != Some(node))
        {
            let nic = if host.nic_node() == Some(node) { " with the NIC" } else { "" };
            why.push_str(&format!(", in NUMA node {node}{nic}"));
        }
    }
    Placement { core: core.core, why }
}

/// Why this process can not run on a core.
fn unusable(host: &Topology, core: &Core) -> &'static str {
    if !core.online {
        return "offline";
    }
    match &host.cgroup.cpuset {
        Some(cpuset) if !cpuset.contains(&core.core) => "outside the cgroup's cpuset",
        _ => "outside the process's affinity",
    }
}

impl Plan {
    /// The shard on a core.
    #[must_use]
    pub fn shard_of(&self, core: u32) -> Option<usize> {
        self.shards.iter().position(|shard| shard.core == core)
    }

    /// Why `core` takes the shard it takes, or none.
    #[must_use]
    pub fn reason(&self, host: &Topology, core: &Core) -> String {
        if let Some(shard) = self.shards.iter().find(|shard| shard.core == core.core) {
            return shard.why.clone();
        }
        if !core.allowed {
            return unusable(host, core).into();
        }
        if let Cores::Numa(nodes) = &self.cores
            && core.numa_node.is_none_or(|node| !nodes.contains(&node))
        {
            return "not in the nodes asked for".into();
        }
        let leader = host.leader(core);
        match &self.cores {
            Cores::Auto | Cores::Numa(_) if leader != core.core => format!("sibling of {leader}"),
            Cores::Auto | Cores::Numa(_) => match &host.cgroup.quota {
                Some(quota) => format!("beyond the quota of {}", quota.time),
                None => "not needed".into(),
            },
            Cores::Count(count) if leader != core.core => {
                format!("sibling of {leader}, beyond the count of {count}")
            }
            Cores::Count(count) => format!("beyond the count of {count}"),
            Cores::List(_) => "not in the list".into(),
            Cores::All => "not needed".into(),
        }
    }

    /// What an operator should know although nothing is wrong.
    #[must_use]
    pub fn note(&self, host: &Topology) -> Option<String> {
        let quota = host.cgroup.quota.as_ref()?;
        let shards = self.shards.len();
        (shards > quota.time.shards()).then(|| {
            format!(
                "{shards} shards share a quota of {}: all of them stand still once it is used up",
                quota.time
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::topology::fixture::Fixture;

    fn host(change: impl Fn(&Fixture)) -> Topology {
        let fixture = Fixture::two_sockets();
        change(&fixture);
        Topology::of_copy(fixture.path())
    }

    fn whole(_: &Fixture) {}

    fn chosen(cores: &Cores, host: &Topology) -> Vec<u32> {
        plan(cores, host).map(|plan| plan.shards.iter().map(|shard| shard.core).collect()).unwrap_or_default()
    }

    fn quota(quota_us: u32) -> impl Fn(&Fixture) {
        move |fixture| fixture.write("sys/fs/cgroup/edge/cpu.max", &format!("{quota_us} 100000\n"))
    }

    fn cpuset(list: &'static str) -> impl Fn(&Fixture) {
        move |fixture| fixture.write("sys/fs/cgroup/edge/cpuset.cpus.effective", list)
    }

    /// Each form of `cores` on a whole host.
    #[test]
    fn chooses_by_form() {
        let host = host(whole);
        assert_eq!(chosen(&Cores::All, &host), (0..16).collect::<Vec<_>>());
        assert_eq!(chosen(&Cores::Auto, &host), (0..8).collect::<Vec<_>>());
        assert_eq!(chosen(&Cores::List(vec![3, 0]), &host), [3, 0]);
        assert_eq!(chosen(&Cores::Numa(vec![0]), &host), [0, 1, 2, 3]);
        assert_eq!(chosen(&Cores::Numa(vec![1]), &host), [4, 5, 6, 7]);
        assert_eq!(chosen(&Cores::Numa(vec![1, 0]), &host), (0..8).collect::<Vec<_>>());
        assert_eq!(chosen(&Cores::Count(1), &host), [4], "beside the NIC");
        assert_eq!(chosen(&Cores::Count(5), &host), [0, 4, 5, 6, 7]);
        assert_eq!(chosen(&Cores::Count(9), &host), [0, 1, 2, 3, 4, 5, 6, 7, 12]);
        assert_eq!(chosen(&Cores::Count(16), &host), (0..16).collect::<Vec<_>>());
    }

    /// A quota is rounded up, and its shards stay together: by the NIC, in one cache where they fit.
    #[test]
    fn respects_a_quota() {
        assert_eq!(chosen(&Cores::Auto, &host(quota(150_000))), [4, 5]);
        assert_eq!(chosen(&Cores::Auto, &host(quota(10_000))), [4]);
        assert_eq!(chosen(&Cores::Auto, &host(quota(300_000))), [4, 5, 6]);
        assert_eq!(chosen(&Cores::Auto, &host(quota(1_600_000))), (0..8).collect::<Vec<_>>());
        assert_eq!(chosen(&Cores::Numa(vec![0]), &host(quota(150_000))), [0, 1]);
        assert_eq!(chosen(&Cores::All, &host(quota(150_000))).len(), 16);
        let without_nic = host(|fixture| {
            quota(200_000)(fixture);
            fixture.remove("sys/class/net");
        });
        assert_eq!(chosen(&Cores::Auto, &without_nic), [0, 1]);
    }

    /// A physical core whose first thread is not ours gives its other one; caches that have more cores left go first.
    #[test]
    fn stays_within_a_cpuset() {
        let bounded = host(cpuset("1-3,8,14"));
        assert_eq!(chosen(&Cores::All, &bounded), [1, 2, 3, 8, 14]);
        assert_eq!(chosen(&Cores::Auto, &bounded), [1, 2, 3, 8, 14]);
        assert_eq!(chosen(&Cores::Numa(vec![1]), &bounded), [14]);
        let uneven = host(|fixture| {
            cpuset("0,2-3,8-11")(fixture);
            quota(200_000)(fixture);
        });
        assert_eq!(chosen(&Cores::Auto, &uneven), [0, 9], "two physical cores, one a sibling's thread");
        let uneven = host(|fixture| {
            cpuset("0,2-3")(fixture);
            quota(200_000)(fixture);
        });
        assert_eq!(chosen(&Cores::Auto, &uneven), [2, 3]);
    }

    /// What this process may not use is an error that names what it may.
    #[test]
    fn refuses_what_is_not_there() {
        let error = |cores: Cores, host: &Topology| plan(&cores, host).err().unwrap_or_default();
        let bounded = host(cpuset("0-3"));
        for cores in [Cores::Count(0), Cores::Count(5), Cores::List(vec![0, 4]), Cores::List(vec![99])] {
            let error = error(cores, &bounded);
            assert!(error.contains("(0-3)"), "{error}");
        }
        assert!(error(Cores::List(vec![4]), &bounded).contains("outside the cgroup's cpuset"));
        assert!(error(Cores::List(vec![99]), &bounded).contains("not on this host"));
        assert_eq!(error(Cores::Numa(vec![2]), &bounded), "no NUMA node 2: this host has the nodes 0-1");
        let elsewhere = error(Cores::Numa(vec![0, 1]), &bounded);
        assert!(elsewhere.contains("4-7,12-15") && elsewhere.contains("0-3"), "{elsewhere}");
        let flat = host(|fixture| fixture.remove("sys/devices/system/node"));
        assert!(error(Cores::Numa(vec![0]), &flat).contains("this host shows none"));
    }

    /// Every core has a reason, and the reason names what decided.
    #[test]
    fn explains() {
        let reasons = |cores: Cores, host: &Topology| -> Vec<String> {
            let Ok(plan) = plan(&cores, host) else { return Vec::new() };
            host.cores.iter().map(|core| plan.reason(host, core)).collect()
        };
        let bounded = host(|fixture| {
            fixture.write("sys/devices/system/cpu/online", "0-14\n");
            cpuset("0-7,8,13")(fixture);
            quota(150_000)(fixture);
        });
        let auto = reasons(Cores::Auto, &bounded);
        let expected = [
            (4, "first thread of a physical core, in LLC 2, in NUMA node 1 with the NIC"),
            (0, "beyond the quota of 1.5 cores"),
            (13, "sibling of 5"),
            (14, "outside the cgroup's cpuset"),
            (15, "offline"),
        ];
        for (core, reason) in expected {
            assert_eq!(auto[core], reason, "core {core}");
        }
        assert_eq!(reasons(Cores::Auto, &host(whole))[0], "first thread of a physical core");
        assert_eq!(reasons(Cores::Numa(vec![0]), &bounded)[4], "not in the nodes asked for");
        assert_eq!(reasons(Cores::List(vec![1]), &bounded)[4], "not in the list");
        assert_eq!(reasons(Cores::Count(9), &bounded)[13], "sibling of 5: 9 shards on 8 physical cores");
        assert_eq!(reasons(Cores::Count(1), &bounded)[0], "beyond the count of 1");
        let bound = host(|fixture| fixture.write("proc/self/status", "Cpus_allowed_list:\t0-1\n"));
        assert_eq!(reasons(Cores::Auto, &bound)[2], "outside the process's affinity");
    }

    /// More shards than the quota feeds are worth a word.
    #[test]
    fn notes() {
        let bounded = host(quota(150_000));
        let note = |cores: Cores| plan(&cores, &bounded).ok().and_then(|plan| plan.note(&bounded));
        assert_eq!(note(Cores::Auto), None);
        assert_eq!(note(Cores::Count(2)), None);
        assert!(note(Cores::All).is_some_and(|note| note.contains("quota of 1.5 cores")));
    }

    /// A host that shows no cores at all takes shards that are not pinned.
    #[test]
    fn unknown_hosts() {
        let host = Topology::default();
        assert_eq!(chosen(&Cores::Count(2), &host), [0, 1]);
        let error = plan(&Cores::Auto, &host).err().unwrap_or_default();
        assert!(error.contains("--no-pin"), "{error}");
    }
}
