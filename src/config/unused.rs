//! Services that no route names, and servers whose hosts no virtual service has. Warnings only.
//!
//! Said only where all names that could lead there are known: after a misspelt one, "unused" is no news.

use std::collections::HashSet;

use crate::config::claims::Served;
use crate::config::diagnostic::{Problem, Problems};
use crate::config::drafts::{Drafts, ServiceDraft, VirtualServiceDraft};
use crate::config::gateway::server_place;
use crate::config::lower::Linked;

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
        if behind.is_empty() {
            let message =
                format!("no virtual service names gateway `{name}`: it answers every request with 404");
            let problem = Problem::warning("unused-gateway", draft.place, message);
            problems.push(problem.hint(format!("write `gateways = [\"{name}\"]` in a [[virtual_service]]")));
            continue;
        }
        let reached = Served::of(behind.iter().flat_map(|draft| &draft.hosts));
        for (server, hosts) in draft.hosts.iter().enumerate() {
            if hosts.is_empty() || hosts.iter().any(|host| reached.meets(&host.value)) {
                continue;
            }
            let message = "no virtual service has a host of this server: it answers every request with 404";
            let problem = Problem::warning("unreached-server", server_place(draft, server), message);
            problems.push(
                problem.expected(format!("a virtual service of gateway `{name}` for one of its hosts")),
            );
        }
    }
}
