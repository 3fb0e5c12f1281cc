//! What the process's cgroups grant: cores (cpuset) and time (quota), of version 2 and 1 alike.
//!
//! A quota holds for everything below its group, so all groups from the process's own up to the root of what is
//! mounted are asked and the tightest answer counts.

use std::fmt;

use serde::{Serialize, Serializer};

use super::root::Root;

/// What is granted; `None` where nothing says so.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Cgroup {
    /// Cores that the cpuset holds.
    pub cpuset: Option<Vec<u32>>,
    /// The tightest quota.
    pub quota: Option<Quota>,
}

/// CPU time per period.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Quota {
    /// What it comes to in cores.
    #[serde(rename = "cores")]
    pub time: QuotaTime,
    /// The group that sets it.
    pub group: String,
}

/// A quota and its period, both in microseconds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct QuotaTime {
    /// CPU time per period.
    pub quota_us: u64,
    /// Period, at least 1.
    pub period_us: u64,
}

impl QuotaTime {
    /// In cores.
    #[must_use]
    pub fn cores(self) -> f64 {
        self.quota_us as f64 / self.period_us as f64
    }

    /// Shards that it feeds: cores, rounded up.
    #[must_use]
    pub fn shards(self) -> usize {
        usize::try_from(self.quota_us.div_ceil(self.period_us).max(1)).unwrap_or(usize::MAX)
    }

    fn is_tighter_than(self, other: Self) -> bool {
        u128::from(self.quota_us) * u128::from(other.period_us)
            < u128::from(other.quota_us) * u128::from(self.period_us)
    }
}

impl fmt::Display for QuotaTime {
    /// `1.5 cores`; small ones with more digits, since none is nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cores = self.cores();
        let digits = if cores >= 0.1 { 1 } else { 3 };
        write!(f, "{cores:.digits$} cores")
    }
}

impl Serialize for QuotaTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.cores())
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Version {
    One,
    Two,
}

/// A hierarchy that is mounted.
struct Mount {
    version: Version,
    /// The group that the mount shows as its root: not `/` inside a container that mounts its own group only.
    root: String,
    point: String,
    /// Of version 1.
    controllers: Vec<String>,
}

/// Reads what the groups of the process `proc/self` grant.
pub(super) fn read(root: &Root) -> Cgroup {
    let membership = root.text("proc/self/cgroup").unwrap_or_default();
    let mounts = match root.text("proc/self/mountinfo") {
        Some(text) => text.lines().filter_map(parse_mount).collect(),
        None => vec![Mount {
            version: Version::Two,
            root: "/".into(),
            point: "/sys/fs/cgroup".into(),
            controllers: Vec::new(),
        }],
    };
    let mut cgroup = Cgroup::default();
    for mount in &mounts {
        let Some(group) = group_of(mount, &membership) else { continue };
        for group in up_from(&group) {
            let file = |name: &str| format!("{}{}/{name}", mount.point, group.trim_end_matches('/'));
            if let Some(time) = quota(root, mount, file)
                && cgroup.quota.as_ref().is_none_or(|quota| time.is_tighter_than(quota.time))
            {
                cgroup.quota = Some(Quota { time, group: group.to_owned() });
            }
            if cgroup.cpuset.is_none() {
                cgroup.cpuset = cpuset(root, mount, file);
            }
        }
    }
    cgroup
}

/// A line of mountinfo (proc(5)): `36 35 98:0 /root /point options .. - cgroup2 source super-options`.
fn parse_mount(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(3);
    let (root, point) = (left.next()?.to_owned(), left.next()?.to_owned());
    let mut right = right.split(' ');
    let version = match right.next()? {
        "cgroup" => Version::One,
        "cgroup2" => Version::Two,
        _ => return None,
    };
    let controllers = right.nth(1).unwrap_or_default().split(',').map(str::to_owned).collect();
    Some(Mount { version, root, point, controllers })
}

/// The process's group within `mount`, from a line `0::/group` (version 2) or `4:cpu,cpuacct:/group` (version 1).
fn group_of(mount: &Mount, membership: &str) -> Option<String> {
    let group = membership.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (id, controllers, group) = (fields.next()?, fields.next()?, fields.next()?);
        let named = |name: &str| controllers.split(',').any(|controller| controller == name);
        let wanted = match mount.version {
            Version::Two => id == "0" && controllers.is_empty(),
            Version::One => ["cpu", "cpuset"]
                .iter()
                .any(|name| named(name) && mount.controllers.iter().any(|c| c == name)),
        };
        wanted.then_some(group)
    })?;
    // A group outside of what is mounted (a container's view, `/../x`) leaves the mount's own root.
    let below = match group.strip_prefix(mount.root.trim_end_matches('/')) {
        Some(below) if below.starts_with('/') && !below.split('/').any(|part| part == "..") => below,
        _ => "/",
    };
    Some(below.to_owned())
}

/// `/a/b`, `/a`, `/`.
fn up_from(group: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(group), |group| match group.rsplit_once('/')? {
        ("", "") => None,
        ("", _) => Some("/"),
        (above, _) => Some(above),
    })
}

