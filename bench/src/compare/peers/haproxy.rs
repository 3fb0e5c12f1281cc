//! HAProxy: one thread per core, upstream connections reused always, no log; named hosts are a map file.

use std::fmt::Write as _;

use rustix::process::Signal;

use super::{ConfigFile, Hosts, Listening, Plan, Reload, Setup};
use crate::compare::edge::Edge;
use crate::compare::measure::ANY_HOST;

const FILE: &str = "haproxy.cfg";
const MAP: &str = "hosts.map";

pub(super) fn plan(setup: &Setup<'_>) -> Plan {
    let folder = setup.folder.display();
    let mut files = vec![ConfigFile { name: FILE.into(), text: config(setup) }];
    if let Hosts::Named(names) = setup.hosts {
        let mut map = String::new();
        for name in names {
            let _ = writeln!(map, "{name} app");
        }
        files.push(ConfigFile { name: MAP.into(), text: map });
    }
    // Foreground; a master only where it is needed, to start the next generation.
    let mode: &[&str] = if setup.reloads { &["-W", "-db"] } else { &["-db"] };
    let mut arguments: Vec<String> = mode.iter().map(|&argument| argument.to_owned()).collect();
    arguments.extend(["-f".into(), format!("{folder}/{FILE}")]);
    Plan { files, arguments, listening: Listening::OnGivenPort, reload: Reload::BySignal(Signal::USR2) }
}

fn config(setup: &Setup<'_>) -> String {
    let folder = setup.folder.display();
    // Over this socket the next generation takes over the listening sockets.
    let socket = if setup.reloads {
        format!("    stats socket {folder}/admin.sock mode 600 level admin expose-fd listeners\n")
    } else {
        String::new()
    };
    if !setup.edge.is_http() {
        return passthrough(setup);
    }
    let (secure, proto) = match setup.edge {
        Edge::Https => (format!(" ssl crt {} alpn http/1.1", setup.identity.both.display()), "https"),
        _ => (String::new(), "http"),
    };
    let choice = match setup.hosts {
        Hosts::Any => "    default_backend app\n".to_owned(),
        Hosts::Named(_) => format!(
            "    http-request set-var(txn.target) req.hdr(host),field(1,:),lower,map_str({folder}/{MAP})\n    \
             http-request return status 404 unless {{ var(txn.target) -m found }}\n    \
             use_backend %[var(txn.target)]\n"
        ),
    };
    // With buffers of the default 16 KiB, request bodies of that size cost it a third more.
    format!(
        r"global
    nbthread {threads}
    tune.bufsize 32768
    maxconn {connections}
{socket}
defaults
    mode http
    maxconn {connections}
    timeout connect 10s
    timeout client 300s
    timeout server 300s
    timeout http-request 60s
    timeout http-keep-alive 300s
    option http-keep-alive
    option forwardfor
    http-reuse always

frontend edge
    bind 127.0.0.1:{port} backlog 4096{secure}
    http-request set-header X-Forwarded-Proto {proto}
{choice}
backend app
    server one {upstream} pool-purge-delay 1h
",
        threads = setup.threads,
        connections = setup.connections + 256,
        port = setup.port,
        upstream = setup.upstream,
    )
}

fn passthrough(setup: &Setup<'_>) -> String {
    let choice = match setup.edge {
        Edge::Sni => format!(
            "    tcp-request inspect-delay 10s\n    tcp-request content accept if {{ req.ssl_hello_type 1 }}\n    \
             use_backend app if {{ req.ssl_sni -i {ANY_HOST} }}\n"
        ),
        _ => "    default_backend app\n".to_owned(),
    };
    format!(
        r"global
    nbthread {threads}
    maxconn {connections}
{buffer}
defaults
    mode tcp
    maxconn {connections}
    timeout connect 10s
    timeout client 1h
    timeout server 1h

frontend edge
    bind 127.0.0.1:{port} backlog 4096
{choice}
backend app
    server one {upstream}
",
        threads = setup.threads,
        connections = setup.connections + 256,
        // For large answers what costs it least; `option splice-auto` costs it as much or more.
        buffer = if setup.bulk { "    tune.bufsize 262144\n" } else { "" },
        port = setup.port,
        upstream = setup.upstream,
    )
}
