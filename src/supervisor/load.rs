//! Reads a configuration and builds every shard's table from it, on a helper thread: neither the shards nor the
//! supervisor wait for it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use super::event::{Event, EventSender};
use super::reload::Cause;
use crate::config::effective::Effective;
use crate::config::model::Process;
use crate::config::{self, Diagnostic};
use crate::shard::process::ProcessLimits;
use crate::table::{ListenerKey, RoutingTable, ServerName, listener_keys};

/// Where the configuration comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file, or a directory of `*.toml` files.
    Path(PathBuf),
    /// Text under a name, with the files that it may name; a reload reads the same again.
    Text {
        /// Name.
        name: PathBuf,
        /// TOML.
        text: Arc<str>,
        /// Certificates, keys.
        files: Arc<[(PathBuf, Vec<u8>)]>,
    },
}

impl Source {
    /// Reads and checks it, with `effective` in effect meanwhile.
    #[must_use]
    pub fn read(&self, effective: &Effective) -> config::Loaded {
        match self {
            Self::Path(path) => config::load_after(path, effective),
            Self::Text { name, text, files } => {
                config::load_text_with(&[(name.clone(), text.to_string())], files)
            }
        }
    }
}

/// A listener of a configuration.
#[derive(Clone, Debug)]
pub struct ListenerSpec {
    /// Address and port.
    pub key: ListenerKey,
    /// IP_FREEBIND.
    pub freebind: bool,
    /// The servers behind it.
    pub servers: Vec<ServerName>,
}

impl fmt::Display for ListenerSpec {
    /// Whose it is: `gateway edge, server 1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.servers.first() else { return f.write_str("no server") };
        write!(f, "gateway {}, server {}", first.gateway, first.server + 1)?;
        match self.servers.len() {
            0 | 1 => Ok(()),
            more => write!(f, ", and {} more", more - 1),
        }
    }
}

/// A built configuration.
pub struct Build {
    /// `[process]`.
    pub process: Process,
    /// What to listen on.
    pub listeners: Vec<ListenerSpec>,
    /// One table per shard.
    pub tables: Vec<Box<RoutingTable>>,
}

/// What loading came to.
pub struct Loaded {
    /// The generation it was built for.
    pub generation: u64,
    /// All problems, warnings included.
    pub diagnostics: Vec<Diagnostic>,
    /// What the next load starts from, unless this one comes to nothing.
    pub effective: Effective,
    /// What is to be done.
    pub outcome: Outcome,
}

/// What is to be done with what was loaded.
pub enum Outcome {
    /// It is to be put into effect.
    Built(Build),
    /// Nothing: it has errors.
    Errors,
    /// Nothing: it is in effect.
    Same,
}

/// Builds tables for `shards` shards from what was read; connections of gateways count in `limits`.
#[must_use]
pub fn build(read: config::Loaded, generation: u64, shards: usize, limits: &ProcessLimits) -> Loaded {
    let config::Loaded { config, diagnostics, effective } = read;
    let outcome = config.map_or(Outcome::Errors, |config| {
        let mut first = RoutingTable::build(&config, generation, 0);
        first.count_connections(|gateway| limits.gateway_connections(gateway));
        let others: Vec<_> = (1..shards).map(|shard| Box::new(first.for_shard(shard))).collect();
        let listeners = listener_keys(&config)
            .into_iter()
            .map(|(key, freebind, servers)| ListenerSpec { key, freebind, servers })
            .collect();
        let mut tables = vec![Box::new(first)];
        tables.extend(others);
        Outcome::Built(Build { process: config.process, listeners, tables })
    });
    Loaded { generation, diagnostics, effective, outcome }
}

/// Reads and builds on a thread of its own, with `effective` in effect meanwhile; the result comes as an event.
///
/// # Errors
/// When no thread can be started.
pub fn load_aside(
    cause: Cause,
    source: Source,
    effective: Effective,
    (generation, shards): (u64, usize),
    limits: Arc<ProcessLimits>,
    events: EventSender,
) -> io::Result<()> {
    let load = move || {
        let read = match cause {
            Cause::Asked => source.read(&effective),
            // The text may be half way to a change that nobody has asked for yet.
            Cause::Certificates => config::load_files(&effective),
        };
        if cause == Cause::Certificates && read.config.is_some() && read.effective.serves_as(&effective) {
            let config::Loaded { diagnostics, effective, .. } = read;
            return Loaded { generation, diagnostics, effective, outcome: Outcome::Same };
        }
        build(read, generation, shards, &limits)
    };
    thread::Builder::new().name("loader".into()).spawn(move || {
        let _ = events.send(Event::Loaded(Box::new(load())));
    })?;
    Ok(())
}
