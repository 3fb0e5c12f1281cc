//! ringgate: one gateway, one service; with named hosts a virtual service for each.

use std::fmt::Write as _;

use rustix::process::Signal;

use super::{ConfigFile, Hosts, Listening, Plan, Reload, Setup};

const FILE: &str = "ringgate.toml";

pub(super) fn plan(setup: &Setup<'_>) -> Plan {
    let file = setup.folder.join(FILE).display().to_string();
    Plan {
        files: vec![ConfigFile { name: FILE, text: config(setup) }],
        arguments: vec!["run".into(), file, "--cores".into(), setup.cores.clone()],
        listening: Listening::Announced,
        reload: Reload::BySignal(Signal::HUP),
    }
}

fn config(setup: &Setup<'_>) -> String {
    let mut text = format!(
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
    );
    let mut serve = |name: &str, host: &str| {
        // Writing to a String can not fail.
        let _ = write!(
            text,
            r#"
[[virtual_service]]
name = "{name}"
hosts = ["{host}"]
gateways = ["bench"]
[[virtual_service.http]]
route = [{{ destination = {{ host = "backend" }} }}]
"#
        );
    };
    match setup.hosts {
        Hosts::Any => serve("all", "*"),
        Hosts::Named(names) => names.iter().for_each(|name| serve(name, name)),
    }
    text
}
