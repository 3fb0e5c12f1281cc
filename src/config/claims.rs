//! Hosts against servers: no host is claimed twice on one listening address, and every host of a virtual
//! service is served by a server of its gateways.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use crate::config::diagnostic::{Problem, Problems};
use crate::config::drafts::{Drafts, GatewayDraft, HostAt};
use crate::config::gateway::server_place;
use crate::config::host::{show, tails};
use crate::config::lower::Linked;
use crate::config::model::HostPattern;
use crate::config::source::Place;

/// Checks the servers of all gateways and the hosts of all virtual services.
pub(super) fn check(drafts: &Drafts, linked: &[Linked], problems: &mut Problems) {
    check_twice(&drafts.gateways, problems);
    if drafts.damaged {
        return;
    }
    let served = drafts.gateways.iter().map(|draft| Served::of(draft.hosts.iter().flatten()));
    let served: Vec<Served<'_>> = served.collect();
    for (draft, linked) in drafts.virtual_services.iter().zip(linked) {
        // A gateway that does not exist was reported; it may well serve the host once its name is mended.
        if linked.lost || linked.gateways.is_empty() {
            continue;
        }
        for host in &draft.hosts {
            let meets =
                |gateway: &usize| served.get(*gateway).is_some_and(|served| served.meets(&host.value));
            if !linked.gateways.iter().any(meets) {
                problems.push(unserved(host, &linked.gateways, &drafts.gateways));
            }
        }
        warn_of_equal_hosts(&draft.hosts, problems);
    }
}

fn unserved(host: &HostAt, gateways: &[usize], drafts: &[GatewayDraft]) -> Problem {
    let message = format!("no server serves host `{}`", show(&host.value));
    let mut problem = Problem::warning("unserved-host", host.place, message);
    for gateway in gateways.iter().filter_map(|gateway| drafts.get(*gateway)).take(3) {
        problem = problem.related(server_place(gateway, 0), format!("gateway `{}`", gateway.gateway.name));
    }
    problem.expected("a server of one of the gateways whose `hosts` cover the host")
}

fn warn_of_equal_hosts(hosts: &[HostAt], problems: &mut Problems) {
    let mut seen: HashMap<&HostPattern, Place> = HashMap::with_capacity(hosts.len());
    for host in hosts {
        if let Some(first) = seen.insert(&host.value, host.place) {
            let message = format!("host `{}` stands twice", show(&host.value));
            problems
                .push(Problem::warning("duplicate-entry", host.place, message).related(first, "first here"));
        }
    }
}

/// A request on a port must find one server for its host. Servers on port 0 get a port each, so they never
/// clash.
fn check_twice(gateways: &[GatewayDraft], problems: &mut Problems) {
    let mut claimed: HashMap<(u16, Option<IpAddr>, &HostPattern), (Place, usize)> = HashMap::new();
    for (index, draft) in gateways.iter().enumerate() {
        for (server, hosts) in draft.gateway.servers.iter().zip(&draft.hosts) {
            let mut own: HashMap<&HostPattern, Place> = HashMap::new();
            for host in hosts {
                let first = if server.port == 0 {
                    own.insert(&host.value, host.place).map(|place| (place, index))
                } else {
                    claimed.insert((server.port, server.bind, &host.value), (host.place, index))
                };
                let Some((first, owner)) = first else { continue };
                let owner = gateways.get(owner).map_or("", |owner| owner.gateway.name.as_ref());
                let message =
                    format!("host `{}` is claimed twice on port {}", show(&host.value), server.port);
                let problem = Problem::error("duplicate-host", host.place, message)
                    .related(first, format!("first by gateway `{owner}`"))
                    .expected("one server for each host, port and address");
                problems.push(problem);
            }
        }
    }
}

/// The hosts of one gateway, or of the virtual services behind it, so that one look-up costs the labels of a name and not the number of hosts.
pub(super) struct Served<'d> {
    any: bool,
    exact: HashSet<&'d str>,
    suffixes: HashSet<&'d str>,
    /// Every suffix that some host lies below.
    tails: HashSet<&'d str>,
}

impl<'d> Served<'d> {
    pub(super) fn of(hosts: impl Iterator<Item = &'d HostAt>) -> Self {
        let mut served =
            Self { any: false, exact: HashSet::new(), suffixes: HashSet::new(), tails: HashSet::new() };
        for host in hosts {
            match &host.value {
                HostPattern::Any => served.any = true,
                HostPattern::Exact(name) => {
                    served.exact.insert(name);
                    served.tails.extend(tails(name));
                }
                HostPattern::Suffix(suffix) => {
                    served.suffixes.insert(suffix);
                    served.tails.extend(tails(suffix));
                }
            }
        }
        served
    }

    /// Whether any name matches both one of the hosts and `host`.
    pub(super) fn meets(&self, host: &HostPattern) -> bool {
        match host {
            _ if self.any => true,
            HostPattern::Any => !self.exact.is_empty() || !self.suffixes.is_empty(),
            HostPattern::Exact(name) => {
                self.exact.contains(name.as_ref()) || tails(name).any(|tail| self.suffixes.contains(tail))
            }
            HostPattern::Suffix(suffix) => {
                self.tails.contains(suffix.as_ref()) || tails(suffix).any(|tail| self.suffixes.contains(tail))
            }
        }
    }
}
