//! A client's connection of the backend: plain, or TLS where the backend was given a certificate.

use std::future::poll_fn;
use std::io;
use std::mem;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use ringgate::sys::buffer::Buffer;
use ringgate::sys::socket::Socket;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, UnbufferedServerConnection};

use crate::tls::{Event, RECEIVED_MAX, Session};

/// TLS of all connections: one certificate, tickets to resume by.
pub(super) fn server_config(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, String> {
    let bad = |path: &Path, error: String| format!("{}: {error}", path.display());
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| bad(certificate, error.to_string()))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| bad(key, error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| bad(certificate, error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = Ticketer::new().map_err(|error| error.to_string())?;
    Ok(Arc::new(config))
}

/// One connection.
pub(super) struct Peer<'s> {
    socket: &'s Socket,
    tls: Option<Box<Session<UnbufferedServerConnection>>>,
}

impl<'s> Peer<'s> {
    pub(super) fn new(socket: &'s Socket, tls: Option<&Arc<ServerConfig>>) -> Result<Self, rustls::Error> {
        let session = |config: &Arc<ServerConfig>| {
            UnbufferedServerConnection::new(Arc::clone(config)).map(|new| Box::new(Session::new(new)))
        };
        Ok(Self { socket, tls: tls.map(session).transpose()? })
    }

    /// Makes the coming close a reset.
    pub(super) fn reset_on_close(&self) {
        self.socket.reset_on_close();
    }

    /// Sends `output` and empties it, and receives behind `input`: both are submitted with one call to the kernel. Whether the
    /// connection goes on.
    pub(super) async fn exchange(&mut self, output: &mut Buffer, input: &mut Buffer) -> bool {
        let Some(session) = &mut self.tls else {
            return send_and_receive(self.socket, output, input).await;
        };
        if !output.is_empty() && session.seal(output.filled()).is_err()
            || !session.records.make_room(RECEIVED_MAX)
        {
            return false;
        }
        output.clear();
        if !send_and_receive(self.socket, &mut session.sealed, &mut session.records).await {
            return false;
        }
        loop {
            match session.next(input) {
                Ok(Event::Plain) => {}
                Ok(Event::Starved) => return true,
                Ok(Event::Closed) => return false,
                Err(_) => {
                    session.alert();
                    let _ = send(self.socket, &mut session.sealed).await;
                    return false;
                }
            }
        }
    }

    /// Sends `output` and empties it.
    pub(super) async fn flush(&mut self, output: &mut Buffer) -> io::Result<()> {
        let Some(session) = &mut self.tls else { return send(self.socket, output).await };
        session.seal(output.filled()).map_err(io::Error::other)?;
        output.clear();
        send(self.socket, &mut session.sealed).await
    }

    /// Sends `output` as the last there is.
    pub(super) async fn finish(&mut self, output: &mut Buffer) {
        let Some(session) = &mut self.tls else {
            let _ = send(self.socket, output).await;
            return;
        };
        if session.seal(output.filled()).and_then(|()| session.close()).is_ok() {
            let _ = send(self.socket, &mut session.sealed).await;
        }
    }
}

async fn send(socket: &Socket, output: &mut Buffer) -> io::Result<()> {
    let (sent, buffer) = socket.write_all(mem::take(output), || ()).await;
    *output = buffer;
    output.clear();
    sent
}

async fn send_and_receive(socket: &Socket, output: &mut Buffer, input: &mut Buffer) -> bool {
    if output.is_empty() {
        let (received, buffer) = socket.read(mem::take(input)).await;
        *input = buffer;
        return matches!(received, Ok(1..));
    }
    let mut write = pin!(socket.write_all(mem::take(output), || ()));
    let mut read = pin!(socket.read(mem::take(input)));
    let (mut written, mut received) = (None, None);
    let done = poll_fn(|context| {
        if written.is_none()
            && let Poll::Ready(result) = write.as_mut().poll(context)
        {
            written = Some(result);
        }
        if received.is_none()
            && let Poll::Ready(result) = read.as_mut().poll(context)
        {
            received = Some(result);
        }
        match (&written, &received) {
            (Some((Err(_), _)), None) => Poll::Ready(false),
            (Some(_), Some(_)) => Poll::Ready(true),
            _ => Poll::Pending,
        }
    })
    .await;
    let (Some((sent, outward)), Some((got, inward)), true) = (written, received, done) else { return false };
    (*output, *input) = (outward, inward);
    output.clear();
    sent.is_ok() && matches!(got, Ok(1..))
}
