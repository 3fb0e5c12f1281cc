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
