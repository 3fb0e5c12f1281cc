//! Connections: what a listener's are before their first byte, which server an SNI name leads to, and where the bytes of
//! a connection go.
//!
//! The session asks in this order: [`RoutingTable::entry`]; for TLS [`RoutingTable::sni`], which is one look-up by hash
//! however many names there are, for TCP [`RoutingTable::tcp`]; then [`RoutingTable::l4_route`] with the rules that came
//! of it. Ports are settled when the table is built, SNI hosts by the name that was found: what is left of a rule's
//! conditions are the subnets.

use std::net::IpAddr;
use std::sync::Arc;

use super::cluster::Destinations;
use super::gateway::GatewayTable;
use super::host::{Host, HostRules};
use super::server::ServerTable;
use super::subnets::AddressSet;
use super::{ListenerId, RoutingTable};
use crate::config::model::{Destination, L4Match, L4Route, ServerTls, TlsTerms};

/// What the connections of a listener are, before their first byte.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Entry {
    /// HTTP in clear text.
    Http,
    /// Anything.
    Tcp,
    /// TLS: the name in the ClientHello decides.
    Tls,
}

/// Where the SNI of a connection leads.
#[derive(Clone, Copy, Debug)]
pub enum Sni<'t> {
    /// To an endpoint, as it is.
    Passthrough {
        /// The gateway that the name belongs to.
        gateway: &'t GatewayTable,
        /// What decides further.
        rules: L4Rules,
    },
    /// To the end of TLS, here.
    Terminate {
        /// The gateway that the name belongs to.
        gateway: &'t GatewayTable,
        /// Its server; requests of the connection are to name only hosts of servers with the same TLS terms.
        server: &'t ServerTable,
        /// How TLS ends.
        terms: &'t Arc<TlsTerms>,
        /// What decides further for a server of protocol TLS; empty for HTTPS, where each request is routed.
        rules: L4Rules,
    },
    /// No server of the listener has the name; without a name, none has `*`.
    Unknown,
}

/// The rules of a host, or of a TCP listener, in order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct L4Rules {
    first: u32,
    count: u32,
}

impl L4Rules {
    /// Matches nothing.
    pub(super) const EMPTY: Self = Self { first: 0, count: 0 };
}

/// A rule for connections, once it has matched.
#[derive(Clone, Debug)]
pub struct L4RouteTable {
    destinations: Destinations,
}

impl L4RouteTable {
    pub(super) fn new(route: &L4Route, offset: usize) -> Self {
        Self { destinations: Destinations::new(&route.route, offset) }
    }

    pub(super) fn with_offset(&self, offset: usize) -> Self {
        Self { destinations: self.destinations.with_offset(offset) }
    }

    /// The rule's weighted destinations, as written.
    #[must_use]
    pub fn destinations(&self) -> &[Destination] {
        self.destinations.as_slice()
    }

    /// The cluster whose turn it is; see [`super::RouteTable::pick_cluster`].
    #[must_use]
    pub fn pick_cluster(&self) -> usize {
        self.destinations.pick_cluster()
    }
}

/// The rules of all hosts and TCP listeners.
#[derive(Debug, Default)]
pub(super) struct L4Index {
    pub(super) entries: Vec<L4Entry>,
    subnets: Vec<Subnets>,
}

/// A `match` block of a rule.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct L4Entry {
    /// Index into the table's rules for connections.
    pub(super) route: u32,
    /// Index into the subnets, or [`NO_SUBNETS`].
    subnets: u32,
}

const NO_SUBNETS: u32 = u32::MAX;

#[derive(Debug)]
struct Subnets {
    destination: AddressSet,
    source: AddressSet,
}

impl L4Entry {
    /// Whether no later entry is ever reached.
    pub(super) const fn takes_all(self) -> bool {
        self.subnets == NO_SUBNETS
    }

