//! Ports in `match` blocks that no server of the virtual service's gateways has. Warnings only.

use std::sync::Arc;

use crate::config::diagnostic::{Problem, Problems};
use crate::config::drafts::Drafts;
use crate::config::lower::Linked;
use crate::config::model::{Gateway, HttpMatch, L4Match};

/// Checks the rules whose conditions and gateways are known.
pub(super) fn check(drafts: &Drafts, linked: &[Linked], problems: &mut Problems) {
    if drafts.damaged {
        return;
    }
    for (draft, linked) in drafts.virtual_services.iter().zip(linked).filter(|(_, linked)| !linked.lost) {
        let gateways: Vec<&Gateway> = linked
            .gateways
            .iter()
            .filter_map(|gateway| drafts.gateways.get(*gateway))
            .map(|draft| &draft.gateway)
            .collect();
        let service = &draft.virtual_service;
        let http = service.http.iter().map(|rule| {
            let of = |block: &HttpMatch| unserved(&gateways, block.port, &block.gateways);
            rule.matches.iter().find_map(of)
        });
        let l4 = service.tls.iter().chain(&service.tcp).map(|rule| {
            let of = |block: &L4Match| unserved(&gateways, block.port, &block.gateways);
            rule.matches.iter().find_map(of)
        });
        for (port, rule) in http.chain(l4).zip(&draft.rules) {
            if let Some(port) = port.filter(|_| !rule.broken) {
                let message = format!("the rule asks for port {port}, which no server of its gateways has");
                let problem = Problem::warning("unserved-port", rule.place, message);
                problems.push(problem.expected(ports(&gateways)));
            }
        }
    }
}

/// The port of a block, where no server has it. One that could not be read, or that the kernel chooses, is 0.
fn unserved(gateways: &[&Gateway], port: Option<u16>, named: &[Arc<str>]) -> Option<u16> {
    let port = port?;
    let asked = |gateway: &&&Gateway| named.is_empty() || named.contains(&gateway.name);
    let mut servers = gateways.iter().filter(asked).flat_map(|gateway| &gateway.servers).peekable();
    servers.peek()?;
    (!servers.any(|server| server.port == port || server.port == 0)).then_some(port)
}

fn ports(gateways: &[&Gateway]) -> String {
    let mut ports: Vec<u16> =
        gateways.iter().flat_map(|gateway| &gateway.servers).map(|server| server.port).collect();
    ports.sort_unstable();
    ports.dedup();
    let shown: Vec<String> = ports.iter().take(10).map(|port| format!("`port = {port}`")).collect();
    let more = if ports.len() > shown.len() { ", .." } else { "" };
    format!("the port of a server: {}{more}", shown.join(", "))
}
