//! From all drafts to the one [`Config`]: names, and what only the files together can show.
//!
//! Called by `config::load` after every file was lowered. Checks unique names, resolves gateways, services
//! and subsets, makes the clusters that routes use, and calls `claims` (hosts against servers) and `reach`
//! and `l4_reach` (rules that nothing reaches) and `unused` (services and servers that nothing reaches).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::config::diagnostic::{Problem, Problems};
use crate::config::drafts::{DestinationDraft, Drafts, ServiceDraft, SubsetDraft, VirtualServiceDraft};
use crate::config::model::{Cluster, Config, Destination, Process, VirtualService};
use crate::config::source::Place;
use crate::config::tree::At;
use crate::config::{claims, client_match, l4_reach, ports, reach, unused};

/// Checks the drafts against each other. The result is to be used only when no error was recorded.
pub(super) fn lower(drafts: Drafts, problems: &mut Problems) -> Config {
    let process = one_process(&drafts.processes, problems);
    let gateways = drafts.gateways.iter().map(|draft| (&draft.gateway.name, draft.place));
    let gateways = Names::of(gateways, "gateway", drafts.damaged, problems);
    let virtual_services =
        drafts.virtual_services.iter().map(|draft| (&draft.virtual_service.name, draft.place));
    Names::of(virtual_services, "virtual service", drafts.damaged, problems);
    let services = drafts.services.iter().map(|draft| (&draft.name, draft.place));
    let services = Names::of(services, "service", drafts.damaged, problems);

    let mut clusters = Clusters {
        services: &drafts.services,
        names: services,
        used: HashSet::new(),
        lost: drafts.damaged,
        made: HashMap::new(),
        list: Vec::new(),
    };
    let mut linked = Vec::with_capacity(drafts.virtual_services.len());
    for draft in &drafts.virtual_services {
        let (gateways, lost) = link_gateways(draft, &gateways, problems);
        linked.push(Linked { gateways, lost, destinations: clusters.link(draft, problems) });
    }
    if !clusters.lost {
        unused::services(&drafts.services, &clusters.used, problems);
    }
    warn_of_empty_subsets(&clusters, problems);
    drop(gateways);
    let clusters = clusters.list;

    claims::check(&drafts, &linked, problems);
    unused::servers(&drafts, &linked, problems);
    reach::check(&drafts.virtual_services, &linked, drafts.gateways.len(), problems);
    l4_reach::check(&drafts.virtual_services, problems);
    client_match::check(&drafts, &linked, problems);
    ports::check(&drafts, &linked, problems);

    let virtual_services = drafts.virtual_services.into_iter().zip(linked);
    Config {
        process,
        services: drafts.services.len(),
        endpoints: drafts.services.iter().map(|service| service.endpoints.len()).sum(),
        gateways: drafts.gateways.into_iter().map(|draft| draft.gateway).collect(),
        virtual_services: virtual_services.map(|(draft, linked)| linked.complete(draft)).collect(),
        clusters,
    }
}

/// The names of a virtual service as indexes.
pub(super) struct Linked {
    /// Indexes of gateways, each once.
    pub(super) gateways: Vec<usize>,
    /// Some gateway was not found.
    pub(super) lost: bool,
    destinations: Vec<Vec<Destination>>,
}

impl Linked {
    fn complete(self, draft: VirtualServiceDraft) -> VirtualService {
        let mut service = draft.virtual_service;
        service.gateways = self.gateways;
        service.hosts = draft.hosts.into_iter().map(|host| host.value).collect();
        let http = service.http.iter_mut().map(|rule| &mut rule.route);
        let l4 = service.tls.iter_mut().chain(&mut service.tcp).map(|rule| &mut rule.route);
        for (route, destinations) in http.chain(l4).zip(self.destinations) {
            *route = destinations;
        }
        service
    }
}

fn one_process(processes: &[At<Process>], problems: &mut Problems) -> Process {
    let Some((first, others)) = processes.split_first() else { return Process::default() };
    for other in others {
        let problem = Problem::error("duplicate-process", other.place, "a second [process] table");
        problems.push(problem.related(first.place, "first here").expected("[process] once in all files"));
    }
    first.value.clone()
}

/// Entries by name.
struct Names<'d> {
    indexes: HashMap<&'d str, usize>,
    /// Some entry's name could not be read, so an unknown name proves nothing.
    incomplete: bool,
}