fn quota(root: &Root, mount: &Mount, file: impl Fn(&str) -> String) -> Option<QuotaTime> {
    let (quota, period) = match mount.version {
        Version::Two => {
            let text = root.text(&file("cpu.max"))?;
            let (quota, period) = text.split_once(' ')?;
            (quota.parse().ok()?, period.parse().ok()?)
        }
        // -1 means none.
        Version::One => (root.number(&file("cpu.cfs_quota_us"))?, root.number(&file("cpu.cfs_period_us"))?),
    };
    (period > 0).then_some(QuotaTime { quota_us: quota, period_us: period })
}

fn cpuset(root: &Root, mount: &Mount, file: impl Fn(&str) -> String) -> Option<Vec<u32>> {
    let names: &[&str] = match mount.version {
        Version::Two => &["cpuset.cpus.effective"],
        Version::One => &["cpuset.effective_cpus", "cpuset.cpus"],
    };
    names.iter().find_map(|name| root.list(&file(name))).filter(|list| !list.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Fixture;
    use super::*;

    const V2: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
    const V1: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
        32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
        34 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    fn read_of(files: &[(&str, &str)]) -> Cgroup {
        let fixture = Fixture::empty();
        files.iter().for_each(|(path, text)| fixture.write(path, text));
        read(&Root::new(fixture.path()))
    }

    fn quota_of(cgroup: &Cgroup) -> Option<(f64, &str)> {
        cgroup.quota.as_ref().map(|quota| (quota.time.cores(), quota.group.as_str()))
    }

    /// The tightest of all groups counts, not the nearest; the cpuset of the nearest that has one.
    #[test]
    fn walks_up() {
        let cgroup = read_of(&[
            ("proc/self/cgroup", "0::/pod/app/worker\n"),
            ("proc/self/mountinfo", V2),
            ("sys/fs/cgroup/pod/cpu.max", "150000 100000\n"),
            ("sys/fs/cgroup/pod/app/cpu.max", "40000 20000\n"),
            ("sys/fs/cgroup/pod/app/worker/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/pod/cpuset.cpus.effective", "0-7\n"),
            ("sys/fs/cgroup/cpuset.cpus.effective", "0-15\n"),
        ]);
        assert_eq!(quota_of(&cgroup), Some((1.5, "/pod")));
        assert_eq!(cgroup.quota.map(|quota| quota.time.shards()), Some(2));
        assert_eq!(cgroup.cpuset, Some((0..8).collect()));
    }

    /// Version 1, each controller in a hierarchy of its own, beside a version 2 without controllers.
    #[test]
    fn version_1() {
        let cgroup = read_of(&[
            ("proc/self/cgroup", "5:cpuset:/jobs\n3:cpu,cpuacct:/jobs/edge\n0::/user\n"),
            ("proc/self/mountinfo", V1),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/jobs/cpu.cfs_quota_us", "300000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/jobs/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/cpuset/jobs/cpuset.cpus", "2-3\n"),
        ]);
        assert_eq!(quota_of(&cgroup), Some((3.0, "/jobs")));
        assert_eq!(cgroup.cpuset, Some(vec![2, 3]));
    }

    /// A container that sees its own group as the root, with or without a namespace of its own.
    #[test]
    fn containers() {
        let whole = ("sys/fs/cgroup/cpu.max", "50000 100000\n");
        let inside = "30 23 0:26 /pods/a /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        for (membership, mounts) in
            [("0::/pods/a\n", inside), ("0::/\n", V2), ("0::/../b\n", V2), ("0::/pods/ab\n", inside)]
        {
            let cgroup = read_of(&[("proc/self/cgroup", membership), ("proc/self/mountinfo", mounts), whole]);
            assert_eq!(quota_of(&cgroup), Some((0.5, "/")), "{membership}");
            assert_eq!(cgroup.quota.map(|quota| quota.time.shards()), Some(1));
        }
        let below = ("sys/fs/cgroup/x/cpu.max", "70000 10000\n");
        let cgroup =
            read_of(&[("proc/self/cgroup", "0::/pods/a/x\n"), ("proc/self/mountinfo", inside), below]);
        assert_eq!(quota_of(&cgroup), Some((7.0, "/x")));
    }

    #[test]
    fn shown_quotas_are_never_nothing() {
        let shown = |quota_us| QuotaTime { quota_us, period_us: 100_000 }.to_string();
        assert_eq!([1_000, 10_000, 150_000].map(shown), ["0.010 cores", "0.1 cores", "1.5 cores"]);
    }

    /// Nonsense is no quota and no cpuset, and never a panic.
    #[test]
    fn nonsense() {
        assert_eq!(read_of(&[]), Cgroup::default());
        for text in ["", "max", "1", "1 0", "-1 100000", "9999999999999999999999 1", "a b", "\0", "1 1 1"] {
            let cgroup = read_of(&[("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/cpu.max", text)]);
            assert_eq!(cgroup.quota, None, "{text:?}");
        }
        for membership in ["", "::", "0:", "0::", "0::relative", "0:::::", "0::/\u{e9}/..\n"] {
            let cgroup = read_of(&[("proc/self/cgroup", membership), ("proc/self/mountinfo", "- - -\n 1 2")]);
            assert_eq!(cgroup, Cgroup::default(), "{membership:?}");
        }
        let tiny = QuotaTime { quota_us: 0, period_us: 1 };
        let huge = QuotaTime { quota_us: u64::MAX, period_us: 1 };
        assert_eq!(tiny.shards(), 1);
        assert!(tiny.is_tighter_than(huge) && !huge.is_tighter_than(tiny) && huge.shards() > 1);
    }
}
