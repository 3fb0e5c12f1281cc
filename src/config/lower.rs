//! From all drafts to the one [`Config`]: names, and what only the files together can show.
//!
//! Called by `config::load` after every file was lowered. Checks unique names, resolves gateways, services and
//! subsets, makes the clusters that routes use, and calls `claims` (hosts against servers) and `reach` (rules that
//! nothing reaches).

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::diagnostic::{Problem, Problems, visible};
use crate::config::drafts::{DestinationDraft, Drafts, ServiceDraft, VirtualServiceDraft};
use crate::config::model::{Cluster, Config, Destination, Process, VirtualService};
use crate::config::source::Place;
use crate::config::tree::At;
use crate::config::{claims, reach};

/// Checks the drafts against each other. The result is to be used only when no error was recorded.
pub(super) fn lower(drafts: Drafts, problems: &mut Problems) -> Config {
    let process = one_process(&drafts.processes, problems);
    let gateways =
        index(drafts.gateways.iter().map(|draft| (&draft.gateway.name, draft.place)), "gateway", problems);
    let virtual_services =
        drafts.virtual_services.iter().map(|draft| (&draft.virtual_service.name, draft.place));
    index(virtual_services, "virtual service", problems);
    let services = index(drafts.services.iter().map(|draft| (&draft.name, draft.place)), "service", problems);
    check_subsets(&drafts.services, problems);

    let mut clusters =
        Clusters { services: &drafts.services, index: services, made: HashMap::new(), list: Vec::new() };
    let mut linked = Vec::with_capacity(drafts.virtual_services.len());
    for draft in &drafts.virtual_services {
        linked.push(Linked {
            gateways: link_gateways(draft, &gateways, drafts.damaged, problems),
            destinations: clusters.link(draft, drafts.damaged, problems),
        });
    }
    drop(gateways);
    let clusters = clusters.list;

    claims::check(&drafts, &linked, problems);
    reach::check(&drafts.virtual_services, &linked, drafts.gateways.len(), problems);

    let virtual_services = drafts.virtual_services.into_iter().zip(linked);
    Config {
        process,
        gateways: drafts.gateways.into_iter().map(|draft| draft.gateway).collect(),
        virtual_services: virtual_services.map(|(draft, linked)| linked.complete(draft)).collect(),
        clusters,
    }
}

/// The names of a virtual service as indexes.
pub(super) struct Linked {
    /// Indexes of gateways, each once.
    pub(super) gateways: Vec<usize>,
    destinations: Vec<Vec<Destination>>,
}

