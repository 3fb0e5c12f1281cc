//! Which cores the proxy gets and which the load: lists as `0-3,6`, and the split of the cores that this process may
//! use.

use std::fmt;
use std::str::FromStr;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::{Serialize, Serializer};

use crate::cores::{self, CoreList};

/// Cores by number, sorted, without repetition, never empty.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct CoreSet(Vec<usize>);

impl CoreSet {
    /// Sorts; `None` without any core.
    pub(crate) fn new(mut cores: Vec<usize>) -> Option<Self> {
        cores.sort_unstable();
        cores.dedup();
        (!cores.is_empty()).then_some(Self(cores))
    }

    /// The cores that this process may use.
    pub(crate) fn allowed() -> Result<Self, String> {
        Self::new(cores::available()).ok_or_else(|| "which cores this process may use is not known".into())
    }

    /// How many.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether both share a core.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.0.iter().any(|core| other.0.contains(core))
    }

    /// What is left without `other`.
    pub(crate) fn without(&self, other: &Self) -> Option<Self> {
        Self::new(self.0.iter().copied().filter(|core| !other.0.contains(core)).collect())
    }

    /// The first `count` cores and the rest.
    pub(crate) fn split(&self, count: usize) -> (Option<Self>, Option<Self>) {
        let (first, rest) = self.0.split_at(count.min(self.0.len()));
        (Self::new(first.to_vec()), Self::new(rest.to_vec()))
    }

    /// Binds the calling thread, and what it starts, to these cores while `work` goes on.
    pub(crate) fn pinned<T>(&self, work: impl FnOnce() -> T) -> Result<T, String> {
        let mut set = CpuSet::new();
        // The kernel's own limit is far above; a core beyond it is not in any list of available ones.
        self.0.iter().filter(|&&core| core < CpuSet::MAX_CPU).for_each(|&core| set.set(core));
        let failed = |error| format!("cores {self} can not be used: {error}");
        let before = sched_getaffinity(None).map_err(failed)?;
        sched_setaffinity(None, &set).map_err(failed)?;
        let done = work();
        sched_setaffinity(None, &before).map_err(failed)?;
        Ok(done)
    }
}

impl fmt::Display for CoreSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for run in self.0.chunk_by(|left, right| left + 1 == *right) {
            match run {
                [first, .., last] => write!(f, "{separator}{first}-{last}")?,
                _ => write!(f, "{separator}{}", run[0])?,
            }
            separator = ",";
        }
        Ok(())
    }
}

impl FromStr for CoreSet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let list = CoreList::parse(text)?;
        Self::new(list.ids().to_vec()).ok_or_else(|| "a list of no cores".into())
    }
}

impl Serialize for CoreSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Who runs where.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(crate) struct Layout {
    /// The proxy under test.
    pub(crate) proxy: CoreSet,
    /// Load generator.
    pub(crate) load: CoreSet,
    /// What answers behind the proxy.
    pub(crate) backend: CoreSet,
}

impl Layout {
    /// The proxy on `proxy` (the first allowed core unless told), generator and backend on `load` (all others unless
    /// told): each on half of those, or both on the only one.
    pub(crate) fn choose(
        allowed: &CoreSet,
        proxy: Option<CoreSet>,
        load: Option<CoreSet>,
    ) -> Result<Self, String> {
        let first = || CoreSet(vec![allowed.0[0]]);
        let proxy = proxy.unwrap_or_else(first);
        let load = load.or_else(|| allowed.without(&proxy)).unwrap_or_else(|| allowed.clone());
        for chosen in [&proxy, &load] {
            if let Some(missing) = chosen.without(allowed) {
                return Err(format!("cores {missing} are not there: this process may use {allowed}"));
            }
        }
        let (generator, backend) = load.split(load.count() / 2);
        Ok(match (generator, backend) {
            (Some(generator), Some(backend)) => Self { proxy, load: generator, backend },
            _ => Self { proxy, load: load.clone(), backend: load },
        })
    }

    /// Whether the load takes time from the proxy, which makes all times worthless.
    pub(crate) fn is_shared(&self) -> bool {
        self.proxy.overlaps(&self.load) || self.proxy.overlaps(&self.backend)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    /// Of any host, unlike what the command line takes.
    fn list(text: &str) -> CoreSet {
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            first.parse::<usize>().unwrap()..=last.parse::<usize>().unwrap()
        };
        CoreSet::new(text.split(',').flat_map(range).collect()).unwrap()
    }

    #[test]
    fn sets_are_written_short() {
        for (text, written) in [("0", "0"), ("3,1,2", "1-3"), ("0-1,6,6", "0-1,6"), ("7-7", "7")] {
            assert_eq!(list(text).to_string(), written);
        }
        assert!("a".parse::<CoreSet>().is_err());
        let allowed = CoreSet::allowed().unwrap();
        assert_eq!(allowed.to_string().parse::<CoreSet>().unwrap(), allowed);
    }

    #[test]
    fn layouts() {
        let layout = |allowed: &str, proxy: Option<&str>, load: Option<&str>| {
            let chosen = Layout::choose(&list(allowed), proxy.map(list), load.map(list))?;
            Ok::<_, String>(format!("{} {} {}", chosen.proxy, chosen.load, chosen.backend))
        };
        assert_eq!(layout("0-1", None, None).unwrap(), "0 1 1");
        assert_eq!(layout("2-6", None, None).unwrap(), "2 3-4 5-6");
        assert_eq!(layout("0-3", Some("1,2"), None).unwrap(), "1-2 0 3");
        assert_eq!(layout("0-3", None, Some("3")).unwrap(), "0 3 3");
        assert!(layout("0-1", Some("2"), None).unwrap_err().contains("cores 2 are not there"));
        let alone = Layout::choose(&list("0"), None, None).unwrap();
        assert!(alone.is_shared());
        assert!(!Layout::choose(&list("0-1"), None, None).unwrap().is_shared());
    }
}
