//! One TLS connection as four calls: [`Machine::feed`] takes records, [`Machine::take_plain`] gives what they held,
//! [`Machine::encrypt`] makes records, [`Machine::take_output`] gives those that the handshake, an alert or a key update
//! made.
//!
//! It stands on rustls' unbuffered API: records are decrypted where they were received. What the kernel has in an
//! operation is never part of it: a partial record stays here until its rest has come, so that the other direction can
//! go on meanwhile (rustls looks at a partial handshake message whenever it is asked for anything).

use std::sync::Arc;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{ClientConfig, CommonState, HandshakeKind, ProtocolVersion, ServerConfig};

use crate::sys::buffer::{Buffer, Class};

/// Bytes that a record adds to its content at most (RFC 5246 section 6.2.3, RFC 8446 section 5.2).
const RECORD_OVERHEAD_MAX: usize = 64;

/// Content of a record (RFC 8446 section 5.1).
const RECORD_CONTENT_MAX: usize = 16 * 1024;

/// Bytes that may wait for the rest of their record or handshake message. rustls bounds both; this bounds a change of it.
const HELD_BYTES_MAX: usize = 128 * 1024;

/// Why a connection can not go on. The alert that says it to the peer is in the output.
#[derive(Clone, Debug, PartialEq)]
pub struct TlsError(pub rustls::Error);

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        Self(error)
    }
}

/// One side of a TLS connection.
pub struct Machine {
    side: Side,
    flow: Flow,
    closed: bool,
    failed: bool,
}

enum Side {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// The bytes between rustls and the two users of it.
#[derive(Default)]
struct Flow {
    /// Received and not yet used: part of a record or of a handshake message.
    held: Buffer,
    /// Decrypted and not yet taken.
    plain: Buffer,
    /// To be sent before anything encrypted later.
    output: Vec<u8>,
    peer_closed: bool,
}

/// What both of rustls' connection types have.
trait Records {
    type Data;

    fn process<'c, 'i>(&'c mut self, received: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;

    fn wants_write(&self) -> bool;
}

impl Records for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, received: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(received)
    }

    fn wants_write(&self) -> bool {
        (**self).wants_write()
    }
}

impl Records for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, received: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(received)
    }

    fn wants_write(&self) -> bool {
        (**self).wants_write()
    }
}

/// What [`Machine::drive`] stops for.
enum Stop {
    /// Everything received was used; application data may be sent or the handshake waits.
    Idle,
    /// The bytes that were asked for are encrypted.
    Sent,
}

/// What a drive is for.
#[derive(Clone, Copy)]
enum Task<'t> {
    Close,
    Encrypt(&'t [u8]),
    Receive,
}

impl Machine {
    /// The server's side: a connection that waits for a ClientHello.
    ///
    /// # Errors
    /// When the configuration can not serve at all.
    pub fn new(config: Arc<ServerConfig>) -> Result<Self, TlsError> {
        Ok(Self::of(Side::Server(UnbufferedServerConnection::new(config)?)))
    }