impl Linked {
    fn complete(self, draft: VirtualServiceDraft) -> VirtualService {
        let mut service = draft.virtual_service;
        service.gateways = self.gateways;
        service.hosts = draft.hosts.into_iter().map(|host| host.value).collect();
        for (rule, destinations) in service.http.iter_mut().zip(self.destinations) {
            rule.route = destinations;
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

/// Entries by name; every further entry of a name is an error. Entries whose name was refused have an empty one.
fn index<'d>(
    entries: impl Iterator<Item = (&'d Arc<str>, Place)>,
    what: &str,
    problems: &mut Problems,
) -> HashMap<&'d str, usize> {
    let mut names: HashMap<&str, (usize, Place)> = HashMap::new();
    for (position, (name, place)) in entries.enumerate() {
        if name.is_empty() {
            continue;
        }
        if let Some((_, first)) = names.get(name.as_ref()) {
            let problem = Problem::error("duplicate-name", place, format!("a second {what} `{name}`"));
            problems.push(problem.related(*first, "first here").expected(format!("a name for each {what}")));
        } else {
            names.insert(name, (position, place));
        }
    }
    names.into_iter().map(|(name, (position, _))| (name, position)).collect()
}

/// Warns of subsets without endpoints; one that a route uses becomes an error when its cluster is made.
fn check_subsets(services: &[ServiceDraft], problems: &mut Problems) {
    for service in services {
        for subset in &service.subsets {
            if !service.endpoints.is_empty()
                && !service.endpoints.iter().any(|endpoint| subset.selects(endpoint))
            {
                let message = format!("subset `{}` selects no endpoint of `{}`", subset.name, service.name);
                let problem = Problem::warning("empty-subset", subset.place, message);
                problems.push(problem.expected("labels that at least one endpoint has, all of them"));
            }
        }
    }
}

fn link_gateways(
    draft: &VirtualServiceDraft,
    gateways: &HashMap<&str, usize>,
    damaged: bool,
    problems: &mut Problems,
) -> Vec<usize> {
    let mut linked: HashMap<usize, Place> = HashMap::new();
    let mut order = Vec::with_capacity(draft.gateways.len());
    for name in &draft.gateways {
        let Some(&gateway) = gateways.get(name.value.as_ref()) else {
            if !damaged {
                let hint = problems.did_you_mean(&name.value, gateways.keys().copied());
                let message = format!("there is no gateway `{}`", name.value);
                let problem = Problem::error("unknown-gateway", name.place, message);
                problems.push(problem.expected("the name of a [[gateway]]").hint_if(hint));
            }
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
    order
}

/// Makes one cluster for each service and subset that a route uses.
struct Clusters<'d> {
    services: &'d [ServiceDraft],
    index: HashMap<&'d str, usize>,
    /// By service and subset; `None` where the cluster could not be made and that was said.
    made: HashMap<(usize, Option<&'d str>), Option<usize>>,
    list: Vec<Cluster>,
}

impl<'d> Clusters<'d> {
    fn link(
        &mut self,
        draft: &'d VirtualServiceDraft,
        damaged: bool,
        problems: &mut Problems,
    ) -> Vec<Vec<Destination>> {
        let mut routes = Vec::with_capacity(draft.routes.len());
        for (_, destinations) in &draft.routes {
            let mut linked: Vec<Destination> = Vec::with_capacity(destinations.len());
            for destination in destinations {
                if let Some(cluster) = self.cluster(destination, damaged, problems) {
                    linked.push(Destination { cluster, weight: destination.weight });
                }
            }
            routes.push(linked);
        }
        routes
    }

    fn cluster(
        &mut self,
        destination: &'d DestinationDraft,
        damaged: bool,
        problems: &mut Problems,
    ) -> Option<usize> {
        let host = &destination.host;
        let Some(&service) = self.index.get(host.value.as_ref()) else {
            if !damaged {
                let hint = problems.did_you_mean(&host.value, self.index.keys().copied());
                let message = format!("there is no service `{}`", host.value);
                let problem = Problem::error("unknown-service", host.place, message);
                problems.push(problem.expected("the name of a [[service]]").hint_if(hint));
            }
            return None;
        };
        let subset = destination.subset.as_ref();
        let key = (service, subset.map(|subset| subset.value.as_ref()));
        if let Some(made) = self.made.get(&key) {
            // An unknown subset is said at each place, like every other unknown name.
            if made.is_some() || subset.is_none() {
                return *made;
            }
        }
        let cluster = self.make(service, subset, damaged, problems).map(|cluster| {
            self.list.push(cluster);
            self.list.len() - 1
        });
        self.made.insert(key, cluster);
        cluster
    }

    fn make(
        &self,
        service: usize,
        subset: Option<&At<Arc<str>>>,
        damaged: bool,
        problems: &mut Problems,
    ) -> Option<Cluster> {
        let service = self.services.get(service)?;
        let (name, used_at, labels) = match subset {
            None => (Arc::clone(&service.name), service.place, None),
            Some(wanted) => {
                let Some(subset) = service.subsets.iter().find(|subset| subset.name == wanted.value) else {
                    if !damaged {
                        let names = service.subsets.iter().map(|subset| subset.name.as_ref());
                        let hint = problems.did_you_mean(&wanted.value, names);
                        let message =
                            format!("service `{}` has no subset `{}`", service.name, visible(&wanted.value));
                        let problem = Problem::error("unknown-subset", wanted.place, message);
                        problems.push(problem.related(service.place, "the service").hint_if(hint));
                    }
                    return None;
                };
                (Arc::from(format!("{}|{}", service.name, subset.name)), wanted.place, Some(subset))
            }
        };
        let selected =
            service.endpoints.iter().filter(|endpoint| labels.is_none_or(|subset| subset.selects(endpoint)));
        let endpoints: Vec<_> = selected.map(|endpoint| endpoint.endpoint.clone()).collect();
        // A service without any endpoint was already refused.
        if !service.endpoints.is_empty() && endpoints.iter().all(|endpoint| endpoint.weight == 0) {
            let reason =
                if endpoints.is_empty() { "selects no endpoint" } else { "has only endpoints of weight 0" };
            let problem = Problem::error("no-endpoints", used_at, format!("cluster `{name}` {reason}"));
            let problem = match labels {
                Some(subset) => problem.related(subset.place, "the subset"),
                None => problem,
            };
            problems.push(problem.expected("at least one endpoint with a positive weight"));
            return None;
        }
        let policy = &service.policy;
        Some(Cluster {
            name,
            endpoints,
            connect_timeout: policy.connect_timeout,
            idle_timeout: policy.idle_timeout,
            idle_connections_max: policy.idle_connections_max,
            first_byte_timeout: policy.first_byte_timeout,
            body_gap_timeout: policy.body_gap_timeout,
            origin: service.origin.clone(),
        })
    }
}
