//! Clusters and routes as a shard uses them: their settings and their rotors.
//!
//! The rotors are `Cell`s: a table belongs to one shard at a time.

use std::net::SocketAddr;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use crate::config::model::{Cluster, Destination, ForwardPath, HttpRoute, ProxyVersion, UpstreamTls};
use crate::upstream::balance::{RoundRobin, Tried};

/// A service, or a subset of one.
#[derive(Clone, Debug)]
pub struct ClusterTable {
    /// `service` or `service|subset`.
    pub name: Arc<str>,
    /// Its endpoints; `rotor` picks an index into them.
    pub endpoints: Vec<EndpointTable>,
    /// TLS towards them.
    pub tls: Option<Arc<UpstreamTls>>,
    /// Time for a connection to an endpoint, TLS included.
    pub connect_timeout: Duration,
    /// How long an idle connection stays in the pool.
    pub idle_timeout: Duration,
    /// Idle connections kept per endpoint and shard.
    pub idle_connections_max: u32,
    /// From the request's last byte to the response's first.
    pub first_byte_timeout: Duration,
    /// Between two arrivals of response body bytes, or two advances of a request body upstream.
    pub body_gap_timeout: Duration,
    /// A relayed connection without a byte in either direction.
    pub tcp_idle_timeout: Duration,
    /// A relayed connection in all.
    pub connection_duration_max: Option<Duration>,
    /// The PROXY protocol's header that each connection begins with.
    pub proxy_protocol: Option<ProxyVersion>,
    /// Whose turn it is.
    pub rotor: RoundRobin,
}

/// One address of a cluster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EndpointTable {
    /// Where to connect.
    pub address: SocketAddr,
    /// Share of the cluster's requests; 0 takes none.
    pub weight: u32,
}

impl ClusterTable {
    pub(super) fn new(cluster: &Cluster, offset: usize) -> Self {
        let weights: Vec<u32> = cluster.endpoints.iter().map(|endpoint| endpoint.weight).collect();
        Self {
            name: Arc::clone(&cluster.name),
            endpoints: cluster
                .endpoints
                .iter()
                .map(|endpoint| EndpointTable { address: endpoint.address, weight: endpoint.weight })
                .collect(),
            tls: cluster.tls.clone(),
            connect_timeout: cluster.connect_timeout,
            idle_timeout: cluster.idle_timeout,
            idle_connections_max: cluster.idle_connections_max,
            first_byte_timeout: cluster.first_byte_timeout,
            body_gap_timeout: cluster.body_gap_timeout,
            tcp_idle_timeout: cluster.tcp_idle_timeout,
            connection_duration_max: cluster.connection_duration_max,
            proxy_protocol: cluster.proxy_protocol,
            rotor: RoundRobin::new(&weights, offset),
        }
    }

    pub(super) fn with_offset(&self, offset: usize) -> Self {
        Self { rotor: self.rotor.with_offset(offset), ..self.clone() }
    }
}

/// A rule of a virtual service, once it has matched. 48 bytes: a table may hold a million.
#[derive(Clone, Debug)]
pub struct RouteTable {
    /// The rule's name, where the operator gave one.
    pub name: Option<Arc<str>>,
    destinations: Destinations,
    /// Which form of the path goes upstream.
    pub forward_path: ForwardPath,
}

/// Weighted destinations. Most routes have one: no allocation and no rotor for these.
#[derive(Clone, Debug)]
pub(super) enum Destinations {
    One(Destination),
    Several(Box<Split>),
}

#[derive(Clone, Debug)]
pub(super) struct Split {
    destinations: Arc<[Destination]>,
    rotor: RoundRobin,
}

impl Destinations {
    pub(super) fn new(route: &[Destination], offset: usize) -> Self {
        match route {
            [] => Self::One(Destination { cluster: usize::MAX, weight: 0 }),
            [only] => Self::One(*only),
            several => {
                let weights: Vec<u32> = several.iter().map(|destination| destination.weight).collect();
                let rotor = RoundRobin::new(&weights, offset);
                Self::Several(Box::new(Split { destinations: several.into(), rotor }))
            }
        }
    }

