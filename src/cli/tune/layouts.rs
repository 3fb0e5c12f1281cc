//! Which layouts are tried, and where the load runs beside each.

use std::collections::BTreeSet;

use serde::Serialize;

use super::args::TuneArgs;
use crate::config::model::{Cores, Driver, RING_ENTRIES_DEFAULT};
use crate::supervisor::cores::plan;
use crate::supervisor::topology::Topology;

/// Layouts that are tried unless the command line names some.
const LAYOUTS_DEFAULT_MAX: usize = 8;

/// Layouts that the command line may name.
const LAYOUTS_MAX: usize = 64;

/// The smaller ring that is tried.
const RING_ENTRIES_SMALL: u32 = 1024;

/// One way to lay the shards out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Layout {
    /// As the operator would write it.
    pub(super) cores: Cores,
    /// What that comes to: the core of each shard.
    pub(super) placed: Vec<u32>,
    pub(super) pinned: bool,
    pub(super) driver: Driver,
    pub(super) ring_entries: u32,
}

impl Layout {
    fn new(host: &Topology, cores: Cores, pinned: bool, driver: Driver, ring: u32) -> Result<Self, String> {
        let placed = plan(&cores, host)?.shards.iter().map(|shard| shard.core).collect();
        Ok(Self { cores, placed, pinned, driver, ring_entries: ring })
    }

    /// The keys of `[process]` that make this layout, without those that are as by default.
    pub(super) fn toml(&self) -> String {
        let mut text = String::from("[process]\n");
        if self.cores != Cores::Auto {
            text.push_str(&format!("cores = \"{}\"\n", self.cores));
        }
        if self.driver != Driver::Auto {
            text.push_str(&format!("driver = \"{}\"\n", driver_name(self.driver)));
        }
        if self.ring_entries != RING_ENTRIES_DEFAULT {
            text.push_str(&format!("ring_entries = {}\n", self.ring_entries));
        }
        text
    }

    /// What `ringgate run` needs beside the TOML: there is no key for pins.
    pub(super) fn options(&self) -> &'static [&'static str] {
        if self.pinned { &[] } else { &["--no-pin"] }
    }

    /// Layouts of one identity behave alike.
    fn identity(&self, auto_is_uring: bool) -> (Vec<u32>, usize, bool, u32) {
        let uring = self.driver == Driver::IoUring || self.driver == Driver::Auto && auto_is_uring;
        let cores = if self.pinned { self.placed.clone() } else { Vec::new() };
        (cores, self.placed.len(), uring, if uring { self.ring_entries } else { 0 })
    }

    /// Cores that its shards may run on.
    fn used(&self, host: &Topology) -> BTreeSet<u32> {
        if self.pinned { self.placed.iter().copied().collect() } else { allowed(host) }
    }
}

pub(super) const fn driver_name(driver: Driver) -> &'static str {
    match driver {
        Driver::Auto => "auto",
        Driver::Epoll => "epoll",
        Driver::IoUring => "io_uring",
    }
}

fn allowed(host: &Topology) -> BTreeSet<u32> {
    host.allowed().map(|core| core.core).collect()
}

/// The layouts to try; the first is what `ringgate run` does without a setting.
pub(super) fn layouts(args: &TuneArgs, host: &Topology, auto_is_uring: bool) -> Result<Vec<Layout>, String> {
    let layout = |cores: &Cores, pinned, driver, ring| Layout::new(host, cores.clone(), pinned, driver, ring);
    let mut all = vec![layout(&Cores::Auto, true, Driver::Auto, RING_ENTRIES_DEFAULT)?];
    let max = if args.names_layouts() {
        let cores = or_default(&args.cores, Cores::Auto);
        let pins: &[bool] = if args.no_pin { &[true, false] } else { &[true] };
        for cores in &cores {
            for &pinned in pins {
                for driver in or_default(&args.drivers, Driver::Auto) {
                    for ring in or_default(&args.ring_entries, RING_ENTRIES_DEFAULT) {
                        all.push(layout(cores, pinned, driver, ring)?);
                    }
                }
            }
        }
        LAYOUTS_MAX
    } else {
        let sets = core_sets(host)?;
        for (cores, pinned) in &sets {
            all.push(layout(cores, *pinned, Driver::Auto, RING_ENTRIES_DEFAULT)?);
        }
        // First what differs from the default in one thing only.
        for (cores, pinned) in std::iter::once(&(Cores::Auto, true)).chain(&sets) {
            all.push(layout(cores, *pinned, Driver::Auto, RING_ENTRIES_SMALL)?);
            all.push(layout(cores, *pinned, Driver::Epoll, RING_ENTRIES_DEFAULT)?);
        }
        LAYOUTS_DEFAULT_MAX
    };
    let mut seen = BTreeSet::new();
    all.retain(|layout| seen.insert(layout.identity(auto_is_uring)));
    if args.names_layouts() && all.len() > max {
        return Err(format!("{} layouts are too many: name at most {max}", all.len()));
    }
    all.truncate(max);
    Ok(all)
}

