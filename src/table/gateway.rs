//! What holds for every request of a gateway: limits, timers, path policy, trusted peers.
//!
//! Built with the table; read by `downstream` and `http1` while a request is parsed, and by `gateway` for
//! forwarding headers.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::config::model::{Gateway, Limits, PathPolicy, Timeouts};

/// A gateway as a shard uses it.
#[derive(Clone, Debug)]
pub struct GatewayTable {
    /// Name, for logs and metrics.
    pub name: Arc<str>,
    /// Bounds on what a client may send.
    pub limits: Limits,
    /// Timers on the client's side.
    pub timeouts: Timeouts,
    /// How paths are brought to their normal form.
    pub path: PathPolicy,
    trusted: TrustSet,
}

impl GatewayTable {
    pub(super) fn new(gateway: &Gateway) -> Self {
        Self {
            name: Arc::clone(&gateway.name),
            limits: gateway.limits.clone(),
            timeouts: gateway.timeouts.clone(),
            path: gateway.path,
            trusted: TrustSet::new(&gateway.trusted_proxies),
        }
    }

    /// Stands in for the gateway of a listener that the table does not have: default limits, nobody trusted.
    pub(super) fn fallback() -> Self {
        Self {
            name: Arc::from(""),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            path: PathPolicy::default(),
            trusted: TrustSet::default(),
        }
    }

    /// Whether the forwarding headers of this peer are believed.
    ///
    /// An IPv4 client of a dual-stack socket shows up as `::ffff:a.b.c.d`; it is looked up as `a.b.c.d`, and only
    /// there: `::/0` does not trust IPv4 peers.
    #[must_use]
    pub fn is_trusted(&self, peer: IpAddr) -> bool {
        self.trusted.contains(peer)
    }
}

/// Sets of addresses as sorted, disjoint, inclusive ranges: a lookup is a binary search.
#[derive(Clone, Debug, Default)]
struct TrustSet {
    v4: Vec<(u128, u128)>,
    v6: Vec<(u128, u128)>,
}

impl TrustSet {
    fn new(nets: &[IpNet]) -> Self {
        let mut set = Self::default();
        for net in nets {
            match (net.network().to_canonical(), net.broadcast().to_canonical()) {
                (IpAddr::V4(first), IpAddr::V4(last)) => {
                    set.v4.push((first.to_bits().into(), last.to_bits().into()));
                }
                _ => {
                    if let IpNet::V6(net) = net {
                        set.v6.push((net.network().to_bits(), net.broadcast().to_bits()));
                    }
                }
            }
        }
        set.v4 = joined(set.v4);
        set.v6 = joined(set.v6);
        set
    }

    fn contains(&self, peer: IpAddr) -> bool {
        let (ranges, address) = match peer.to_canonical() {
            IpAddr::V4(address) => (&self.v4, u128::from(address.to_bits())),
            IpAddr::V6(address) => (&self.v6, address.to_bits()),
        };
        let after = ranges.partition_point(|(first, _)| *first <= address);
        after.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|(_, last)| address <= *last)
    }
}

/// Sorts ranges and joins those that overlap.
fn joined(mut ranges: Vec<(u128, u128)>) -> Vec<(u128, u128)> {
    ranges.sort_unstable();
    let mut joined: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match joined.last_mut() {
            Some(previous) if first <= previous.1 => previous.1 = previous.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "literals")]
    use super::*;

    fn trusts(nets: &[&str], peer: &str) -> bool {
        let nets: Vec<IpNet> = nets.iter().map(|net| net.parse().unwrap()).collect();
        TrustSet::new(&nets).contains(peer.parse().unwrap())
    }

    #[test]
    fn nobody_is_trusted_by_default() {
        assert!(!trusts(&[], "127.0.0.1"));
        assert!(!trusts(&[], "::1"));
    }

    #[test]
    fn edges_of_ranges() {
        let nets = ["10.1.0.0/16", "10.1.2.0/24", "10.3.0.7/32", "2001:db8::/32"];
        for peer in ["10.1.0.0", "10.1.255.255", "10.3.0.7", "2001:db8::", "2001:db8:ffff::1"] {
            assert!(trusts(&nets, peer), "{peer}");
        }
        for peer in
            ["10.0.255.255", "10.2.0.0", "10.3.0.6", "10.3.0.8", "2001:db7::1", "2001:db9::", "0.0.0.0"]
        {
            assert!(!trusts(&nets, peer), "{peer}");
        }
    }

    #[test]
    fn families_meet_only_in_mapped_addresses() {
        assert!(trusts(&["10.0.0.0/8"], "::ffff:10.9.8.7"));
        assert!(trusts(&["::ffff:10.0.0.0/104"], "10.9.8.7"));
        assert!(!trusts(&["::/0"], "10.9.8.7"));
        assert!(!trusts(&["::/0"], "::ffff:10.9.8.7"));
        assert!(!trusts(&["0.0.0.0/0"], "::1"));
        assert!(!trusts(&["10.0.0.0/8"], "::10.9.8.7"));
    }
}
