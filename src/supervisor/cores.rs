//! Which cores get a shard.

use std::collections::BTreeSet;
use std::fs;

use crate::config::model::Cores;

/// The cores a process may use, and which of them are the first of their physical core.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Host {
    /// Cores this process may run on, ascending.
    pub allowed: Vec<u32>,
    /// Those of them that are the first allowed of their physical core, ascending.
    pub physical: Vec<u32>,
    /// Cores' worth of time that the cgroup grants, rounded up; `None` without a quota.
    pub quota: Option<u32>,
}

impl Host {
    /// Looks at this host: affinity, topology, cgroup.
    #[must_use]
    pub fn detect() -> Self {
        let mut allowed: Vec<u32> =
            core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id as u32).collect();
        allowed.sort_unstable();
        let mut seen = BTreeSet::new();
        let physical = allowed.iter().copied().filter(|&core| seen.insert(siblings_of(core))).collect();
        Self { allowed, physical, quota: cgroup_quota() }
    }
}

/// The list of hardware threads of `core`'s physical core: the same text for each of them.
fn siblings_of(core: u32) -> String {
    let path = format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
    fs::read_to_string(path).unwrap_or_else(|_| core.to_string())
}

/// The quota of this process's cgroup (version 2) in cores.
fn cgroup_quota() -> Option<u32> {
    let membership = fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = membership.lines().find_map(|line| line.strip_prefix("0::"))?;
    let text = fs::read_to_string(format!("/sys/fs/cgroup{group}/cpu.max")).ok()?;
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (u64, u64) = (quota.parse().ok()?, period.parse().ok()?);
    u32::try_from(quota.div_ceil(period.max(1)).max(1)).ok()
}

/// Chooses a core for each shard, in shard order.
///
/// # Errors
/// One sentence that names what is available.
pub fn choose(cores: &Cores, host: &Host) -> Result<Vec<u32>, String> {
    let available = || host.allowed.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    if host.allowed.is_empty() {
        return Err("the cores of this host could not be read; use --no-pin with a number of cores".into());
    }
    match cores {
        Cores::All => Ok(host.allowed.clone()),
        Cores::Auto => {
            let count = host.quota.map_or(usize::MAX, |quota| quota as usize);
            Ok(host.physical.iter().copied().take(count.max(1)).collect())
        }
        Cores::Count(count) => {
            let siblings = host.allowed.iter().filter(|core| !host.physical.contains(core));
            let order: Vec<u32> = host.physical.iter().chain(siblings).copied().collect();
            if *count == 0 || *count as usize > order.len() {
                return Err(format!(
                    "cores = {count}: this process may use {} cores ({})",
                    order.len(),
                    available()
                ));
            }
            Ok(order.into_iter().take(*count as usize).collect())
        }
        Cores::List(list) => match list.iter().find(|core| !host.allowed.contains(core)) {
            Some(core) => {
                Err(format!("core {core} is not among the cores this process may use ({})", available()))
            }
            None => Ok(list.clone()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        Host { allowed: vec![0, 1, 2, 3, 6, 7], physical: vec![0, 2, 6], quota: None }
    }

    /// Each form of `cores` on a host with three physical cores of two threads.
    #[test]
    fn chooses_by_form() {
        assert_eq!(choose(&Cores::All, &host()), Ok(vec![0, 1, 2, 3, 6, 7]));
        assert_eq!(choose(&Cores::Auto, &host()), Ok(vec![0, 2, 6]));
        assert_eq!(choose(&Cores::Count(2), &host()), Ok(vec![0, 2]));
        assert_eq!(choose(&Cores::Count(4), &host()), Ok(vec![0, 2, 6, 1]));
        assert_eq!(choose(&Cores::List(vec![3, 0]), &host()), Ok(vec![3, 0]));
    }

    /// What this process may not use is an error that names what it may.
    #[test]
    fn refuses_what_is_not_there() {
        for cores in [Cores::Count(0), Cores::Count(7), Cores::List(vec![0, 4])] {
            let error = choose(&cores, &host()).err().unwrap_or_default();
            assert!(error.contains("0,1,2,3,6,7"), "{error}");
        }
    }

    /// A quota of one and a half cores gives two shards.
    #[test]
    fn respects_a_quota() {
        let host = Host { quota: Some(2), ..host() };
        assert_eq!(choose(&Cores::Auto, &host), Ok(vec![0, 2]));
    }
}