    /// The entry of a rule without a block.
    pub(super) const fn of_rule(route: u32) -> Self {
        Self { route, subnets: NO_SUBNETS }
    }
}

impl L4Index {
    /// The entry of a block.
    pub(super) fn entry(&mut self, route: u32, block: &L4Match) -> L4Entry {
        if block.destination_subnets.is_empty() && block.source_subnets.is_empty() {
            return L4Entry::of_rule(route);
        }
        self.subnets.push(Subnets {
            destination: AddressSet::new(&block.destination_subnets),
            source: AddressSet::new(&block.source_subnets),
        });
        L4Entry { route, subnets: self.subnets.len() as u32 - 1 }
    }

    /// Lays a list of entries down.
    pub(super) fn add(&mut self, entries: &[L4Entry]) -> L4Rules {
        let first = self.entries.len() as u32;
        self.entries.extend_from_slice(entries);
        L4Rules { first, count: entries.len() as u32 }
    }

    /// The first entry that matches.
    fn find(&self, rules: L4Rules, source: IpAddr, destination: impl Fn() -> Option<IpAddr>) -> Option<u32> {
        let first = rules.first as usize;
        let entries = self.entries.get(first..first + rules.count as usize)?;
        let mut known = None;
        let holds = |entry: &&L4Entry| {
            let Some(subnets) = self.subnets.get(entry.subnets as usize) else { return entry.takes_all() };
            let to = || {
                let address = *known.get_or_insert_with(&destination);
                address.is_some_and(|address| subnets.destination.contains(address))
            };
            (subnets.source.is_empty() || subnets.source.contains(source))
                && (subnets.destination.is_empty() || { to }())
        };
        entries.iter().find(holds).map(|entry| entry.route)
    }
}

impl RoutingTable {
    /// What a listener's connections are; HTTP for a listener that the table does not have.
    #[must_use]
    pub fn entry(&self, listener: ListenerId) -> Entry {
        self.shared.listeners.get(usize::from(listener.0)).map_or(Entry::Http, |listener| listener.entry)
    }

    /// Where a connection to a TLS listener goes by the name in its ClientHello: exact, then the longest wildcard, then
    /// `*`; without a name only `*`.
    #[must_use]
    pub fn sni(&self, listener: ListenerId, name: Option<&str>) -> Sni<'_> {
        self.find_sni(listener, name).unwrap_or(Sni::Unknown)
    }

    fn find_sni(&self, listener: ListenerId, name: Option<&str>) -> Option<Sni<'_>> {
        let shared = &*self.shared;
        let hosts = &shared.listeners.get(usize::from(listener.0))?.hosts;
        let found = match name {
            Some(name) => hosts.find(&Host::from_sni(name)?, &shared.texts)?,
            None => hosts.any()?,
        };
        let server = shared.servers.get(found.server as usize)?;
        let gateway = shared.gateways.get(server.gateway as usize)?;
        let rules = match found.rules {
            HostRules::L4(rules) => rules,
            HostRules::Http(_) => L4Rules::EMPTY,
        };
        Some(match server.tls.as_ref()? {
            ServerTls::Passthrough => Sni::Passthrough { gateway, rules },
            ServerTls::Terminate(terms) => Sni::Terminate { gateway, server, terms, rules },
        })
    }

    /// The rules of a TCP listener.
    #[must_use]
    pub fn tcp(&self, listener: ListenerId) -> L4Rules {
        self.shared.listeners.get(usize::from(listener.0)).map_or(L4Rules::EMPTY, |listener| listener.tcp)
    }

    /// The first rule that matches a connection from `source`. The address it came to is asked for only where a rule
    /// looks at it.
    #[must_use]
    pub fn l4_route(
        &self,
        rules: L4Rules,
        source: IpAddr,
        destination: impl Fn() -> Option<IpAddr>,
    ) -> Option<&L4RouteTable> {
        let route = self.shared.layer4.find(rules, source, destination)?;
        self.l4_routes.get(route as usize)
    }
}
