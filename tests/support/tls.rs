//! TLS for tests: certificate authorities made on the spot, and a client over rustls.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
    date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned, SupportedProtocolVersion,
};

use super::DEADLINE;
use super::tempdir::TempDir;
use super::wire::{Failure, Framing, Reader, Response, Source};

/// A certificate and its key, as PEM.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Identity {
    /// Writes `NAME.crt` and `NAME.key` and returns their paths.
    pub(crate) fn write(&self, directory: &TempDir, name: &str) -> (PathBuf, PathBuf) {
        let key = directory.write(&format!("{name}.key"), &self.key);
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        (directory.write(&format!("{name}.crt"), &self.certificate), key)
    }

    /// The certificate itself, in DER.
    pub(crate) fn leaf(&self) -> Vec<u8> {
        self.parts().0[0].to_vec()
    }

    fn parts(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let chain = CertificateDer::pem_slice_iter(self.certificate.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        (chain.collect::<Result<_, _>>().unwrap(), key)
    }
}

/// A certificate authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) certificate: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// A server's certificate for DNS names.
    pub(crate) fn server(&self, names: &[&str]) -> Identity {
        self.server_with(names, |_| {})
    }

    /// [`Self::server`], with something changed.
    pub(crate) fn server_with(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Identity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        change(&mut params);
        self.sign(&params)
    }

    /// A client's certificate with one URI name.
    pub(crate) fn client(&self, uri: &str) -> Identity {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&params)
    }

    /// A client's certificate with a serial number.
    pub(crate) fn client_numbered(&self, serial: u64) -> Identity {
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from(serial));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&params)
    }

    /// A list that revokes these serial numbers.
    pub(crate) fn crl(&self, serials: &[u64]) -> String {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(4000, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    /// A server that shows `identity`, and with `clients` asks for a certificate of that authority.
    pub(crate) fn server_config(
        identity: &Identity,
        versions: &[&'static SupportedProtocolVersion],
        clients: Option<&Self>,
    ) -> Arc<ServerConfig> {
        let builder = ServerConfig::builder_with_protocol_versions(versions);
        let (chain, key) = identity.parts();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let verifier = WebPkiClientVerifier::builder(Arc::new(authority.roots())).build().unwrap();
                builder.with_client_cert_verifier(verifier)
            }
        };
        Arc::new(builder.with_single_cert(chain, key).unwrap())
    }

    fn sign(&self, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// This authority alone.
    pub(crate) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()).unwrap();
        roots
    }

    /// What a client needs to trust this authority.
    pub(crate) fn client_config(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        identity: Option<&Identity>,
    ) -> Arc<ClientConfig> {
        let builder =
            ClientConfig::builder_with_protocol_versions(versions).with_root_certificates(self.roots());
        Arc::new(match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let (chain, key) = identity.parts();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        })
    }
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// One TLS connection to the gateway.
#[derive(Debug)]
pub(crate) struct TlsClient {
    stream: Shared,
    reader: Reader,
}

#[derive(Clone, Debug)]
struct Shared(Arc<Mutex<Stream>>);

impl Read for Shared {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.lock().unwrap().read(buffer)
    }
}

impl Source for Shared {
    fn set_timeout(&self, timeout: Duration) {
        self.0.lock().unwrap().sock.set_read_timeout(Some(timeout)).unwrap();
    }
}

impl TlsClient {
    /// Connects and completes the handshake; after it, a client certificate may still be refused.
    pub(crate) fn try_connect(
        address: SocketAddr,
        config: &Arc<ClientConfig>,
        name: &str,
    ) -> io::Result<Self> {
        Self::over(TcpStream::connect_timeout(&address, DEADLINE)?, config, name)
    }

    /// Completes the handshake over a connection made elsewhere.
    pub(crate) fn over(mut socket: TcpStream, config: &Arc<ClientConfig>, name: &str) -> io::Result<Self> {
        socket.set_read_timeout(Some(DEADLINE))?;
        socket.set_write_timeout(Some(DEADLINE))?;
        socket.set_nodelay(true)?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut connection = ClientConnection::new(Arc::clone(config), name).unwrap();
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        let stream = Shared(Arc::new(Mutex::new(StreamOwned::new(connection, socket))));
        Ok(Self { reader: Reader::new(stream.clone()), stream })
    }

    #[track_caller]
    pub(crate) fn connect(address: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> Self {
        Self::try_connect(address, config, name).unwrap_or_else(|error| panic!("handshake: {error}"))
    }

    /// Lets a test look at the connection.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut Stream) -> T) -> T {
        look(&mut self.stream.0.lock().unwrap())
    }

    pub(crate) fn send(&self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes.as_ref()).unwrap_or_else(|error| panic!("send: {error}"));
    }

    pub(crate) fn try_send(&self, bytes: &[u8]) -> io::Result<()> {
        self.with(|stream| stream.write_all(bytes).and_then(|()| stream.flush()))
    }

    /// Reads one complete response to a request of `method`.
    pub(crate) fn try_response(&mut self, method: &str) -> Result<Response, Failure> {
        self.reader.arm();
        let raw = self.reader.head()?.ok_or(Failure::Eof(0))?;
        let mut response = Response::parse(&raw, method)?;
        let content = &mut response.content;
        match response.framing {
            Framing::Chunked => self.reader.chunked(content)?,
            Framing::Close => self.reader.until_end(&mut content.body)?,
            Framing::Length(length) => self.reader.exactly(length, &mut content.body)?,
            Framing::None => {}
        }
        Ok(response)
    }

    #[track_caller]
    pub(crate) fn response(&mut self, method: &str) -> Response {
        self.try_response(method).unwrap_or_else(|failure| panic!("no complete response: {failure:?}"))
    }

    #[track_caller]
    pub(crate) fn get(&mut self, host: &str, path: &str) -> Response {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        self.response("GET")
    }

    /// Reads raw bytes, as in a tunnel.
    pub(crate) fn bytes(&mut self, length: usize) -> Result<Vec<u8>, Failure> {
        self.reader.arm();
        let mut bytes = Vec::new();
        self.reader.exactly(length, &mut bytes).map(|()| bytes)
    }

    /// Reads everything up to a close_notify.
    pub(crate) fn until_end(&mut self) -> Result<Vec<u8>, Failure> {
        self.reader.arm();
        let mut bytes = Vec::new();
        self.reader.until_end(&mut bytes).map(|()| bytes)
    }

    /// Says that nothing follows and ends the sending side.
    pub(crate) fn half_close(&self) {
        self.with(|stream| {
            stream.conn.send_close_notify();
            stream.flush().unwrap();
            stream.sock.shutdown(Shutdown::Write).unwrap();
        });
    }

    /// Ends the sending side without a word.
    pub(crate) fn truncate(&self) {
        self.with(|stream| stream.sock.shutdown(Shutdown::Write).unwrap());
    }
}