impl<'d> Names<'d> {
    /// Every further entry of a name is an error. Entries whose name was refused have an empty one.
    fn of(
        entries: impl Iterator<Item = (&'d Arc<str>, Place)>,
        what: &str,
        damaged: bool,
        problems: &mut Problems,
    ) -> Self {
        let mut incomplete = damaged;
        let mut names: HashMap<&str, (usize, Place)> = HashMap::new();
        for (position, (name, place)) in entries.enumerate() {
            if name.is_empty() {
                incomplete = true;
            } else if let Some((_, first)) = names.get(name.as_ref()) {
                let problem = Problem::error("duplicate-name", place, format!("a second {what} `{name}`"));
                problems
                    .push(problem.related(*first, "first here").expected(format!("a name for each {what}")));
            } else {
                names.insert(name, (position, place));
            }
        }
        let indexes = names.into_iter().map(|(name, (position, _))| (name, position)).collect();
        Self { indexes, incomplete }
    }

    /// The index behind a name; an error when there is none.
    fn find(&self, name: &At<Arc<str>>, what: Kind, problems: &mut Problems) -> Option<usize> {
        let found = self.indexes.get(name.value.as_ref()).copied();
        if found.is_none() && !self.incomplete {
            let hint = problems.did_you_mean(&name.value, self.indexes.keys().copied());
            let message = format!("there is no {} `{}`", what.word, name.value);
            let problem = Problem::error(what.code, name.place, message);
            problems.push(problem.expected(format!("the name of a [[{}]]", what.word)).hint_if(hint));
        }
        found
    }
}

/// What a name is looked for among.
#[derive(Clone, Copy)]
struct Kind {
    word: &'static str,
    code: &'static str,
}

const GATEWAY: Kind = Kind { word: "gateway", code: "unknown-gateway" };
const SERVICE: Kind = Kind { word: "service", code: "unknown-service" };

/// The gateways of a virtual service, and whether there is one that was not found.
fn link_gateways(
    draft: &VirtualServiceDraft,
    gateways: &Names<'_>,
    problems: &mut Problems,
) -> (Vec<usize>, bool) {
    let mut linked: HashMap<usize, Place> = HashMap::new();
    let mut order = Vec::with_capacity(draft.gateways.len());
    let mut lost = false;
    for name in &draft.gateways {
        let Some(gateway) = gateways.find(name, GATEWAY, problems) else {
            lost = true;
            continue;
        };
        if let Some(first) = linked.insert(gateway, name.place) {
            let message = format!("gateway `{}` stands twice", name.value);
            problems
                .push(Problem::warning("duplicate-entry", name.place, message).related(first, "first here"));
        } else {
            order.push(gateway);
        }
    }
    (order, lost)
}

/// Subsets without endpoints that no route uses; those that a route uses are errors.
fn warn_of_empty_subsets(clusters: &Clusters<'_>, problems: &mut Problems) {
    for (index, service) in clusters.services.iter().enumerate() {
        for subset in &service.subsets {
            let used = clusters.made.contains_key(&(index, Some(subset.name.as_ref())));
            let empty = !service.endpoints.iter().any(|endpoint| subset.selects(endpoint));
            if !used && empty && !service.endpoints.is_empty() {
                let message = format!("subset `{}` selects no endpoint of `{}`", subset.name, service.name);
                let problem = Problem::warning("empty-subset", subset.place, message);
                problems.push(problem.expected("labels that at least one endpoint has, all of them"));
            }
        }
    }
}

/// Makes one cluster for each service and subset that a route uses.
struct Clusters<'d> {
    services: &'d [ServiceDraft],
    names: Names<'d>,
    /// Indexes of services that some route names.
    used: HashSet<usize>,
    /// Some destination could not be read or found, so that a service without a route proves nothing.
    lost: bool,
    /// By service and subset; `None` where the cluster could not be made and that was said.
    made: HashMap<(usize, Option<&'d str>), Option<usize>>,
    list: Vec<Cluster>,
}

impl<'d> Clusters<'d> {
    fn link(&mut self, draft: &'d VirtualServiceDraft, problems: &mut Problems) -> Vec<Vec<Destination>> {
        let mut routes = Vec::with_capacity(draft.rules.len());
        let service = &draft.virtual_service;
        let passing = service.http.len()..service.http.len() + service.tls.len();
        for (position, rule) in draft.rules.iter().enumerate() {
            self.lost |= rule.lost;
            let mut linked = Vec::with_capacity(rule.destinations.len());
            for destination in &rule.destinations {
                if let Some(cluster) = self.cluster(destination, problems) {
                    if passing.contains(&position) {
                        self.warn_of_double_tls(destination, cluster, problems);
                    }
                    linked.push(Destination { cluster, weight: destination.weight });
                }
            }
            routes.push(linked);
        }
        routes
    }

