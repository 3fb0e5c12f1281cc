//! TLS 1.3 records of our own making, as no library sends them: a rustls client makes the handshake, the traffic secret
//! that it logs (RFC 8446 section 7) makes what follows.

use std::fmt;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk};
use rustls::crypto::aws_lc_rs::{cipher_suite::TLS13_AES_128_GCM_SHA256, default_provider};
use rustls::{ClientConfig, ClientConnection, KeyLog};

use super::DEADLINE;

const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

/// Keeps the client's first traffic secret.
#[derive(Default)]
struct Secret(Mutex<Vec<u8>>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl KeyLog for Secret {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        if label == "CLIENT_TRAFFIC_SECRET_0" {
            *self.0.lock().unwrap() = secret.to_vec();
        }
    }
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-Expand-Label with an empty context (RFC 8446 section 7.1).
fn expand(secret: &[u8], label: &str, length: usize) -> Vec<u8> {
    let mut info = (length as u16).to_be_bytes().to_vec();
    info.push(6 + label.len() as u8);
    info.extend_from_slice(b"tls13 ");
    info.extend_from_slice(label.as_bytes());
    info.push(0);
    let mut bytes = vec![0; length];
    let prk = Prk::new_less_safe(HKDF_SHA256, secret);
    prk.expand(&[&info], Length(length)).unwrap().fill(&mut bytes).unwrap();
    bytes
}

/// A client that writes records; what comes back is not read.
pub(crate) struct RecordClient {
    pub(crate) socket: TcpStream,
    secret: Vec<u8>,
    sequence: u64,
}

impl RecordClient {
    /// Makes a TLS 1.3 handshake with AES-128-GCM.
    pub(crate) fn connect(address: SocketAddr, roots: &rustls::RootCertStore, name: &str) -> Self {
        let mut provider = default_provider();
        provider.cipher_suites = vec![TLS13_AES_128_GCM_SHA256];
        let secret = Arc::new(Secret::default());
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        config.key_log = Arc::clone(&secret) as Arc<dyn KeyLog>;
        let mut connection =
            ClientConnection::new(Arc::new(config), name.to_owned().try_into().unwrap()).unwrap();
        let mut socket = TcpStream::connect_timeout(&address, DEADLINE).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        while connection.is_handshaking() || connection.wants_write() {
            connection.complete_io(&mut socket).unwrap();
        }
        let secret = secret.0.lock().unwrap().clone();
        Self { socket, secret, sequence: 0 }
    }

    /// Appends a record of this type (RFC 8446 section 5.2).
    fn record(&mut self, out: &mut Vec<u8>, kind: u8, content: &[u8]) {
        let key = UnboundKey::new(&AES_128_GCM, &expand(&self.secret, "key", 16)).unwrap();
        let mut nonce: [u8; 12] = expand(&self.secret, "iv", 12).try_into().unwrap();
        for (byte, of_sequence) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= of_sequence;
        }
        self.sequence += 1;
        let mut sealed = [content, &[kind]].concat();
        let header = [&[APPLICATION_DATA, 3, 3][..], &(sealed.len() as u16 + 16).to_be_bytes()].concat();
        let nonce = Nonce::assume_unique_for_key(nonce);
        LessSafeKey::new(key).seal_in_place_append_tag(nonce, Aad::from(&header), &mut sealed).unwrap();
        out.extend_from_slice(&header);
        out.extend_from_slice(&sealed);
    }

    /// Records that bring nothing: a key update that wants no answer, then an empty record, so many times. Either alone
    /// is refused by rustls after a few.
    pub(crate) fn nothing(&mut self, pairs: usize) -> Vec<u8> {
        const KEY_UPDATE_NOT_REQUESTED: [u8; 5] = [24, 0, 0, 1, 0];
        let mut bytes = Vec::with_capacity(pairs * 49);
        for _ in 0..pairs {
            self.record(&mut bytes, HANDSHAKE, &KEY_UPDATE_NOT_REQUESTED);
            self.secret = expand(&self.secret, "traffic upd", 32);
            self.sequence = 0;
            self.record(&mut bytes, APPLICATION_DATA, &[]);
        }
        bytes
    }

    /// Content as a record.
    pub(crate) fn content(&mut self, content: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.record(&mut bytes, APPLICATION_DATA, content);
        bytes
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }
}
