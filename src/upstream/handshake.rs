//! A TLS handshake as the client (RFC 8446 section 2, RFC 5246 section 7.3), and what an endpoint's sessions are resumed
//! from.
//!
//! Each endpoint of each shard remembers its own sessions, so that no shard waits for another and no endpoint is shown
//! another's tickets.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::{ServerName, UnixTime};

use super::pool::Connection;
use crate::config::model::UpstreamTls;
use crate::gateway::stream::ByteStream;
use crate::shard::Shard;
use crate::shard::deadlines::OnDue;
use crate::sys::buffer::{Buffer, Class};
use crate::tls::fault::TlsFault;
use crate::tls::machine::{Machine, TlsError};

/// Tickets of TLS 1.3 that are kept; of TLS 1.2 there is one session.
const TICKETS_KEPT: usize = 8;

/// TLS towards one endpoint.
pub struct Origination {
    settings: Arc<UpstreamTls>,
    /// Whom the certificate is to be for, and where it is a DNS name what is sent.
    name: ServerName<'static>,
    /// With the memory of this endpoint's sessions.
    config: RefCell<Arc<ClientConfig>>,
}

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unsecured {
    /// For this reason.
    Failed(TlsFault),
    /// It took too long.
    TimedOut,
}

impl Origination {
    /// TLS towards this address.
    #[must_use]
    pub fn new(settings: &Arc<UpstreamTls>, address: SocketAddr) -> Self {
        let by_address = || ServerName::IpAddress(address.ip().to_canonical().into());
        Self {
            name: settings.sni.clone().unwrap_or_else(by_address),
            config: RefCell::new(with_memory(settings)),
            settings: Arc::clone(settings),
        }
    }

    /// Makes a handshake within `time`. Afterwards the connection's bytes go through TLS.
    pub(super) async fn handshake(
        &self,
        shard: &Shard,
        connection: &Connection,
        time: Duration,
    ) -> Result<(), Unsecured> {
        connection.timer.arm(time, OnDue::ShutBoth);
        let made = self.exchange(connection).await;
        connection.timer.disarm();
        if connection.timer.fired() {
            return Err(Unsecured::TimedOut);
        }
        let machine = made.map_err(Unsecured::Failed)?;
        if machine.is_resumed() {
            self.look_again(&machine).map_err(Unsecured::Failed)?;
            shard.stats.upstream_tls_resumed.add();
        }
        shard.stats.upstream_tls_handshakes.add();
        connection.wire.start_tls(shard, machine, ());
        Ok(())
    }

    async fn exchange(&self, connection: &Connection) -> Result<Machine, TlsFault> {
        let config = Arc::clone(&self.config.borrow());
        let fault = |TlsError(error)| TlsFault::of(&error);
        let mut machine = Machine::connect(config, self.name.clone()).map_err(fault)?;
        let mut fed = Ok(());
        loop {
            let mut output = Buffer::new(Class::Small);
            if machine.take_output(&mut output) {
                let (sent, _) = connection.wire.write_all(output, || ()).await;
                // Where it failed, the alert may not have reached the endpoint.
                if sent.is_err() && fed.is_ok() {
                    return Err(TlsFault::Closed);
                }
            }
            fed.map_err(fault)?;
            if !machine.is_handshaking() {
                return Ok(machine);
            }
            // An endpoint may take its time: it is waited for without a buffer.
            let ready = connection.wire.readable().await;
            let (result, received) = connection.wire.read(Buffer::new(Class::Medium)).await;
            if ready.is_err() || !matches!(result, Ok(1..)) {
                return Err(TlsFault::Closed);
            }
            fed = machine.feed(received, &mut Buffer::default());
        }
    }

    /// rustls takes a resumed session's certificate as it was verified then; it may have ended since, or the list of
    /// revoked ones has. The sessions are forgotten then: another certificate may be there by now.
    fn look_again(&self, machine: &Machine) -> Result<(), TlsFault> {
        let verified = match machine.peer_certificates() {
            [] => return Ok(()),
            [leaf, chain @ ..] => {
                self.settings.verifier.verify_server_cert(leaf, chain, &self.name, &[], UnixTime::now())
            }
        };
        verified.map(|_| ()).map_err(|error| {
            *self.config.borrow_mut() = with_memory(&self.settings);
            TlsFault::of(&error)
        })
    }
}

fn with_memory(settings: &UpstreamTls) -> Arc<ClientConfig> {
    let mut config = ClientConfig::clone(&settings.config);
    config.resumption = Resumption::in_memory_sessions(TICKETS_KEPT);
    Arc::new(config)
}
