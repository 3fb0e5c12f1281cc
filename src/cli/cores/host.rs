//! A host and a choice of its cores, as text and as JSON.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::Serialize;

use crate::cli::output::{Table, Tone, counted};
use crate::config::model::Cores;
use crate::config::render::Colour;
use crate::config::visible;
use crate::supervisor::cores::{Plan, plan};
use crate::supervisor::topology::{Cache, Cgroup, Core, Irq, Nic, Node, Topology, format_list};

/// Interrupts named in a line of the table.
const IRQS_SHOWN: usize = 3;

/// What there is to print.
pub(super) struct Report<'h> {
    host: &'h Topology,
    asked: &'h Cores,
    plan: Result<Plan, String>,
}

#[derive(Serialize)]
struct Json<'h> {
    host: HostJson<'h>,
    asked: String,
    shards: Vec<ShardJson<'h>>,
    note: Option<String>,
    error: Option<&'h str>,
}

#[derive(Serialize)]
struct HostJson<'h> {
    cores: Vec<CoreJson<'h>>,
    llcs: &'h [Cache],
    numa_nodes: &'h [Node],
    cgroup: &'h Cgroup,
    nics: &'h [Nic],
}

#[derive(Serialize)]
struct CoreJson<'h> {
    #[serde(flatten)]
    core: &'h Core,
    nic_irqs: Vec<u32>,
    shard: Option<usize>,
    why: Option<String>,
}

#[derive(Serialize)]
struct ShardJson<'h> {
    shard: usize,
    core: u32,
    why: &'h str,
}

impl<'h> Report<'h> {
    pub(super) fn new(host: &'h Topology, asked: &'h Cores) -> Self {
        Self { host, asked, plan: plan(asked, host) }
    }

    /// Why these cores can not be had.
    pub(super) fn error(&self) -> Option<&str> {
        self.plan.as_ref().err().map(String::as_str)
    }

    fn plan(&self) -> Option<&Plan> {
        self.plan.as_ref().ok()
    }

    pub(super) fn json(&self) -> String {
        let core = |core: &'h Core| CoreJson {
            core,
            nic_irqs: self.host.irqs_of(core.core).map(|(_, irq)| irq.irq).collect(),
            shard: self.plan().and_then(|plan| plan.shard_of(core.core)),
            why: self.plan().map(|plan| plan.reason(self.host, core)),
        };
        let shards = self.plan().map(|plan| plan.shards.as_slice()).unwrap_or_default();
        let json = Json {
            host: HostJson {
                cores: self.host.cores.iter().map(core).collect(),
                llcs: &self.host.caches,
                numa_nodes: &self.host.nodes,
                cgroup: &self.host.cgroup,
                nics: &self.host.nics,
            },
            asked: self.asked.to_string(),
            shards: shards
                .iter()
                .enumerate()
                .map(|(shard, placement)| ShardJson { shard, core: placement.core, why: &placement.why })
                .collect(),
            note: self.plan().and_then(|plan| plan.note(self.host)),
            error: self.error(),
        };
        let mut text = serde_json::to_string_pretty(&json).unwrap_or_default();
        text.push('\n');
        text
    }

    pub(super) fn text(&self, colour: Colour) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            let _ = writeln!(text, "{name:<10} {value}");
        };
        line("host", &host_line(self.host));
        let allowed: Vec<u32> = self.host.allowed().map(|core| core.core).collect();
        line("usable", &format!("{} of {}: {}", allowed.len(), self.host.cores.len(), format_list(&allowed)));
        let cgroup = &self.host.cgroup;
        line(
            "cpuset",
            &cgroup.cpuset.as_ref().map_or_else(|| "none visible".into(), |list| format_list(list)),
        );
        line("quota", &quota_line(cgroup));
        for nic in &self.host.nics {
            line("nic", &nic_line(nic));
        }
        if let Ok(plan) = &self.plan {
            let cores: Vec<u32> = plan.shards.iter().map(|shard| shard.core).collect();
            let shards = counted(cores.len(), "shard", "shards");
            line("cores", &format!("{}: {shards} on {}", self.asked, format_list(&cores)));
            if let Some(note) = plan.note(self.host) {
                line("note", &note);
            }
        }
        format!("{text}\n{}", self.table(colour))
    }

    fn table(&self, colour: Colour) -> Table {
        let header = ["CORE", "SOCKET", "NUMA", "LLC", "SIBLINGS", "USABLE", "NIC IRQS", "SHARD", "WHY"];
        let mut table = Table::new(colour, &header);
        for core in &self.host.cores {
            let shard = self.plan().and_then(|plan| plan.shard_of(core.core));
            let cells = vec![
                core.core.to_string(),
                or_unknown(core.socket),
                or_unknown(core.numa_node),
                or_unknown(core.llc),
                core.siblings.as_ref().map_or_else(|| "?".into(), |list| format_list(list)),
                if core.allowed { "yes" } else { "no" }.into(),
                self.irqs(core),
                shard.map_or_else(|| "-".into(), |shard| shard.to_string()),
                self.plan().map_or_else(|| "-".into(), |plan| plan.reason(self.host, core)),
            ];
            table.row(if core.allowed { Tone::Plain } else { Tone::Dim }, cells);
        }
        table
    }

    /// Interrupts of network cards that come to this core; those that may come to any core say nothing about it.
    fn irqs(&self, core: &Core) -> String {
        let online = self.host.cores.iter().filter(|core| core.online).count();
        let bound = |irq: &Irq| irq.cores.as_ref().is_some_and(|cores| cores.len() < online.max(2));
        let name = |(nic, irq): (&str, &Irq)| match &irq.name {
            Some(name) => visible(name).into_owned(),
            None => format!("{}:{}", visible(nic), irq.irq),
        };
        let names: Vec<String> =
            self.host.irqs_of(core.core).filter(|(_, irq)| bound(irq)).map(name).collect();
        match names.split_at_checked(IRQS_SHOWN) {
            Some((shown, more @ [_, ..])) => format!("{} +{}", shown.join(" "), more.len()),
            _ if names.is_empty() => "-".into(),
            _ => names.join(" "),
        }
    }
}