    pub(super) fn with_offset(&self, offset: usize) -> Self {
        let mut destinations = self.clone();
        if let Self::Several(split) = &mut destinations {
            split.rotor = split.rotor.with_offset(offset);
        }
        destinations
    }

    pub(super) fn as_slice(&self) -> &[Destination] {
        match self {
            Self::One(destination) => slice::from_ref(destination),
            Self::Several(split) => &split.destinations,
        }
    }

    #[inline]
    pub(super) fn pick_cluster(&self) -> usize {
        match self {
            Self::One(destination) => destination.cluster,
            Self::Several(split) => split
                .rotor
                .pick(&Tried::new())
                .and_then(|index| split.destinations.get(index))
                .map_or(usize::MAX, |destination| destination.cluster),
        }
    }
}

impl RouteTable {
    pub(super) fn new(route: &HttpRoute, offset: usize) -> Self {
        Self {
            name: route.name.clone(),
            destinations: Destinations::new(&route.route, offset),
            forward_path: route.forward_path,
        }
    }

    pub(super) fn with_offset(&self, offset: usize) -> Self {
        let destinations = self.destinations.with_offset(offset);
        Self { name: self.name.clone(), destinations, forward_path: self.forward_path }
    }

    /// The route's weighted destinations, as written.
    #[must_use]
    pub fn destinations(&self) -> &[Destination] {
        self.destinations.as_slice()
    }

    /// The cluster whose turn it is, an index into [`super::RoutingTable::clusters`]; over a cycle of the weights'
    /// sum each destination gets exactly its weight.
    ///
    /// A checked configuration has at least one destination of positive weight; without one the index is out of
    /// range, so look it up with `get`.
    #[inline]
    #[must_use]
    pub fn pick_cluster(&self) -> usize {
        self.destinations.pick_cluster()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::Origin;

    fn route(destinations: &[(usize, u32)]) -> HttpRoute {
        HttpRoute {
            name: None,
            matches: Vec::new(),
            route: destinations.iter().map(|&(cluster, weight)| Destination { cluster, weight }).collect(),
            forward_path: ForwardPath::Normalized,
            origin: Origin::default(),
        }
    }

    #[test]
    fn destinations_share_by_weight() {
        let table = RouteTable::new(&route(&[(4, 90), (2, 10), (9, 0)]), 3);
        for _ in 0..20 {
            let picks: Vec<_> = (0..10).map(|_| table.pick_cluster()).collect();
            let count = |cluster| picks.iter().filter(|&&pick| pick == cluster).count();
            assert_eq!((count(4), count(2), count(9)), (9, 1, 0));
        }
        assert_eq!(table.destinations().len(), 3);
    }

    #[test]
    fn shards_start_apart() {
        let first: Vec<_> =
            (0..4).map(|shard| RouteTable::new(&route(&[(0, 1), (1, 1)]), shard).pick_cluster()).collect();
        assert_eq!(first, [0, 1, 0, 1]);
        let base = RouteTable::new(&route(&[(0, 1), (1, 1)]), 0);
        assert_eq!([base.with_offset(1).pick_cluster(), base.with_offset(2).pick_cluster()], [1, 0]);
    }

    #[test]
    fn one_destination_is_always_it() {
        let table = RouteTable::new(&route(&[(7, 1)]), 5);
        assert!((0..5).all(|_| table.pick_cluster() == 7));
        assert!(size_of::<RouteTable>() <= 48);
    }

    #[test]
    fn no_weight_is_no_cluster() {
        assert_eq!(RouteTable::new(&route(&[]), 0).pick_cluster(), usize::MAX);
        assert_eq!(RouteTable::new(&route(&[(1, 0), (2, 0)]), 0).pick_cluster(), usize::MAX);
    }
}