    /// It works, for an endpoint that takes one layer off and passes the other on. Most often it is a mistake.
    fn warn_of_double_tls(&self, destination: &DestinationDraft, cluster: usize, problems: &mut Problems) {
        let Some(cluster) = self.list.get(cluster).filter(|cluster| cluster.tls.is_some()) else { return };
        let message = format!("TLS that passes through to `{}` is encrypted a second time", cluster.name);
        let problem = Problem::warning("double-tls", destination.host.place, message);
        let hint = "a [[service]] without `tls` in its traffic policy passes it on as it is";
        problems.push(problem.hint(hint));
    }

    fn cluster(&mut self, destination: &'d DestinationDraft, problems: &mut Problems) -> Option<usize> {
        let Some(index) = self.names.find(&destination.host, SERVICE, problems) else {
            self.lost = true;
            return None;
        };
        self.used.insert(index);
        let service = self.services.get(index)?;
        let subset = match &destination.subset {
            Some(name) => Some(find_subset(service, name, problems)?),
            None => None,
        };
        let key = (index, subset.map(|subset| subset.name.as_ref()));
        if let Some(made) = self.made.get(&key) {
            return *made;
        }
        let used_at = destination.subset.as_ref().map_or(destination.host.place, |subset| subset.place);
        let cluster = make_cluster(service, subset, used_at, problems).map(|cluster| {
            self.list.push(cluster);
            self.list.len() - 1
        });
        self.made.insert(key, cluster);
        cluster
    }
}

fn find_subset<'d>(
    service: &'d ServiceDraft,
    name: &At<Arc<str>>,
    problems: &mut Problems,
) -> Option<&'d SubsetDraft> {
    let found = service.subsets.iter().find(|subset| subset.name == name.value);
    if found.is_none() && !service.subsets_incomplete {
        let hint =
            problems.did_you_mean(&name.value, service.subsets.iter().map(|subset| subset.name.as_ref()));
        let message = format!("service `{}` has no subset `{}`", service.name, name.value);
        let problem = Problem::error("unknown-subset", name.place, message);
        problems.push(problem.related(service.place, "the service").hint_if(hint));
    }
    found
}

fn make_cluster(
    service: &ServiceDraft,
    subset: Option<&SubsetDraft>,
    used_at: Place,
    problems: &mut Problems,
) -> Option<Cluster> {
    let name = match subset {
        Some(subset) => Arc::from(format!("{}|{}", service.name, subset.name)),
        None => Arc::clone(&service.name),
    };
    let selected =
        service.endpoints.iter().filter(|endpoint| subset.is_none_or(|subset| subset.selects(endpoint)));
    let endpoints: Vec<_> = selected.map(|endpoint| endpoint.endpoint.clone()).collect();
    // That a service has no endpoint at all was said where it stands.
    if !service.endpoints.is_empty() && endpoints.iter().all(|endpoint| endpoint.weight == 0) {
        let reason =
            if endpoints.is_empty() { "selects no endpoint" } else { "has only endpoints of weight 0" };
        let (place, what) = match subset {
            Some(subset) => (subset.place, "the subset"),
            None => (service.place, "the service"),
        };
        let problem = Problem::error("no-endpoints", used_at, format!("cluster `{name}` {reason}"));
        problems.push(problem.related(place, what).expected("at least one endpoint with a positive weight"));
        return None;
    }
    let policy = &service.policy;
    Some(Cluster {
        name,
        endpoints,
        tls: subset.and_then(|subset| subset.tls.clone()).unwrap_or_else(|| service.tls.clone()),
        connect_timeout: policy.connect_timeout,
        idle_timeout: policy.idle_timeout,
        idle_connections_max: policy.idle_connections_max,
        first_byte_timeout: policy.first_byte_timeout,
        body_gap_timeout: policy.body_gap_timeout,
        tcp_idle_timeout: policy.tcp_idle_timeout,
        connection_duration_max: policy.connection_duration_max,
        proxy_protocol: policy.proxy_protocol,
        origin: service.origin.clone(),
    })
}
