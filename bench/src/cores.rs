//! Cores that threads are pinned to.

use core_affinity::CoreId;

/// Most cores in a list, far above any host.
const CORES_MAX: usize = 4096;

/// A list of core ids, as `--cores` takes it: `1` or `0-3,6`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct CoreList(Vec<usize>);

impl CoreList {
    /// Reads a list.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let form = || format!("`{text}` is not a list of core ids such as `1` or `0-3,6`");
        let mut cores = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let first: usize = first.parse().map_err(|_| form())?;
            let last: usize = last.parse().map_err(|_| form())?;
            if last < first || last - first >= CORES_MAX || cores.len() >= CORES_MAX {
                return Err(form());
            }
            cores.extend(first..=last);
        }
        if let Some((at, core)) = cores.iter().enumerate().find(|(at, core)| cores[..*at].contains(core)) {
            return Err(format!("core {core} is named twice, the second time at place {}", at + 1));
        }
        let available = available();
        match cores.iter().find(|core| !available.contains(core)) {
            Some(core) => Err(format!("core {core} is not among those this process may use ({available:?})")),
            None => Ok(Self(cores)),
        }
    }

    /// The core of a thread: they take turns where there are more threads than cores.
    pub(crate) fn of_thread(&self, thread: usize) -> Option<usize> {
        self.0.get(thread % self.0.len().max(1)).copied()
    }

    /// The ids.
    pub(crate) fn ids(&self) -> &[usize] {
        &self.0
    }
}

/// The cores this process may use.
pub(crate) fn available() -> Vec<usize> {
    core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect()
}

/// Pins the calling thread to the core that the list has for it.
pub(crate) fn pin(cores: Option<&CoreList>, thread: usize) -> Result<(), String> {
    let Some(id) = cores.and_then(|cores| cores.of_thread(thread)) else { return Ok(()) };
    if core_affinity::set_for_current(CoreId { id }) {
        Ok(())
    } else {
        Err(format!("thread {thread} can not be pinned to core {id}"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn reads_lists_and_refuses_the_rest() {
        let first = available()[0];
        assert_eq!(CoreList::parse(&first.to_string()).unwrap().ids(), [first]);
        assert_eq!(CoreList::parse(&format!("{first}-{first}")).unwrap().ids(), [first]);
        let twice = CoreList::parse(&format!("{first},{first}")).unwrap_err();
        assert!(twice.contains("named twice"), "{twice}");
        for wrong in ["", "a", "1-", "3-1", "0-99999", "99999"] {
            assert!(CoreList::parse(wrong).is_err(), "{wrong}");
        }
    }
}
