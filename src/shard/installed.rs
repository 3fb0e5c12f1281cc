//! A routing table as a shard uses it: the immutable table, and the shard's own state of each endpoint beside it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use crate::config::model::UpstreamTls;
use crate::table::RoutingTable;
use crate::upstream::pool::Endpoint;

/// Tables whose last session has let go; the supervisor drops them, which may take long, away from the shard.
pub type Retired = Rc<RefCell<Vec<Box<RoutingTable>>>>;

/// An installed table. Sessions hold it for one request each.
pub struct Installed {
    table: Option<Box<RoutingTable>>,
    /// By cluster, then endpoint, as in the table.
    pub endpoints: Vec<Vec<Rc<Endpoint>>>,
    retired: Retired,
}

impl Installed {
    /// Puts a table to use: endpoints that `known` has keep their pooled connections.
    pub fn new(table: Box<RoutingTable>, known: &mut KnownEndpoints, retired: Retired) -> Self {
        let endpoints = table
            .clusters()
            .iter()
            .map(|cluster| {
                cluster
                    .endpoints
                    .iter()
                    .map(|endpoint| known.get(endpoint.address, cluster.tls.as_ref()))
                    .collect()
            })
            .collect();
        Self { table: Some(table), endpoints, retired }
    }

    /// The table.
    #[must_use]
    pub fn table(&self) -> &RoutingTable {
        self.table.as_deref().unwrap_or_else(|| unreachable!("the table leaves only when dropped"))
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        self.retired.borrow_mut().extend(self.table.take());
    }
}

/// The endpoints that some installed table still names, by address and by the way that TLS is spoken there: a pooled
/// connection made on other terms is none for this request.
#[derive(Default)]
pub struct KnownEndpoints {
    known: HashMap<(SocketAddr, Option<[u8; 32]>), Weak<Endpoint>>,
}

impl KnownEndpoints {
    fn get(&mut self, address: SocketAddr, tls: Option<&Arc<UpstreamTls>>) -> Rc<Endpoint> {
        let entry = self.known.entry((address, tls.map(|tls| tls.fingerprint))).or_default();
        entry.upgrade().unwrap_or_else(|| {
            let endpoint = Rc::new(Endpoint::new(address, tls));
            *entry = Rc::downgrade(&endpoint);
            endpoint
        })
    }

    /// Calls `visit` with each endpoint still named by a table and forgets the others.
    pub fn visit(&mut self, mut visit: impl FnMut(&Endpoint)) {
        self.known.retain(|_, endpoint| match endpoint.upgrade() {
            Some(endpoint) => {
                visit(&endpoint);
                true
            }
            None => false,
        });
    }
}
