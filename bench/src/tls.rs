//! TLS over the harness's own buffers, without I/O: the client's side for `load`, the server's for `backend`. All of the
//! library's interface for records is used here, and none of the gateway's.

use rustls::Error;
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};

use ringgate::sys::buffer::{Buffer, Class};

/// Room that a message mostly needs beside its content: of a record's head and tag, of an alert.
const OVERHEAD: usize = 256;

/// Content of a record, at most.
const RECORD: usize = 16 * 1024;

/// Largest handshake message with what is received behind it.
pub(crate) const RECEIVED_MAX: usize = Class::Large.bytes();

/// Types of records: an alert, and any that is encrypted with TLS 1.3.
const ALERT: u8 = 21;
const ENCRYPTED: u8 = 23;

/// What came of the records that are there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Event {
    /// Plaintext was appended; there may be more.
    Plain,
    /// More records are needed to go on.
    Starved,
    /// The peer has ended its direction in order.
    Closed,
}

/// A side of a connection as the library has it.
pub(crate) trait Side {
    /// What the library's states carry.
    type Data;

    /// Looks at received records.
    fn process<'c, 'i>(&'c mut self, records: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;

    /// Whether application data can not be sent yet.
    fn is_handshaking(&self) -> bool;
}

impl Side for UnbufferedClientConnection {
    type Data = rustls::client::ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, records: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(records)
    }

    fn is_handshaking(&self) -> bool {
        (**self).is_handshaking()
    }
}

impl Side for UnbufferedServerConnection {
    type Data = rustls::server::ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, records: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(records)
    }

    fn is_handshaking(&self) -> bool {
        (**self).is_handshaking()
    }
}

/// One connection's state.
pub(crate) struct Session<S> {
    pub(crate) connection: S,
    /// Records received and not yet taken.
    pub(crate) records: Buffer,
    /// Records to be sent, in front of whatever comes next.
    pub(crate) sealed: Buffer,
    closed: bool,
}

impl<S: Side> Session<S> {
    /// A session that begins.
    pub(crate) fn new(connection: S) -> Self {
        Self {
            connection,
            records: Buffer::new(Class::Medium),
            sealed: Buffer::new(Class::Small),
            closed: false,
        }
    }

    /// Whether application data can not be sent yet.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Takes records up to the next plaintext, which is appended to `plain`.
    #[inline]
    pub(crate) fn next(&mut self, plain: &mut Buffer) -> Result<Event, Error> {
        self.advance(plain, None)
    }

    /// Encrypts `content` behind what is to be sent.
    pub(crate) fn seal(&mut self, content: &[u8]) -> Result<(), Error> {
        let mut unexpected = Buffer::default();
        self.advance(&mut unexpected, Some(content)).map(|_| ())
    }

    /// Says that this end sends no more.
    pub(crate) fn close(&mut self) -> Result<(), Error> {
        self.seal(&[])
    }

    /// One step for all: the library tells what it is about to do, and refuses to be asked twice.
    fn advance(&mut self, plain: &mut Buffer, content: Option<&[u8]>) -> Result<Event, Error> {
        loop {
            let sealed = &mut self.sealed;
            let UnbufferedStatus { mut discard, state } = self.connection.process(self.records.filled_mut());
            let mut event = None;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        plain.extend(record.payload);
                        discard += record.discard;
                    }
                    event = Some(Event::Plain);
                }
                Ok(ConnectionState::EncodeTlsData(mut message)) => append(sealed, OVERHEAD, |room| {
                    message.encode(room).map_err(|error| match error {
                        EncodeError::InsufficientSize(size) => Some(size.required_size),
                        EncodeError::AlreadyEncoded => None,
                    })
                })?,
                // It will be: everything in `sealed` is sent before anything else.
                Ok(ConnectionState::TransmitTlsData(message)) => message.done(),
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                    self.closed = true;
                    event = Some(Event::Closed);
                }
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    let required = |error| match error {
                        EncryptError::InsufficientSize(size) => Some(size.required_size),
                        EncryptError::EncryptExhausted => None,
                    };
                    match content {
                        None => {}
                        Some([]) => append(sealed, OVERHEAD, |room| {
                            traffic.queue_close_notify(room).map_err(required)
                        })?,
                        Some(content) => {
                            let room = content.len() + OVERHEAD * (1 + content.len() / RECORD);
                            append(sealed, room, |room| traffic.encrypt(content, room).map_err(required))?;
                        }
                    }
                    event = Some(if self.closed { Event::Closed } else { Event::Starved });
                }
                Ok(_) => event = Some(if self.closed { Event::Closed } else { Event::Starved }),
                Err(error) => {
                    self.records.consume(discard);
                    return Err(error);
                }
            }
            self.records.consume(discard);
            if let Some(event) = event
                && !(event == Event::Plain && content.is_some())
            {
                return Ok(event);
            }
        }
    }

    /// After an error: puts the alert that tells the peer of it behind what is to be sent.
    pub(crate) fn alert(&mut self) {
        // What is to be sent comes first, and the alert is the last of that. The library must not be asked for more
        // behind it: it would panic at the error that it finds again.
        loop {
            let UnbufferedStatus { discard, state } = self.connection.process(self.records.filled_mut());
            let Ok(ConnectionState::EncodeTlsData(mut message)) = state else { return };
            let start = self.sealed.len();
            let encoded = append(&mut self.sealed, OVERHEAD, |room| message.encode(room).map_err(|_| None));
            self.records.consume(discard);
            let kind = self.sealed.filled().get(start).copied();
            if encoded.is_err() || kind == Some(ALERT) || kind == Some(ENCRYPTED) {
                return;
            }
        }
    }
}

/// Lets `write` append to `buffer`; it says how much room it needs where `room` is too little.
fn append(
    buffer: &mut Buffer,
    room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>,
) -> Result<(), Error> {
    let mut written = Err(Some(room));
    buffer.append_with(|bytes| {
        let start = bytes.len();
        // A second time when it asked for more.
        for _ in 0..2 {
            let Err(Some(room)) = written else { break };
            bytes.resize(start + room, 0);
            written = write(bytes.get_mut(start..).unwrap_or_default());
        }
        bytes.truncate(start + written.unwrap_or(0));
    });
    written.map(|_| ()).map_err(|_| Error::General("no more may be encrypted on this connection".to_owned()))
}
