//! Hosts against servers: one listening address speaks one kind of protocol, no host is claimed twice on it, and every
//! host of a virtual service is served by a server of its gateways that goes by the kind of rules it has.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use crate::config::diagnostic::{Problem, Problems};
use crate::config::drafts::{Drafts, GatewayDraft, HostAt, VirtualServiceDraft};
use crate::config::gateway::server_place;
use crate::config::host::{show, tails};
use crate::config::lower::Linked;
use crate::config::model::{HostPattern, Protocol, RuleKind, Server};
use crate::config::source::Place;

/// Checks the servers of all gateways and the hosts of all virtual services.
pub(super) fn check(drafts: &Drafts, linked: &[Linked], problems: &mut Problems) {
    check_listeners(&drafts.gateways, problems);
    if drafts.damaged {
        return;
    }
    let served: Vec<GatewayServed<'_>> = drafts.gateways.iter().map(GatewayServed::of).collect();
    for (draft, linked) in drafts.virtual_services.iter().zip(linked) {
        // A gateway that does not exist was reported; it may well serve the host once its name is mended.
        if linked.lost || linked.gateways.is_empty() {
            continue;
        }
        let gateways = || linked.gateways.iter().filter_map(|gateway| served.get(*gateway));
        for host in &draft.hosts {
            let meets = |kind: RuleKind| gateways().any(|served| served.meets(kind, &host.value));
            let service = &draft.virtual_service;
            // Without a rule, which is an error of its own, the kind is not known.
            let ruled = |kind: &RuleKind| service.has_rules(*kind);
            let mut kinds = RuleKind::ALL.into_iter().filter(ruled).peekable();
            let known = kinds.peek().is_some();
            if !kinds.any(meets) && (known || !RuleKind::ALL.into_iter().any(meets)) {
                let other = RuleKind::ALL.into_iter().find(|kind| meets(*kind));
                problems.push(unserved(host, other, &linked.gateways, &drafts.gateways));
            }
        }
        warn_of_idle_rules(draft, |kind| {
            gateways().any(|served| draft.hosts.iter().any(|host| served.meets(kind, &host.value)))
        })
        .into_iter()
        .for_each(|problem| problems.push(problem));
        warn_of_equal_hosts(&draft.hosts, problems);
    }
}

/// Kinds of rules that no server of the hosts goes by, where another kind is in use: with none, each host was reported.
fn warn_of_idle_rules(draft: &VirtualServiceDraft, served: impl Fn(RuleKind) -> bool) -> Vec<Problem> {
    let service = &draft.virtual_service;
    let firsts = [0, service.http.len(), service.http.len() + service.tls.len()];
    let ruled = || RuleKind::ALL.into_iter().zip(firsts).filter(|(kind, _)| service.has_rules(*kind));
    if !ruled().any(|(kind, _)| served(kind)) {
        return Vec::new();
    }
    let idle = ruled().filter(|(kind, _)| !served(*kind)).filter_map(|(kind, first)| {
        let message =
            format!("no server with a host of the virtual service goes by its `{}` rules", kind.key());
        let problem = Problem::warning("unserved-rules", draft.rules.get(first)?.place, message);
        Some(problem.expected(servers_of(kind)))
    });
    idle.collect()
}

/// Which servers go by a kind of rules.
const fn servers_of(kind: RuleKind) -> &'static str {
    match kind {
        RuleKind::Http => "a server of protocol HTTP, or of HTTPS where TLS ends",
        RuleKind::Tls => "a server of protocol TLS with `mode = \"PASSTHROUGH\"`",
        RuleKind::Tcp => "a server of protocol TCP, or of TLS where TLS ends",
    }
}

