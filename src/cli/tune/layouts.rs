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

    /// `[process]` with the keys that make this layout, without those that are as by default; empty without any.
    pub(super) fn toml(&self) -> String {
        let mut text = String::new();
        if self.cores != Cores::Auto {
            text.push_str(&format!("cores = \"{}\"\n", self.cores));
        }
        if self.driver != Driver::Auto {
            text.push_str(&format!("driver = \"{}\"\n", driver_name(self.driver)));
        }
        if self.ring_entries != RING_ENTRIES_DEFAULT {
            text.push_str(&format!("ring_entries = {}\n", self.ring_entries));
        }
        if text.is_empty() { text } else { format!("[process]\n{text}") }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use clap::Parser;

    use super::*;
    use crate::supervisor::topology::fixture::Fixture;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: TuneArgs,
    }

    fn args(text: &str) -> TuneArgs {
        Line::parse_from(std::iter::once("tune").chain(text.split_whitespace())).args
    }

    fn large() -> Topology {
        Topology::of_copy(Fixture::two_sockets().path())
    }

    /// Some cores of the large host, without siblings.
    fn with_cores(list: &str) -> Topology {
        let fixture = Fixture::two_sockets();
        fixture.write("sys/fs/cgroup/edge/cpuset.cpus.effective", list);
        Topology::of_copy(fixture.path())
    }

    /// `2 on 0-1 pinned auto 4096` for each.
    fn shown(layouts: &[Layout]) -> Vec<String> {
        let show = |layout: &Layout| {
            let pins = if layout.pinned { "" } else { " unpinned" };
            let cores: Vec<String> = layout.placed.iter().map(u32::to_string).collect();
            format!("{}{pins} {} {}", cores.join(","), driver_name(layout.driver), layout.ring_entries)
        };
        layouts.iter().map(show).collect()
    }

    #[test]
    fn tries_what_suits_a_large_host() {
        let layouts = layouts(&args(""), &large(), true).unwrap();
        let expected = [
            "0,1,2,3,4,5,6,7 auto 4096",
            "0,1,2,3,4,5,6,7 unpinned auto 4096",
            "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15 auto 4096",
            "4,5 auto 4096",
            "4,5,6,7 auto 4096",
            "4 auto 4096",
            "0,1,2,3,4,5,6,7 auto 1024",
            "0,1,2,3,4,5,6,7 epoll 4096",
        ];
        assert_eq!(shown(&layouts), expected);
    }

    /// What comes to the same is tried once; what is left of the number goes to combinations.
    #[test]
    fn tries_what_suits_a_small_host() {
        let two = with_cores("0,1");
        let expected = [
            "0,1 auto 4096",
            "0,1 unpinned auto 4096",
            "0 auto 4096",
            "0,1 auto 1024",
            "0,1 epoll 4096",
            "0,1 unpinned auto 1024",
            "0,1 unpinned epoll 4096",
            "0 auto 1024",
        ];
        assert_eq!(shown(&layouts(&args(""), &two, true).unwrap()), expected);
        // Without io_uring neither ring sizes nor epoll make a difference.
        let expected = ["0,1 auto 4096", "0,1 unpinned auto 4096", "0 auto 4096"];
        assert_eq!(shown(&layouts(&args(""), &two, false).unwrap()), expected);
        let one = with_cores("3");
        let expected = ["3 auto 4096", "3 unpinned auto 4096", "3 auto 1024", "3 epoll 4096"];
        assert_eq!(shown(&layouts(&args(""), &one, true).unwrap())[..4], expected);
    }

    /// The default leads, and all combinations of what is named follow.
    #[test]
    fn tries_what_is_named() {
        let host = large();
        let named = args("--cores 1 0-1 --drivers auto,epoll --ring-entries 256,4096");
        let expected = [
            "0,1,2,3,4,5,6,7 auto 4096",
            "4 auto 256",
            "4 auto 4096",
            "4 epoll 256",
            "0,1 auto 256",
            "0,1 auto 4096",
            "0,1 epoll 256",
        ];
        assert_eq!(shown(&layouts(&named, &host, true).unwrap()), expected);
        let pins = layouts(&args("--no-pin"), &host, true).unwrap();
        assert_eq!((pins.len(), pins[0].pinned, pins[1].pinned), (2, true, false));
        assert_eq!((pins[1].toml().as_str(), pins[1].options()), ("", &["--no-pin"][..]));
        assert!(layouts(&args("--cores 0-3,99"), &host, true).unwrap_err().contains("core 99"));
        let many =
            "--cores 1 2 3 4 5 6 7 8 9 10 11 12 --drivers auto,epoll --ring-entries 256,512,1024,2048,4096";
        assert!(layouts(&args(many), &host, true).unwrap_err().contains("at most 64"));
    }

    #[test]
    fn toml_holds_what_differs() {
        let host = large();
        let toml = |line: &str| layouts(&args(line), &host, true).unwrap()[1].toml();
        assert_eq!(toml("--cores 4-4"), "[process]\ncores = \"4-4\"\n");
        assert_eq!(toml("--drivers epoll"), "[process]\ndriver = \"epoll\"\n");
        assert_eq!(
            toml("--cores numa:1 --ring-entries 512"),
            "[process]\ncores = \"numa:1\"\nring_entries = 512\n"
        );
    }

    fn places(host: &Topology, line: &str) -> (Vec<Layout>, Vec<LoadPlace>) {
        let args = args(line);
        let layouts = layouts(&args, host, true).unwrap();
        let named = args.load_cores.as_ref().map(|list| list.0.as_slice());
        let places = load_places(&layouts, host, named).unwrap();
        (layouts, places)
    }

    /// One place for all that leave room for it; next to the shards on their siblings when nothing else is free.
    #[test]
    fn places_the_load_on_a_large_host() {
        let host = large();
        let (layouts, load) = places(&host, "");
        let siblings = LoadPlace {
            generator: vec![8, 9, 10, 11],
            backend: vec![12, 13, 14, 15],
            sharing: Sharing::Siblings,
        };
        let anywhere = LoadPlace { generator: vec![], backend: vec![], sharing: Sharing::Shared };
        assert_eq!(load[0], siblings);
        assert_eq!((&load[1], &load[2]), (&anywhere, &anywhere), "not pinned, and all cores");
        let compared: Vec<bool> = (0..8)
            .map(|index| is_comparable((&layouts[index], &load[index]), (&layouts[0], &load[0])))
            .collect();
        assert_eq!(compared, [true, false, false, true, true, true, true, true]);
        // Named cores hold for all, and overlaps are seen.
        let (_, load) = places(&host, "--cores 0-1 --load-cores 8,14-15");
        assert_eq!((&load[1].generator, &load[1].backend), (&vec![8, 14], &vec![15]));
        assert_eq!((load[0].sharing, load[1].sharing), (Sharing::Siblings, Sharing::Siblings));
        let (_, load) = places(&host, "--cores 0-1 --load-cores 4,14");
        assert_eq!((load[0].sharing, load[1].sharing), (Sharing::Shared, Sharing::Own));
        let error = load_places(&layouts, &with_cores("0-3"), Some(&[9])).unwrap_err();
        assert!(error.contains("core 9"), "{error}");
    }

    /// With a quota, physical cores are left over: the load takes those and no sibling of a shard.
    #[test]
    fn places_the_load_apart_where_it_can() {
        let fixture = Fixture::two_sockets();
        fixture.write("sys/fs/cgroup/edge/cpu.max", "200000 100000\n");
        let host = Topology::of_copy(fixture.path());
        let (layouts, load) = places(&host, "--cores 1 2");
        assert_eq!(shown(&layouts), ["4,5 auto 4096", "4 auto 4096"]);
        assert!(load.iter().all(|place| place.sharing == Sharing::Own));
        assert_eq!(load[0], load[1]);
        assert!(!load[0].generator.iter().chain(&load[0].backend).any(|core| [4, 5, 12, 13].contains(core)));
    }

    /// Two cores: one shard leaves the other core to the load, two leave none, and those are not compared.
    #[test]
    fn places_the_load_on_a_small_host() {
        let (layouts, load) = places(&with_cores("0,1"), "");
        assert_eq!((load[0].sharing, load[1].sharing), (Sharing::Shared, Sharing::Shared));
        assert_eq!(load[2], LoadPlace { generator: vec![1], backend: vec![1], sharing: Sharing::Own });
        let default = (&layouts[0], &load[0]);
        assert!(is_comparable((&layouts[1], &load[1]), default));
        assert!(!is_comparable((&layouts[2], &load[2]), default));
    }
}
