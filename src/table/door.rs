//! Where a connection comes in, as `match` blocks ask for it. Settled when the table is built.

use std::sync::Arc;

use hashbrown::HashMap;

use super::texts::Hasher;
use crate::config::model::{Config, VirtualService};

/// A server's port and the name of its gateway.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Door<'c> {
    pub(super) port: u16,
    pub(super) gateway: &'c str,
}

impl Door<'_> {
    /// Whether a block with these `port` and `gateways` holds here.
    pub(super) fn admits(self, port: Option<u16>, gateways: &[Arc<str>]) -> bool {
        port.is_none_or(|wanted| wanted == self.port)
            && (gateways.is_empty() || gateways.iter().any(|name| **name == *self.gateway))
    }
}

/// The doors that `http` rules ask for.
pub(super) struct Doors<'c> {
    /// For each virtual service, whether some rule does.
    asked_by: Vec<bool>,
    numbers: HashMap<Door<'c>, u32, Hasher>,
}

impl<'c> Doors<'c> {
    pub(super) fn of(config: &Config) -> Self {
        let asks = |service: &VirtualService| {
            let mut blocks = service.http.iter().flat_map(|rule| &rule.matches);
            blocks.any(|block| block.port.is_some() || !block.gateways.is_empty())
        };
        let asked_by = config.virtual_services.iter().map(asks).collect();
        Self { asked_by, numbers: HashMap::default() }
    }

    /// Whether a virtual service has such rules.
    pub(super) fn asks(&self, service: u32) -> bool {
        self.asked_by.get(service as usize) == Some(&true)
    }

    pub(super) fn number(&mut self, door: Door<'c>) -> u32 {
        let next = self.numbers.len() as u32;
        *self.numbers.entry(door).or_insert(next)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use super::super::testing::{Request, block, gateway, rule, server, service};
    use super::super::{ListenerId, RoutingTable, Selection};
    use crate::config::model::{Config, HttpMatch};

    /// A block holds at its gateways and ports; a rule of which no block does is no rule for everything.
    #[test]
    fn rules_by_door() {
        let at = |port: Option<u16>, gateways: &[&str]| HttpMatch {
            port,
            gateways: gateways.iter().map(|name| (*name).into()).collect(),
            ..block("^/a", "", &[])
        };
        let rules = vec![
            rule("b", vec![at(None, &["b"])]),
            rule("81", vec![at(Some(81), &[])]),
            rule("a80", vec![at(Some(80), &["a"]), at(Some(79), &["a", "b"])]),
        ];
        let config = Config {
            gateways: vec![
                gateway("a", vec![server(80, &["a.test"]), server(81, &["*"])]),
                gateway("b", vec![server(80, &["b.test"])]),
                gateway("c", vec![server(80, &["c.test"])]),
            ],
            virtual_services: vec![service("all", &["*"], &[0, 1, 2], rules)],
            ..Config::default()
        };
        let table = RoutingTable::build(&config, 1, 0);
        let pick = |listener: u16, host: &str| {
            let request = Request::get("/a").host(host);
            match table.select(ListenerId(listener), &request.facts()) {
                Selection::Route { route, .. } => route.name.as_deref().unwrap().to_owned(),
                Selection::NoRoute { .. } => "-".to_owned(),
                Selection::UnknownHost => "unknown".to_owned(),
            }
        };
        assert_eq!([pick(0, "a.test"), pick(0, "b.test"), pick(0, "c.test")], ["a80", "b", "-"]);
        assert_eq!(pick(1, "any.test"), "81");
    }
}
