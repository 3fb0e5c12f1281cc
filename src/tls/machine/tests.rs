//! A rustls client against the machine, in memory: every cut of the bytes, both versions, both directions at once.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::io::{Read, Write};

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion, version};

use super::*;

const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

struct Pair {
    client: ClientConnection,
    server: Machine,
}

fn pair(version: &'static SupportedProtocolVersion) -> Pair {
    let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let server = ServerConfig::builder_with_protocol_versions(&[version])
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    Pair {
        client: ClientConnection::new(Arc::new(client), "a.test".try_into().unwrap()).unwrap(),
        server: Machine::new(Arc::new(server)).unwrap(),
    }
}

fn buffer(bytes: &[u8]) -> Buffer {
    let mut buffer = Buffer::new(Class::Large);
    buffer.extend(bytes);
    buffer
}

impl Pair {
    /// What the client sends now.
    fn sent_by_client(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    fn give_client(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            self.client.read_tls(&mut bytes).unwrap();
            self.client.process_new_packets().unwrap();
        }
    }

    /// Until both sides are done, `step` bytes at a time.
    fn shake_hands(&mut self, step: usize) {
        for _ in 0..10 {
            for piece in self.sent_by_client().chunks(step) {
                self.server.feed(buffer(piece), &mut Buffer::default()).unwrap();
            }
            let mut output = Buffer::new(Class::Large);
            self.server.take_output(&mut output);
            self.give_client(output.filled());
        }
        assert!(!self.client.is_handshaking() && !self.server.is_handshaking());
        assert!(!self.server.is_mid_record() && !self.server.is_resumed());
    }

    fn all_plain(&mut self) -> Vec<u8> {
        let mut plain = Buffer::new(Class::Large);
        let mut all = Vec::new();
        while self.server.take_plain(&mut plain) > 0 {
            all.extend_from_slice(plain.filled());
            plain.clear();
        }
        all
    }
}

#[test]
fn serves_whatever_the_cuts() {
    for version in VERSIONS {
        for step in [1, 2, 3, 7, 100, 100_000] {
            let mut pair = pair(version);
            pair.shake_hands(step);
            pair.client.writer().write_all(&[7; 30_000]).unwrap();
            let mut got = Vec::new();
            for piece in pair.sent_by_client().chunks(step.max(100)) {
                pair.server.feed(buffer(piece), &mut Buffer::default()).unwrap();
                got.extend(pair.all_plain());
                // The other direction goes on while a record is here in part.
                let mut records = Buffer::new(Class::Large);
                pair.server.encrypt(b"meanwhile", &mut records).unwrap();
                pair.give_client(records.filled());
                let mut read = [0; 9];
                pair.client.reader().read_exact(&mut read).unwrap();
                assert_eq!(&read, b"meanwhile");
            }
            assert_eq!(got, [7; 30_000]);
            assert!(!pair.server.is_mid_record() && !pair.server.has_plain());
        }
    }
}

#[test]
fn sends_large_content_and_the_end() {
    for version in VERSIONS {
        let mut pair = pair(version);
        pair.shake_hands(1000);
        let content = vec![3; 100_000];
        let mut records = Buffer::new(Class::Large);
        pair.server.encrypt(&content, &mut records).unwrap();
        pair.server.close(&mut records).unwrap();
        let length = records.len();
        pair.server.close(&mut records).unwrap();
        assert_eq!(records.len(), length, "said once");
        let mut bytes = records.filled();
        let mut got = Vec::new();
        while !bytes.is_empty() {
            pair.client.read_tls(&mut bytes).unwrap();
            pair.client.process_new_packets().unwrap();
            let mut piece = [0; 20_000];
            while let Ok(count @ 1..) = pair.client.reader().read(&mut piece) {
                got.extend_from_slice(&piece[..count]);
            }
        }
        assert_eq!(got, content);
        assert_eq!(pair.client.reader().read(&mut [0]).unwrap(), 0, "a clean end");
        // What comes after a close_notify is not looked at.
        pair.client.send_close_notify();
        let mut last = pair.sent_by_client();
        last.extend_from_slice(b"junk");
        pair.server.feed(buffer(&last), &mut Buffer::default()).unwrap();
        assert!(pair.server.is_peer_closed() && !pair.server.has_failed());
    }
}

#[test]
fn a_broken_record_is_answered_with_an_alert() {
    for version in VERSIONS {
        let mut pair = pair(version);
        pair.shake_hands(1000);
        pair.client.writer().write_all(b"hello").unwrap();
        let mut bytes = pair.sent_by_client();
        *bytes.last_mut().unwrap() ^= 1;
        assert!(pair.server.feed(buffer(&bytes), &mut Buffer::default()).is_err());
        assert!(pair.server.has_failed());
        let mut alert = Buffer::new(Class::Small);
        assert!(pair.server.take_output(&mut alert));
        let mut read = alert.filled();
        pair.client.read_tls(&mut read).unwrap();
        let error = pair.client.process_new_packets().unwrap_err();
        assert_eq!(error, rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac));
        assert!(pair.server.encrypt(b"x", &mut alert).is_err());
        assert!(pair.server.feed(buffer(b"more"), &mut Buffer::default()).is_err());
    }
}

