//! TLS over the generator's own buffers, without I/O. All of the library's interface for that is used here.

use rustls::client::UnbufferedClientConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{CertificateError, Error, HandshakeKind};

use ringgate::sys::buffer::{Buffer, Class};

use super::trust::Client;

/// Room that a message mostly needs beside its content: of a record's head and tag, of an alert.
const OVERHEAD: usize = 256;

/// Content of a record, at most.
const RECORD: usize = 16 * 1024;

/// Types of records: an alert, and any that is encrypted with TLS 1.3.
const ALERT: u8 = 21;
const ENCRYPTED: u8 = 23;

/// What came of the records that are there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Event {
    /// Plaintext was appended; there may be more.
    Plain,
    /// More records are needed to go on.
    Starved,
    /// The server has ended its direction in order.
    Closed,
}

/// One connection's state.
pub(super) struct Session {
    connection: UnbufferedClientConnection,
    /// Records received and not yet taken.
    pub(super) records: Buffer,
    /// Records to be sent, in front of whatever comes next.
    pub(super) sealed: Buffer,
    closed: bool,
}

impl Session {
    /// A session that begins.
    pub(super) fn new(client: &Client) -> Result<Self, Error> {
        Ok(Self {
            connection: UnbufferedClientConnection::new(client.config.clone(), client.name.clone())?,
            records: Buffer::new(Class::Medium),
            sealed: Buffer::new(Class::Small),
            closed: false,
        })
    }

    /// Whether requests can not be sent yet.
    pub(super) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// How the handshake went; `None` before it is known.
    pub(super) fn kind(&self) -> Option<HandshakeKind> {
        self.connection.handshake_kind()
    }

    /// Whether a later connection can resume this one.
    pub(super) fn is_resumable(&self) -> bool {
        // Sessions of TLS 1.2 are known when the handshake has ended, tickets of TLS 1.3 come behind it.
        self.connection.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_2)
            || self.connection.tls13_tickets_received() > 0
    }

    /// What was agreed on: version, cipher suite, key exchange.
    pub(super) fn agreed(&self) -> [String; 3] {
        let version = match self.connection.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => "1.2",
            Some(rustls::ProtocolVersion::TLSv1_3) => "1.3",
            _ => "",
        };
        let suite = self.connection.negotiated_cipher_suite();
        let group = self.connection.negotiated_key_exchange_group();
        [
            version.to_owned(),
            suite.map(|suite| format!("{:?}", suite.suite())).unwrap_or_default(),
            group.map(|group| format!("{:?}", group.name())).unwrap_or_default(),
        ]
    }

    /// Takes records up to the next plaintext, which is appended to `plain`.
    #[inline]
    pub(super) fn next(&mut self, plain: &mut Buffer) -> Result<Event, Error> {
        self.advance(plain, None)
    }

    /// Encrypts `content` behind what is to be sent.
    pub(super) fn seal(&mut self, content: &[u8]) -> Result<(), Error> {
        let mut unexpected = Buffer::default();
        self.advance(&mut unexpected, Some(content)).map(|_| ())
    }

    /// Says that this end sends no more.
    pub(super) fn close(&mut self) -> Result<(), Error> {
        self.seal(&[])
    }

    /// One step for all: the library tells what it is about to do, and refuses to be asked twice.
    fn advance(&mut self, plain: &mut Buffer, content: Option<&[u8]>) -> Result<Event, Error> {
        loop {
            let sealed = &mut self.sealed;
            let UnbufferedStatus { mut discard, state } =
                self.connection.process_tls_records(self.records.filled_mut());
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

    /// After an error: puts the alert that tells the server of it behind what is to be sent.
    pub(super) fn alert(&mut self) {
        // What is to be sent comes first, and the alert is the last of that. The library must not be asked for more
        // behind it: it would panic at the error that it finds again.
        loop {
            let UnbufferedStatus { discard, state } =
                self.connection.process_tls_records(self.records.filled_mut());
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

/// What a failed handshake means to the user, and what to do.
pub(super) fn explain(error: &Error, name: &str) -> String {
    let advice = match error {
        // A root of the right name, but with another key.
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "its certificate is signed by none of the trusted roots: give the root with --ca, or measure without \
             verification (--insecure)"
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "give a name that it has with --sni, or --insecure",
        Error::InvalidCertificate(_) if error.to_string().contains("CaUsedAsEndEntity") => {
            "a root certificate can not be the server's own as well: sign one with it, or verify nothing with --insecure"
        }
        Error::InvalidCertificate(_) => "verify nothing with --insecure",
        Error::AlertReceived(_) | Error::PeerIncompatible(_) => {
            "the server refuses what is offered: see --tls-version, --tls-key-exchange and --sni"
        }
        Error::InvalidMessage(_) => "is this a port for TLS?",
        _ => return format!("TLS with `{name}`: {error}"),
    };
    format!("TLS with `{name}`: {error}; {advice}")
}
