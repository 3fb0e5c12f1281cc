//! nginx: one worker per core, upstream keep-alive, no log; named hosts are a `map` to the upstream's name. What is passed
//! through goes by its stream module.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use rustix::process::{Signal, geteuid};

use super::{ConfigFile, Hosts, Listening, Plan, Reload, Setup};
use crate::compare::edge::Edge;
use crate::compare::measure::ANY_HOST;
use crate::compare::process::output;

use super::VERSION_TIMEOUT;

const FILE: &str = "nginx.conf";
const MAP: &str = "hosts.map";

pub(super) fn plan(setup: &Setup<'_>) -> Plan {
    let folder = setup.folder.display();
    let (module, block) = if setup.edge.is_http() {
        (String::new(), http(setup))
    } else {
        (stream_module(setup.program), stream(setup))
    };
    let text = format!("{module}{}{block}", general(setup));
    let mut files = vec![ConfigFile { name: FILE.into(), text }];
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

/// The line that loads the stream module, where it is a file of its own (Debian).
fn stream_module(program: &Path) -> String {
    let options = output(Command::new(program).arg("-V"), VERSION_TIMEOUT);
    let options = options.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    let options = String::from_utf8_lossy(&options);
    let folder = options.split_ascii_whitespace().find_map(|option| option.strip_prefix("--modules-path="));
    match folder {
        Some(folder) if options.contains("--with-stream=dynamic") => {
            format!("load_module {folder}/ngx_stream_module.so;\n")
        }
        _ => String::new(),
    }
}

fn general(setup: &Setup<'_>) -> String {
    let folder = setup.folder.display();
    // Workers of root's would otherwise be somebody who may not enter the folder.
    let user = if geteuid().is_root() { "user root;\n" } else { "" };
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
"#,
        threads = setup.threads,
        // Both sides of a connection count. Each costs memory from the start.
        connections = setup.connections * 2 + 512,
    )
}

fn stream(setup: &Setup<'_>) -> String {
    let (map, preread, target) = match setup.edge {
        Edge::Sni => (
            format!("    map $ssl_preread_server_name $target {{ {ANY_HOST} backend; }}\n"),
            "        ssl_preread on;\n",
            "$target",
        ),
        _ => (String::new(), "", "backend"),
    };
    format!(
        r#"stream {{
    proxy_timeout 1h;
    proxy_buffer_size {buffer};
    upstream backend {{ server {upstream}; }}
{map}    server {{
        listen 127.0.0.1:{port} reuseport backlog=4096;
{preread}        proxy_pass {target};
    }}
}}
"#,
        // The default; for large answers what costs it least, half of that.
        buffer = if setup.bulk { "256k" } else { "16k" },
        upstream = setup.upstream,
        port = setup.port,
    )
}

fn http(setup: &Setup<'_>) -> String {
    let folder = setup.folder.display();
    let (secure, tls) = match setup.edge {
        Edge::Https => (
            " ssl",
            format!(
                "    ssl_certificate {};\n    ssl_certificate_key {};\n    ssl_protocols TLSv1.2 TLSv1.3;\n    \
                 ssl_session_tickets on;\n",
                setup.identity.certificate.display(),
                setup.identity.key.display()
            ),
        ),
        _ => ("", String::new()),
    };
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
        r#"http {{
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
{tls}    upstream backend {{
        server {upstream};
        keepalive 256;
        keepalive_requests 1000000000;
        keepalive_timeout 1h;
    }}
{map}    server {{
        listen 127.0.0.1:{port} reuseport backlog=4096{secure};
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
        upstream = setup.upstream,
        port = setup.port,
    )
}