fn or_unknown(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "?".into(), |value| value.to_string())
}

fn host_line(host: &Topology) -> String {
    let sockets: BTreeSet<u32> = host.cores.iter().filter_map(|core| core.socket).collect();
    let physical: BTreeSet<_> =
        host.cores.iter().filter_map(|core| core.siblings.as_ref()?.iter().min()).collect();
    let known = |count: usize, one, many| match count {
        0 => format!("? {many}"),
        _ => counted(count, one, many),
    };
    let mut kinds: Vec<String> = host
        .caches
        .iter()
        .map(|cache| match cache.kib {
            Some(kib) if kib % 1024 == 0 => format!("L{} of {} MiB", cache.level, kib / 1024),
            Some(kib) => format!("L{} of {kib} KiB", cache.level),
            None => format!("L{}", cache.level),
        })
        .collect();
    kinds.dedup();
    let caches = known(host.caches.len(), "last-level cache", "last-level caches");
    [
        known(sockets.len(), "socket", "sockets"),
        known(host.nodes.len(), "NUMA node", "NUMA nodes"),
        if kinds.is_empty() { caches } else { format!("{caches} ({})", kinds.join(", ")) },
        known(physical.len(), "physical core", "physical cores"),
        known(host.cores.len(), "thread", "threads"),
    ]
    .join(", ")
}

fn quota_line(cgroup: &Cgroup) -> String {
    match &cgroup.quota {
        Some(quota) => {
            format!("{}, set by the cgroup {}", quota.time, visible(&quota.group))
        }
        None => "none visible".into(),
    }
}

fn nic_line(nic: &Nic) -> String {
    let cores: BTreeSet<u32> = nic.irqs.iter().flat_map(|irq| irq.cores.iter().flatten()).copied().collect();
    let cores: Vec<u32> = cores.into_iter().collect();
    let irqs = match nic.irqs.len() {
        0 => "interrupts not visible".into(),
        count if cores.is_empty() => {
            format!("{}, whose cores are not visible", counted(count, "interrupt", "interrupts"))
        }
        count => format!("{} on {}", counted(count, "interrupt", "interrupts"), format_list(&cores)),
    };
    format!(
        "{}: {}, NUMA node {}, {} rx and {} tx queues, {irqs}",
        visible(&nic.name),
        visible(nic.state.as_deref().unwrap_or("?")),
        or_unknown(nic.numa_node),
        nic.rx_queues,
        nic.tx_queues,
    )
}