    /// The client's side, towards a server of this name; its ClientHello is in the output.
    ///
    /// # Errors
    /// When the configuration can not ask for a connection at all.
    pub fn connect(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, TlsError> {
        let mut machine = Self::of(Side::Client(UnbufferedClientConnection::new(config, name)?));
        machine.drive(Task::Receive, &mut Buffer::default())?;
        Ok(machine)
    }

    fn of(side: Side) -> Self {
        Self { side, flow: Flow::default(), closed: false, failed: false }
    }

    /// Takes bytes from the peer; whole records in them are used at once. What they held goes behind the content of
    /// `into`, and where that has no room is kept for [`Self::take_plain`].
    ///
    /// # Errors
    /// When they are not what TLS allows here; nothing can be received any more.
    pub fn feed(&mut self, received: Buffer, into: &mut Buffer) -> Result<(), TlsError> {
        if self.failed {
            return Err(over());
        }
        if self.flow.held.is_empty() {
            self.flow.held = received;
        } else {
            self.flow.held.compact();
            self.flow.held.extend(received.filled());
        }
        let fed = self.drive(Task::Receive, into);
        if self.flow.held.is_empty() {
            self.flow.held = Buffer::default();
        } else if self.flow.held.len() > HELD_BYTES_MAX {
            self.failed = true;
            return Err(TlsError(rustls::Error::General("a message that is too long".to_owned())));
        }
        self.failed |= fed.is_err();
        fed.map(|_| ())
    }

    /// Moves decrypted bytes behind the content of `into`, as many as it has room for; returns how many.
    pub fn take_plain(&mut self, into: &mut Buffer) -> usize {
        let count = self.flow.plain.len().min(into.spare());
        if count > 0 && count == self.flow.plain.len() && into.total() == 0 && count > Class::Small.bytes() {
            // A large piece changes hands instead of being copied.
            std::mem::swap(into, &mut self.flow.plain);
        } else {
            into.extend(self.flow.plain.filled().get(..count).unwrap_or_default());
            self.flow.plain.consume(count);
        }
        if self.flow.plain.is_empty() {
            self.flow.plain = Buffer::default();
        }
        count
    }

    /// Encrypts `plain`, after what waits in the output, and appends all of it to `into`.
    ///
    /// # Errors
    /// When the connection has failed or its keys are used up.
    pub fn encrypt(&mut self, plain: &[u8], into: &mut Buffer) -> Result<(), TlsError> {
        self.run_task(Task::Encrypt(plain), into)
    }

    /// Says that nothing follows (close_notify, RFC 8446 section 6.1); appends it to `into`. Once.
    ///
    /// # Errors
    /// When the connection has failed or the handshake is not over.
    pub fn close(&mut self, into: &mut Buffer) -> Result<(), TlsError> {
        if std::mem::replace(&mut self.closed, true) {
            return Ok(());
        }
        self.run_task(Task::Close, into)
    }

    fn run_task(&mut self, task: Task<'_>, into: &mut Buffer) -> Result<(), TlsError> {
        if self.failed || self.is_handshaking() {
            return Err(over());
        }
        match self.drive(task, into)? {
            Stop::Sent => Ok(()),
            Stop::Idle => Err(TlsError(rustls::Error::EncryptError)),
        }
    }

    /// Appends what is to be sent before anything else; returns whether there was something.
    pub fn take_output(&mut self, into: &mut Buffer) -> bool {
        let some = !self.flow.output.is_empty();
        into.extend(&self.flow.output);
        self.flow.output = Vec::new();
        some
    }

    /// Whether the handshake is under way.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        self.common().is_handshaking()
    }

    /// Whether the handshake resumed a session (a pre-shared key or a TLS 1.2 ticket).
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.common().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The peer's certificates, its own first; empty where it showed none.
    #[must_use]
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        self.common().peer_certificates().unwrap_or_default()
    }

    /// The protocol chosen by ALPN.
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        self.common().alpn_protocol()
    }

    /// The version as OpenSSL calls it; `None` before it is settled.
    #[must_use]
    pub fn version(&self) -> Option<&'static str> {
        match self.common().protocol_version()? {
            ProtocolVersion::TLSv1_2 => Some("TLSv1.2"),
            ProtocolVersion::TLSv1_3 => Some("TLSv1.3"),
            _ => None,
        }
    }

    /// Whether decrypted bytes wait to be taken.
    #[must_use]
    pub fn has_plain(&self) -> bool {
        !self.flow.plain.is_empty()
    }

    /// Whether part of a record is here and its rest is not.
    #[must_use]
    pub fn is_mid_record(&self) -> bool {
        !self.flow.held.is_empty()
    }

    /// Whether the peer said that nothing follows: the end of its bytes is no truncation.
    #[must_use]
    pub const fn is_peer_closed(&self) -> bool {
        self.flow.peer_closed
    }

    /// Whether nothing can be received or sent any more.
    #[must_use]
    pub const fn has_failed(&self) -> bool {
        self.failed
    }

    fn drive(&mut self, task: Task<'_>, into: &mut Buffer) -> Result<Stop, TlsError> {
        match &mut self.side {
            Side::Client(connection) => self.flow.drive(connection, task, into),
            Side::Server(connection) => self.flow.drive(connection, task, into),
        }
    }

    fn common(&self) -> &CommonState {
        match &self.side {
            Side::Client(connection) => connection,
            Side::Server(connection) => connection,
        }
    }
}

