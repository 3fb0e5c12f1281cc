//! Services that no route names, and servers whose hosts no virtual service has. Warnings only.
//!
//! Said only where all names that could lead there are known: after a misspelt one, "unused" is no news.

use std::collections::HashSet;

use crate::config::claims::Served;
use crate::config::diagnostic::{Problem, Problems};
use crate::config::drafts::{Drafts, HostAt, ServiceDraft, VirtualServiceDraft};
use crate::config::gateway::server_place;
use crate::config::lower::Linked;
use crate::config::model::{RuleKind, Server};

/// Warns of the services that are not among the indexes `used`.
pub(super) fn services(services: &[ServiceDraft], used: &HashSet<usize>, problems: &mut Problems) {
    let mut seen = HashSet::new();
    for (index, service) in services.iter().enumerate() {
        // A second one of a name is an error of its own.
        if service.name.is_empty() || !seen.insert(&service.name) || used.contains(&index) {
            continue;
        }
        let message = format!("no route leads to service `{}`", service.name);
        let hint =
            format!("name it in a route, `destination = {{ host = \"{}\" }}`, or remove it", service.name);
        problems.push(Problem::warning("unused-service", service.place, message).hint(hint));
    }
}

/// Warns of the servers that no virtual service of their gateway shares a host with.
pub(super) fn servers(drafts: &Drafts, linked: &[Linked], problems: &mut Problems) {
    let services = || drafts.virtual_services.iter().zip(linked);
    if drafts.damaged || services().any(|(draft, linked)| draft.broken || linked.lost) {
        return;
    }
    let mut behind: Vec<Vec<&VirtualServiceDraft>> = vec![Vec::new(); drafts.gateways.len()];
    for (draft, linked) in services() {
        for gateway in &linked.gateways {
            if let Some(behind) = behind.get_mut(*gateway) {
                behind.push(draft);
            }
        }
    }
    for (draft, behind) in drafts.gateways.iter().zip(behind) {
        let name = &draft.gateway.name;
        if name.is_empty() || draft.gateway.servers.is_empty() {
            continue;
        }
        let routed = |server: &Server| server.https_redirect.is_none();
        if behind.is_empty() {
            if !draft.gateway.servers.iter().any(routed) {
                continue;
            }
            let http = draft.gateway.servers.iter().any(|server| server.rule_kind() == RuleKind::Http);
            let so = if http { "answers every request with 404" } else { "refuses every connection" };
            let message = format!("no virtual service names gateway `{name}`: it {so}");
            let problem = Problem::warning("unused-gateway", draft.place, message);
            problems.push(problem.hint(format!("write `gateways = [\"{name}\"]` in a [[virtual_service]]")));
            continue;
        }
        let reached = RuleKind::ALL.map(|kind| {
            // Without a rule, which is an error of its own, a virtual service may be of any kind.
            let ruled = behind.iter().filter(|draft| {
                let service = &draft.virtual_service;
                service.has_rules(kind) || !RuleKind::ALL.into_iter().any(|kind| service.has_rules(kind))
            });
            (kind, Served::of(ruled.flat_map(|draft| &draft.hosts)))
        });
        for (at, (server, hosts)) in draft.gateway.servers.iter().zip(&draft.hosts).enumerate() {
            let kind = server.rule_kind();
            let meets =
                |host: &HostAt| reached.iter().any(|(of, reached)| *of == kind && reached.meets(&host.value));
            if hosts.is_empty() || !routed(server) || hosts.iter().any(meets) {
                continue;
            }
            let message = match kind {
                RuleKind::Http => {
                    "no virtual service has a host of this server: it answers every request with 404"
                        .to_owned()
                }
                RuleKind::Tls | RuleKind::Tcp => format!(
                    "no virtual service has `{}` rules for a host of this server: it refuses every connection",
                    kind.key()
                ),
            };
            let problem = Problem::warning("unreached-server", server_place(draft, at), message);
            problems.push(
                problem.expected(format!("a virtual service of gateway `{name}` for one of its hosts")),
            );
        }
    }
}
