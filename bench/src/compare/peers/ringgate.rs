//! ringgate: one gateway, one service; with named hosts a virtual service for each, over as many files as it takes.

use rustix::process::Signal;

use super::{ConfigFile, Hosts, Listening, Plan, Reload, Setup};
use crate::compare::edge::Edge;
use crate::compare::measure::ANY_HOST;

const FOLDER: &str = "ringgate.d";

/// Virtual services of one file: a file may have 16 MiB.
const HOSTS_PER_FILE: usize = 10_000;

pub(super) fn plan(setup: &Setup<'_>) -> Plan {
    let folder = setup.folder.join(FOLDER).display().to_string();
    let mut files = vec![ConfigFile { name: format!("{FOLDER}/gateway.toml"), text: gateway(setup) }];
    match setup.hosts {
        Hosts::Any => {
            files.push(ConfigFile { name: format!("{FOLDER}/hosts.toml"), text: rest(setup) });
        }
        Hosts::Named(names) => {
            for (index, part) in names.chunks(HOSTS_PER_FILE).enumerate() {
                let text = part.iter().map(|name| virtual_service(name, name)).collect();
                files.push(ConfigFile { name: format!("{FOLDER}/hosts-{index:03}.toml"), text });
            }
        }
    }
    Plan {
        files,
        arguments: vec!["run".into(), folder, "--cores".into(), setup.cores.clone()],
        listening: Listening::Announced,
        reload: Reload::BySignal(Signal::HUP),
    }
}

/// Everything that comes.
fn rest(setup: &Setup<'_>) -> String {
    let route = r#"route = [{ destination = { host = "backend" } }]"#;
    let (kind, matching) = match setup.edge {
        Edge::Http | Edge::Https => return virtual_service("all", host(setup)),
        Edge::Sni => ("tls", format!("match = [{{ sni_hosts = [\"{ANY_HOST}\"] }}]\n")),
        Edge::Tcp => ("tcp", String::new()),
    };
    let name = host(setup);
    format!(
        "[[virtual_service]]\nname = \"all\"\nhosts = [\"{name}\"]\ngateways = [\"bench\"]\n\
         [[virtual_service.{kind}]]\n{matching}{route}\n"
    )
}

/// Certificates and SNI are about names.
fn host(setup: &Setup<'_>) -> &'static str {
    if setup.edge.is_secure() { ANY_HOST } else { "*" }
}

fn gateway(setup: &Setup<'_>) -> String {
    let (protocol, tls) = match setup.edge {
        Edge::Http => ("HTTP", String::new()),
        Edge::Https => (
            "HTTPS",
            format!(
                "tls = {{ mode = \"SIMPLE\", server_certificate = \"{}\", private_key = \"{}\" }}\n",
                setup.identity.certificate.display(),
                setup.identity.key.display()
            ),
        ),
        Edge::Sni => ("TLS", "tls = { mode = \"PASSTHROUGH\" }\n".to_owned()),
        Edge::Tcp => ("TCP", String::new()),
    };
    format!(
        r#"[[gateway]]
name = "bench"
timeouts = {{ header = "60s", keep_alive = "5m" }}
limits = {{ requests_per_connection_max = 1_000_000_000 }}
[[gateway.server]]
port = 0
bind = "127.0.0.1"
protocol = "{protocol}"
hosts = ["{host}"]
{tls}
[[service]]
name = "backend"
endpoints = [{{ address = "{upstream}" }}]
"#,
        host = host(setup),
        upstream = setup.upstream
    )
}

fn virtual_service(name: &str, host: &str) -> String {
    format!(
        r#"[[virtual_service]]
name = "{name}"
hosts = ["{host}"]
gateways = ["bench"]
[[virtual_service.http]]
route = [{{ destination = {{ host = "backend" }} }}]

"#
    )
}
