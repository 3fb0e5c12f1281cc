//! What the files say before names are resolved: one draft per entry, with places for the checks across
//! files.
//!
//! `gateway`, `virtual_service` and `service` make drafts, one file after the other, so that each file's tree
//! is freed before the next is parsed; `lower` checks them against each other and makes the `Config`.

use std::sync::Arc;

use crate::config::diagnostic::{Problem, visible};
use crate::config::host::{self, HOST_FORM};
use crate::config::model::{Endpoint, Gateway, HostPattern, Origin, Process, UpstreamTls, VirtualService};
use crate::config::service::ClusterPolicy;
use crate::config::source::Place;
use crate::config::tree::{At, Reader, Table};

/// Bytes of a name of a gateway, service, subset, virtual service or route.
const NAME_BYTES_MAX: usize = 253;

/// Hosts of one server or virtual service.
const HOSTS_MAX: usize = 1_000_000;

/// A host with its place.
pub(super) type HostAt = At<HostPattern>;

/// Everything that all files say.
#[derive(Debug, Default)]
pub(super) struct Drafts {
    pub(super) processes: Vec<At<Process>>,
    pub(super) gateways: Vec<GatewayDraft>,
    pub(super) virtual_services: Vec<VirtualServiceDraft>,
    pub(super) services: Vec<ServiceDraft>,
    /// Some file did not parse or could not be read: names may be missing that the operator wrote.
    pub(super) damaged: bool,
}

/// A gateway, complete; the places are those of its name, servers and their hosts.
#[derive(Debug)]
pub(super) struct GatewayDraft {
    pub(super) gateway: Gateway,
    pub(super) place: Place,
    pub(super) server_places: Vec<Place>,
    pub(super) hosts: Vec<Vec<HostAt>>,
}

/// A virtual service whose gateways and destinations are still names.
#[derive(Debug)]
pub(super) struct VirtualServiceDraft {
    pub(super) virtual_service: VirtualService,
    pub(super) place: Place,
    pub(super) hosts: Vec<HostAt>,
    pub(super) gateways: Vec<At<Arc<str>>>,
    /// Its hosts or gateways hold an error: there may be more of them.
    pub(super) broken: bool,
    /// One for each rule of `virtual_service.http`, then of `tls`, then of `tcp`.
    pub(super) rules: Vec<RuleDraft>,
}

/// What a rule has beside its `HttpRoute` or `L4Route`.
#[derive(Debug)]
pub(super) struct RuleDraft {
    pub(super) place: Place,
    pub(super) destinations: Vec<DestinationDraft>,
    /// There are destinations that could not be read.
    pub(super) lost: bool,
    /// Its conditions hold an error: what it would match is not known.
    pub(super) broken: bool,
}

/// A destination by name.
#[derive(Debug)]
pub(super) struct DestinationDraft {
    pub(super) host: At<Arc<str>>,
    pub(super) subset: Option<At<Arc<str>>>,
    pub(super) weight: u32,
}

/// A service, of which routes make clusters.
#[derive(Debug)]
pub(super) struct ServiceDraft {
    pub(super) name: Arc<str>,
    pub(super) place: Place,
    pub(super) endpoints: Vec<EndpointDraft>,
    pub(super) subsets: Vec<SubsetDraft>,
    /// Some subset's name could not be read.
    pub(super) subsets_incomplete: bool,
    pub(super) policy: ClusterPolicy,
    pub(super) tls: Option<Arc<UpstreamTls>>,
    pub(super) origin: Origin,
}

/// Labels, sorted by name.
pub(super) type Labels = Vec<(Box<str>, Box<str>)>;

/// An endpoint with its labels.
#[derive(Debug)]
pub(super) struct EndpointDraft {
    pub(super) endpoint: Endpoint,
    pub(super) labels: Labels,
}

/// A subset: the endpoints that have all of its labels.
#[derive(Debug)]
pub(super) struct SubsetDraft {
    pub(super) name: Arc<str>,
    pub(super) place: Place,
    pub(super) labels: Labels,
    /// Where it has a policy of its own on TLS: that, instead of its service's.
    pub(super) tls: Option<Option<Arc<UpstreamTls>>>,
}

impl SubsetDraft {
    /// Whether an endpoint belongs to the subset.
    pub(super) fn selects(&self, endpoint: &EndpointDraft) -> bool {
        self.labels.iter().all(|label| endpoint.labels.binary_search(label).is_ok())
    }
}

/// The `name` of an entry, required.
pub(super) fn name(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<At<Arc<str>>> {
    reader.missing(table, "name", "a name, for example `name = \"web\"`");
    optional_name(reader, table, "name")
}

/// A name under any key.
pub(super) fn optional_name(reader: &mut Reader<'_>, table: &Table<'_>, key: &str) -> Option<At<Arc<str>>> {
    let text = reader.string(table, key)?;
    check_name(reader, key, text).then(|| At { value: Arc::from(text.value), place: text.place })
}

/// Whether a text may be a name; records a problem when not. Names stand in logs, metrics and, joined by `|`,
/// in clusters' names, so they are printable ASCII without separators.
pub(super) fn check_name(reader: &mut Reader<'_>, key: &str, text: At<&str>) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:".contains(&byte);
    let good = !text.value.is_empty() && text.value.len() <= NAME_BYTES_MAX && text.value.bytes().all(plain);
    if !good {
        let message = format!("`{}` is not a valid `{key}`", visible(text.value));
        let expected = format!("1 to {NAME_BYTES_MAX} letters, digits and `-_./:`");
        reader.push(Problem::error("bad-name", text.place, message).expected(expected));
    }
    good
}

/// The `hosts` of a server or virtual service, required.
pub(super) fn read_hosts(reader: &mut Reader<'_>, table: &Table<'_>, example: &str) -> Vec<HostAt> {
    read_hosts_of(reader, table, "hosts", example)
}

/// The hosts under any key, required.
pub(super) fn read_hosts_of(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    key: &str,
    example: &str,
) -> Vec<HostAt> {
    let mut hosts = Vec::new();
    for text in reader.strings(table, key, HOSTS_MAX) {
        match host::parse(text.value) {
            Ok(value) => hosts.push(At { value, place: text.place }),
            Err(bad) => {
                let problem = Problem::error("bad-host", text.place, bad.message).expected(HOST_FORM);
                reader.push(problem.hint_if(bad.hint));
            }
        }
    }
    reader.missing_or_empty(table, key, example);
    hosts
}
