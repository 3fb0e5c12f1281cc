//! Lists of networks: `trusted_proxies`, and subnets of `match` blocks.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::diagnostic::{Problem, visible};
use crate::config::tree::{Reader, Table};

/// The networks under a key, their host bits cleared; a lone address is a network of one.
pub(super) fn read(reader: &mut Reader<'_>, table: &Table<'_>, key: &str, count_max: usize) -> Vec<IpNet> {
    let mut nets: Vec<IpNet> = Vec::new();
    for text in reader.strings(table, key, count_max) {
        let net = text.value.parse::<IpNet>().ok();
        match net.or_else(|| text.value.parse::<IpAddr>().ok().map(IpNet::from)) {
            Some(net) => nets.push(net.trunc()),
            None => {
                let message = format!("`{}` is not a network", visible(text.value));
                let problem = Problem::error("bad-address", text.place, message);
                reader.push(
                    problem.expected("a network such as `10.0.0.0/8` or `2001:db8::/32`, or an address"),
                );
            }
        }
    }
    nets
}
