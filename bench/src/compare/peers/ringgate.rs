//! ringgate: one gateway, one service; with named hosts a virtual service for each, over as many files as it takes.

use rustix::process::Signal;

use super::{ConfigFile, Hosts, Listening, Plan, Reload, Setup};

const FOLDER: &str = "ringgate.d";

/// Virtual services of one file: a file may have 16 MiB.
const HOSTS_PER_FILE: usize = 10_000;

pub(super) fn plan(setup: &Setup<'_>) -> Plan {
    let folder = setup.folder.join(FOLDER).display().to_string();
    let mut files = vec![ConfigFile { name: format!("{FOLDER}/gateway.toml"), text: gateway(setup) }];
    match setup.hosts {
        Hosts::Any => {
            files
                .push(ConfigFile { name: format!("{FOLDER}/hosts.toml"), text: virtual_service("all", "*") });
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

fn gateway(setup: &Setup<'_>) -> String {
    format!(
        r#"[[gateway]]
name = "bench"
timeouts = {{ header = "60s", keep_alive = "5m" }}
limits = {{ requests_per_connection_max = 1_000_000_000 }}
[[gateway.server]]
port = 0
bind = "127.0.0.1"
protocol = "HTTP"
hosts = ["*"]

[[service]]
name = "backend"
endpoints = [{{ address = "{}" }}]
"#,
        setup.upstream
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