fn or_default<T: Clone>(named: &[T], default: T) -> Vec<T> {
    if named.is_empty() { vec![default] } else { named.to_vec() }
}

/// Cores other than `auto` that may suit the host, each pinned or not.
fn core_sets(host: &Topology) -> Result<Vec<(Cores, bool)>, String> {
    let auto = plan(&Cores::Auto, host)?;
    let mut sets = vec![(Cores::Auto, false), (Cores::All, true)];
    let llc_of = |core: u32| host.core(core).and_then(|core| core.llc);
    let in_llc = |llc: usize| {
        let cores = auto.shards.iter().map(|shard| shard.core);
        cores.filter(|core| llc_of(*core) == Some(llc)).collect::<Vec<u32>>()
    };
    // A count takes the best cache first: its single core tells which that is.
    let first = plan(&Cores::Count(1), host)?.shards.first().and_then(|shard| llc_of(shard.core));
    if let Some(cores) = first.map(in_llc).filter(|cores| !cores.is_empty()) {
        sets.push((Cores::List(cores), true));
    }
    if let half @ 1.. = auto.shards.len() / 2 {
        sets.push((Cores::Count(u32::try_from(half).unwrap_or(u32::MAX)), true));
    }
    sets.push((Cores::Count(1), true));
    Ok(sets)
}

/// How close the load is to the shards.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Sharing {
    /// Physical cores of its own.
    Own,
    /// Other threads of the shards' physical cores.
    Siblings,
    /// The shards' cores.
    Shared,
}

/// Where generator and backend run.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct LoadPlace {
    /// The generator's cores; none: the scheduler chooses.
    pub(super) generator: Vec<u32>,
    /// The backend's.
    pub(super) backend: Vec<u32>,
    pub(super) sharing: Sharing,
}

/// The load's place beside each layout: the same for all that leave it room.
pub(super) fn load_places(
    layouts: &[Layout],
    host: &Topology,
    named: Option<&[u32]>,
) -> Result<Vec<LoadPlace>, String> {
    let allowed = allowed(host);
    if let Some(core) = named.into_iter().flatten().find(|core| !allowed.contains(core)) {
        return Err(format!("--load-cores: core {core} is not among those that this process may use"));
    }
    let leaders = |cores: &BTreeSet<u32>| -> BTreeSet<u32> {
        cores.iter().filter_map(|core| host.core(*core)).map(|core| host.leader(core)).collect()
    };
    let used: Vec<BTreeSet<u32>> = layouts.iter().map(|layout| layout.used(host)).collect();
    let bounded = || used.iter().filter(|cores| cores.len() < allowed.len());
    let taken: BTreeSet<u32> = bounded().flatten().copied().collect();
    let free = |taken: &BTreeSet<u32>| -> BTreeSet<u32> {
        let taken_leaders = leaders(taken);
        let free: BTreeSet<u32> = allowed.difference(taken).copied().collect();
        let apart =
            |core: &u32| host.core(*core).is_some_and(|core| !taken_leaders.contains(&host.leader(core)));
        let whole: BTreeSet<u32> = free.iter().copied().filter(apart).collect();
        if whole.is_empty() { free } else { whole }
    };
    let common = free(&taken);
    let place = |used: &BTreeSet<u32>| {
        let cores = match named {
            Some(cores) => cores.iter().copied().collect(),
            None if used.len() == allowed.len() => BTreeSet::new(),
            None if common.is_empty() => free(used),
            None => common.clone(),
        };
        let sharing = if cores.is_empty() || !cores.is_disjoint(used) {
            Sharing::Shared
        } else if leaders(&cores).is_disjoint(&leaders(used)) {
            Sharing::Own
        } else {
            Sharing::Siblings
        };
        let cores: Vec<u32> = cores.into_iter().collect();
        let (generator, backend) = match cores.len() {
            0 | 1 => (cores.as_slice(), cores.as_slice()),
            count => cores.split_at(count.div_ceil(2)),
        };
        LoadPlace { generator: generator.to_vec(), backend: backend.to_vec(), sharing }
    };
    Ok(used.iter().map(place).collect())
}

/// Whether a difference between two layouts is theirs, and not that of the load's place: shards that share cores with
/// the load take its time, the more of them the more.
pub(super) fn is_comparable(a: (&Layout, &LoadPlace), b: (&Layout, &LoadPlace)) -> bool {
    a.1 == b.1 && (a.1.sharing != Sharing::Shared || a.0.placed.len() == b.0.placed.len())
}
