//! nginx: one worker per core, upstream keep-alive, no log; named hosts are a `map` to the upstream's name.

use std::fmt::Write as _;

use rustix::process::{Signal, geteuid};

use super::{ConfigFile, Hosts, Listening, Plan, Reload, Setup};

const FILE: &str = "nginx.conf";
const MAP: &str = "hosts.map";

pub(super) fn plan(setup: &Setup<'_>) -> Plan {
    let folder = setup.folder.display();
    let mut files = vec![ConfigFile { name: FILE.into(), text: config(setup) }];
    if let Hosts::Named(names) = setup.hosts {
        let mut map = String::new();
        for name in names {
            let _ = writeln!(map, "{name} backend;");
        }
        files.push(ConfigFile { name: MAP.into(), text: map });
    }
    let arguments = ["-p", &format!("{folder}/"), "-e", "stderr", "-c", &format!("{folder}/{FILE}")];
    Plan {
        files,
        arguments: arguments.map(str::to_owned).to_vec(),
        listening: Listening::OnGivenPort,
        reload: Reload::BySignal(Signal::HUP),
    }
}

fn config(setup: &Setup<'_>) -> String {
    let folder = setup.folder.display();
    // Workers of root's would otherwise be somebody who may not enter the folder.
    let user = if geteuid().is_root() { "user root;\n" } else { "" };
    let (map, target, refusal) = match setup.hosts {
        Hosts::Any => (String::new(), "backend", ""),
        Hosts::Named(names) => (
            // As large as the number of names, or nginx warns and searches long chains.
            format!(
                "    map_hash_max_size {};\n    map_hash_bucket_size 128;\n    \
                 map $host $target {{ default \"\"; include {folder}/{MAP}; }}\n",
                (names.len() * 2).max(2048)
            ),
            "$target",
            "            if ($target = \"\") { return 404; }\n",
        ),
    };
    format!(
        r#"{user}daemon off;
pid {folder}/nginx.pid;
error_log stderr warn;
worker_processes {threads};
events {{
    use epoll;
    worker_connections {connections};
    accept_mutex off;
}}
http {{
    access_log off;
    tcp_nodelay on;
    keepalive_timeout 300s;
    keepalive_requests 1000000000;
    client_header_timeout 60s;
    client_body_buffer_size 64k;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    proxy_buffer_size 16k;
    proxy_buffers 8 16k;
    proxy_busy_buffers_size 64k;
    proxy_request_buffering off;
    proxy_http_version 1.1;
    upstream backend {{
        server {upstream};
        keepalive 256;
        keepalive_requests 1000000000;
        keepalive_timeout 1h;
    }}
{map}    server {{
        listen 127.0.0.1:{port} reuseport backlog=4096;
        location / {{
{refusal}            proxy_set_header Host $http_host;
            proxy_set_header Connection "";
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_pass http://{target};
        }}
    }}
}}
"#,
        threads = setup.threads,
        // Both sides of a connection count. Each costs memory from the start.
        connections = setup.connections * 2 + 512,
        upstream = setup.upstream,
        port = setup.port,
    )
}
