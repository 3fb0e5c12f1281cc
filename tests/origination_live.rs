//! Authorities of endpoints and certificates for them that change while the gateway runs.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::origination::{Site, all_to, get};
use crate::support::DEADLINE;
use crate::support::tls::Authority;
use crate::support::tls_backend::TlsBackend;

/// Asks until the answer is the wanted one: a new file counts within two looks.
#[track_caller]
fn wait_status(gateway: &crate::support::Gateway, wanted: u16) {
    let started = Instant::now();
    loop {
        let (status, text) = get(&mut gateway.connect(), "a.test", "/x");
        if status == wanted {
            return;
        }
        assert!(started.elapsed() < DEADLINE, "{status} {text}, not {wanted}: {}", gateway.stderr());
        thread::sleep(Duration::from_millis(20));
    }
}

both_drivers! {
    /// New authorities count without a reload; a file that holds none changes nothing.
    fn authorities(driver) {
        let site = Site::new();
        let backend = TlsBackend::mirror(site.server(&["127.0.0.1"]));
        let pool = ", connection_pool = { http = { idle_connections_max = 0 } }";
        let text = all_to(&[backend.address()], &site.simple(""), pool);
        let gateway = crate::support::Gateway::start(driver, &format!("[process]\ncertificate_check = \"100ms\"\n{text}"));
        wait_status(&gateway, 200);
        let replace = |content: &str| {
            let new = site.directory.write("new", content);
            fs::rename(new, site.directory.path().join("ca.crt")).unwrap();
        };
        replace("rubbish");
        gateway.wait_stderr("those before stay in use");
        wait_status(&gateway, 200);
        replace(&Authority::new("strangers").certificate);
        wait_status(&gateway, 502);
        replace(&site.authority.certificate);
        wait_status(&gateway, 200);
    }

    /// So do certificates that are shown to endpoints; a key that does not fit changes nothing.
    fn client_certificates(driver) {
        let site = Site::new();
        let clients = Authority::new("clients");
        let server = site.authority.server(&["127.0.0.1"]);
        let backend = TlsBackend::mirror(Authority::server_config(&server, crate::origination::BOTH, Some(&clients)));
        let good = clients.client("spiffe://test/gateway");
        good.write(&site.directory, "client");
        let tls = format!(
            "mode = \"MUTUAL\", {}, {}, {}",
            site.file("ca_certificates", "ca.crt"),
            site.file("client_certificate", "client.crt"),
            site.file("private_key", "client.key"),
        );
        let pool = ", connection_pool = { http = { idle_connections_max = 0 } }";
        let text = all_to(&[backend.address()], &tls, pool);
        let gateway = crate::support::Gateway::start(driver, &format!("[process]\ncertificate_check = \"100ms\"\n{text}"));
        wait_status(&gateway, 200);
        let stranger = Authority::new("strangers").client("spiffe://test/gateway");
        site.directory.write("client.key", &stranger.key);
        gateway.wait_stderr("is not the key of");
        wait_status(&gateway, 200);
        site.directory.write("client.crt", &stranger.certificate);
        wait_status(&gateway, 502);
        good.write(&site.directory, "client");
        wait_status(&gateway, 200);
    }
}
