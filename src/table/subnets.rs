//! Sets of networks: trusted peers of a gateway, subnets in the conditions of connections.

use std::net::IpAddr;

use ipnet::IpNet;

/// Sets of addresses as sorted, disjoint, inclusive ranges: a lookup is a binary search.
#[derive(Clone, Debug, Default)]
pub(super) struct AddressSet {
    v4: Vec<(u128, u128)>,
    v6: Vec<(u128, u128)>,
}

impl AddressSet {
    pub(super) const fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    pub(super) fn new(nets: &[IpNet]) -> Self {
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

    /// An IPv4 address mapped into IPv6 is looked up as IPv4.
    pub(super) fn contains(&self, peer: IpAddr) -> bool {
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
        AddressSet::new(&nets).contains(peer.parse().unwrap())
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