fn unserved(host: &HostAt, other: Option<RuleKind>, gateways: &[usize], drafts: &[GatewayDraft]) -> Problem {
    let mut message = format!("no server serves host `{}`", show(&host.value));
    if let Some(other) = other {
        message += &format!(" by the rules of the virtual service, only by `{}` rules", other.key());
    }
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

/// Servers that share a listening address must be of one family, and what comes in must find one server for its host.
/// Servers on port 0 get a port each, so they never clash.
fn check_listeners(gateways: &[GatewayDraft], problems: &mut Problems) {
    let mut claimed: HashMap<(u16, Option<IpAddr>, &HostPattern), (Place, usize)> = HashMap::new();
    let mut first_servers: HashMap<(u16, Option<IpAddr>), (&Server, Place)> = HashMap::new();
    for (index, draft) in gateways.iter().enumerate() {
        for (at, (server, hosts)) in draft.gateway.servers.iter().zip(&draft.hosts).enumerate() {
            let place = server_place(draft, at);
            if server.port != 0 {
                let first = *first_servers.entry((server.port, server.bind)).or_insert((server, place));
                if let Some(problem) = clash(first, (server, place)) {
                    problems.push(problem);
                    continue;
                }
            }
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

/// Why a server can not share the port of the first one there.
fn clash(first: (&Server, Place), other: (&Server, Place)) -> Option<Problem> {
    let ((first, first_place), (other, place)) = (first, other);
    if first_place == place {
        return None;
    }
    let port = other.port;
    let (message, expected) = match (first.protocol, other.protocol) {
        (Protocol::Http, Protocol::Http)
        | (Protocol::Https | Protocol::Tls, Protocol::Https | Protocol::Tls) => {
            if first.proxy_protocol == other.proxy_protocol {
                return None;
            }
            // The header comes before anything that tells two servers apart.
            let message = format!("the servers on port {port} differ in `proxy_protocol`");
            let problem =
                Problem::error("proxy-protocol-clash", place, message).related(first_place, "first here");
            return Some(problem.expected("the same `proxy_protocol`, or none, for all servers of a port"));
        }
        (Protocol::Tcp, Protocol::Tcp) => (
            format!("a second TCP server on port {port}"),
            "one: nothing tells the connections of two apart; `tcp` rules of virtual services divide them",
        ),
        (Protocol::Tcp, _) | (_, Protocol::Tcp) => (
            format!("a TCP server shares port {port} with another server"),
            "a port of its own for TCP: its connections begin with any bytes",
        ),
        _ => (
            format!("port {port} is to speak both HTTP in clear and TLS"),
            "HTTP alone on a port, or HTTPS and TLS together",
        ),
    };
    Some(
        Problem::error("protocol-clash", place, message)
            .related(first_place, "first here")
            .expected(expected),
    )
}

/// The hosts of a gateway's servers, by the kind of rules that decide there.
struct GatewayServed<'d> {
    kinds: [(RuleKind, Served<'d>); 3],
}

impl<'d> GatewayServed<'d> {
    fn of(draft: &'d GatewayDraft) -> Self {
        let kinds = RuleKind::ALL.map(|kind| {
            let servers = draft.gateway.servers.iter().zip(&draft.hosts);
            let hosts = servers.filter(|(server, _)| server.rule_kind() == kind).flat_map(|(_, hosts)| hosts);
            (kind, Served::of(hosts))
        });
        Self { kinds }
    }

    fn meets(&self, kind: RuleKind, host: &HostPattern) -> bool {
        self.kinds.iter().any(|(other, served)| *other == kind && served.meets(host))
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

    /// Whether one of the hosts covers all names that match `host`.
    pub(super) fn covers(&self, host: &HostPattern) -> bool {
        match host {
            _ if self.any => true,
            HostPattern::Any => false,
            HostPattern::Exact(name) => {
                self.exact.contains(name.as_ref()) || tails(name).any(|tail| self.suffixes.contains(tail))
            }
            HostPattern::Suffix(suffix) => tails(suffix).any(|tail| self.suffixes.contains(tail)),
        }
    }

    /// Whether any name matches both one of the hosts and `host`.
    pub(super) fn meets(&self, host: &HostPattern) -> bool {
        match host {
            _ if self.any => true,
            HostPattern::Any => !self.exact.is_empty() || !self.suffixes.is_empty(),
            HostPattern::Exact(_) => self.covers(host),
            HostPattern::Suffix(suffix) => self.tails.contains(suffix.as_ref()) || self.covers(host),
        }
    }
}