#[test]
fn a_hello_of_nobody_is_refused() {
    for junk in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x80, 0x2e, 1, 3, 1], &[0x16, 3, 1, 0xff, 0xff, 1]] {
        let mut server = pair(&version::TLS13).server;
        assert!(server.feed(buffer(junk), &mut Buffer::default()).is_err(), "{junk:?}");
        assert!(server.has_failed());
    }
}

/// A handshake message over several records, of which the last is missing, while this side sends: rustls keeps offsets
/// into the bytes it was given.
#[test]
fn sends_beside_a_partial_handshake_message() {
    let mut pair = pair(&version::TLS13);
    pair.shake_hands(1000);
    pair.client.refresh_traffic_keys().unwrap();
    let update = pair.sent_by_client();
    for at in 1..update.len() {
        let mut server_records = Buffer::new(Class::Small);
        if at == 1 {
            pair.server.feed(buffer(&update[..1]), &mut Buffer::default()).unwrap();
        } else {
            pair.server.feed(buffer(&update[at - 1..at]), &mut Buffer::default()).unwrap();
        }
        pair.server.encrypt(b"x", &mut server_records).unwrap();
        pair.give_client(server_records.filled());
    }
    pair.server.feed(buffer(&update[update.len() - 1..]), &mut Buffer::default()).unwrap();
    pair.client.writer().write_all(b"new keys").unwrap();
    let bytes = pair.sent_by_client();
    pair.server.feed(buffer(&bytes), &mut Buffer::default()).unwrap();
    assert_eq!(pair.all_plain(), b"new keys");
}

/// Both sides, held together by bytes.
struct Ends {
    client: Machine,
    server: Machine,
}

/// Records on their way.
fn output(machine: &mut Machine) -> Vec<u8> {
    let mut bytes = Buffer::new(Class::Large);
    machine.take_output(&mut bytes);
    bytes.filled().to_vec()
}

fn feed(machine: &mut Machine, bytes: &[u8], step: usize) -> Result<(), TlsError> {
    bytes.chunks(step).try_for_each(|piece| machine.feed(buffer(piece), &mut Buffer::default()))
}

impl Ends {
    fn new(version: &'static SupportedProtocolVersion, name: &'static str) -> Self {
        let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let config = ServerConfig::builder_with_protocol_versions(&[version])
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let server = Machine::new(Arc::new(config)).unwrap();
        Self { client: client_of(made.cert.der(), name), server }
    }

    fn shake_hands(&mut self, step: usize) -> Result<(), TlsError> {
        for _ in 0..10 {
            feed(&mut self.server, &output(&mut self.client), step)?;
            feed(&mut self.client, &output(&mut self.server), step)?;
        }
        assert!(!self.client.is_handshaking() && !self.server.is_handshaking());
        assert!(!self.client.is_mid_record() && !self.client.has_plain());
        assert_eq!(self.client.peer_certificates().len(), 1);
        Ok(())
    }
}

fn client_of(root: &CertificateDer<'static>, name: &'static str) -> Machine {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    Machine::connect(Arc::new(config), name.try_into().unwrap()).unwrap()
}

/// The client's side, whatever the cuts: the handshake, what both send, and the end.
#[test]
fn asks_whatever_the_cuts() {
    for version in VERSIONS {
        for step in [1, 7, 100_000] {
            let mut ends = Ends::new(version, "a.test");
            ends.shake_hands(step).unwrap();
            for (content, from_client) in [(vec![5; 40_000], true), (vec![6; 40_000], false)] {
                let Ends { client, server } = &mut ends;
                let (from, to) = if from_client { (client, server) } else { (server, client) };
                let mut records = Buffer::new(Class::Large);
                from.encrypt(&content, &mut records).unwrap();
                feed(to, records.filled(), step).unwrap();
                let mut got = Vec::new();
                let mut plain = Buffer::new(Class::Large);
                while to.take_plain(&mut plain) > 0 {
                    got.extend_from_slice(plain.filled());
                    plain.clear();
                }
                assert!(got == content);
            }
            let mut records = Buffer::new(Class::Small);
            ends.server.close(&mut records).unwrap();
            feed(&mut ends.client, records.filled(), step).unwrap();
            assert!(ends.client.is_peer_closed() && !ends.client.has_failed());
        }
    }
}

/// A client that is shown the wrong certificate says so.
#[test]
fn refuses_with_an_alert() {
    for version in VERSIONS {
        let mut ends = Ends::new(version, "b.test");
        let TlsError(error) = ends.shake_hands(1000).unwrap_err();
        assert!(matches!(error, rustls::Error::InvalidCertificate(_)), "{error:?}");
        let alert = output(&mut ends.client);
        let TlsError(error) = feed(&mut ends.server, &alert, 1000).unwrap_err();
        assert!(matches!(error, rustls::Error::AlertReceived(_)), "{error:?}");
    }
}