impl Flow {
    /// Lets rustls use what was received until it needs more, or until the task is done. `into` is for decrypted bytes
    /// where the task is to receive, for records otherwise.
    fn drive<C: Records>(
        &mut self,
        connection: &mut C,
        task: Task<'_>,
        into: &mut Buffer,
    ) -> Result<Stop, TlsError> {
        let Self { held, plain, output, peer_closed } = self;
        loop {
            let UnbufferedStatus { mut discard, state } = connection.process(held.filled_mut());
            let state = match state {
                Ok(state) => state,
                Err(error) => {
                    held.consume(discard);
                    encode_alerts(connection, held, output);
                    return Err(error.into());
                }
            };
            let mut stop = None;
            match state {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        let receives = matches!(task, Task::Receive) && plain.is_empty();
                        if receives && into.spare() >= record.payload.len() {
                            into.extend(record.payload);
                        } else {
                            append(plain, record.payload);
                        }
                    }
                }
                ConnectionState::EncodeTlsData(mut data) => encode(output, |room| data.encode(room))?,
                // It goes out before anything else; to rustls it is sent.
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::PeerClosed => *peer_closed = true,
                ConnectionState::WriteTraffic(mut traffic) => {
                    if !matches!(task, Task::Receive) {
                        into.extend(output);
                        output.clear();
                    }
                    let written = match task {
                        Task::Receive => Ok(()),
                        Task::Close => {
                            write(into, RECORD_OVERHEAD_MAX, |room| traffic.queue_close_notify(room))
                        }
                        Task::Encrypt(bytes) => {
                            let records = bytes.len().div_ceil(RECORD_CONTENT_MAX);
                            write(into, bytes.len() + records * RECORD_OVERHEAD_MAX, |room| {
                                traffic.encrypt(bytes, room)
                            })
                        }
                    };
                    written?;
                    stop = Some(if matches!(task, Task::Receive) { Stop::Idle } else { Stop::Sent });
                }
                ConnectionState::BlockedHandshake | ConnectionState::Closed => stop = Some(Stop::Idle),
                // Early data is neither accepted (`max_early_data_size` is 0) nor sent.
                _ => return Err(TlsError(rustls::Error::General("an unknown state".to_owned()))),
            }
            held.consume(discard);
            if let Some(stop) = stop {
                return Ok(stop);
            }
        }
    }
}

fn over() -> TlsError {
    TlsError(rustls::Error::General("the connection is over".to_owned()))
}

/// Appends decrypted bytes; the first go into a buffer of the class that holds them.
fn append(plain: &mut Buffer, bytes: &[u8]) {
    if plain.is_placeholder() {
        let class = if bytes.len() > Class::Small.bytes() { Class::Medium } else { Class::Small };
        *plain = Buffer::new(class);
    }
    plain.extend(bytes);
}

/// After an error, what rustls wants the peer to hear. It must not be asked for anything else: it would take the same
/// bytes for new ones.
fn encode_alerts<C: Records>(connection: &mut C, held: &mut Buffer, output: &mut Vec<u8>) {
    while connection.wants_write() {
        let Ok(ConnectionState::EncodeTlsData(mut data)) = connection.process(held.filled_mut()).state else {
            return;
        };
        if encode(output, |room| data.encode(room)).is_err() {
            return;
        }
    }
}

fn encode(
    output: &mut Vec<u8>,
    mut into: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
) -> Result<(), TlsError> {
    let from = output.len();
    let mut room = 1024;
    loop {
        output.resize(from + room, 0);
        match into(output.get_mut(from..).unwrap_or_default()) {
            Ok(count) => {
                output.truncate(from + count);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(size)) if size.required_size > room => {
                room = size.required_size;
            }
            Err(_) => {
                output.truncate(from);
                return Err(TlsError(rustls::Error::EncryptError));
            }
        }
    }
}

fn write(
    into: &mut Buffer,
    mut room: usize,
    mut encrypt: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
) -> Result<(), TlsError> {
    let mut result = Err(TlsError(rustls::Error::EncryptError));
    into.append_with(|bytes| {
        let from = bytes.len();
        loop {
            bytes.resize(from + room, 0);
            match encrypt(bytes.get_mut(from..).unwrap_or_default()) {
                Ok(count) => {
                    bytes.truncate(from + count);
                    result = Ok(());
                    return;
                }
                // A key update goes out with the content.
                Err(EncryptError::InsufficientSize(size)) if size.required_size > room => {
                    room = size.required_size;
                }
                Err(_) => return bytes.truncate(from),
            }
        }
    });
    result
}

#[cfg(test)]
mod tests;
