//! The fields and extensions of a whole ClientHello message.

use super::{Frame, Malformed};

/// What a ClientHello says about where the connection should go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ClientHello<'b> {
    /// Host name as the client wrote it, upper and lower case unchanged (compare without regard to case): letters,
    /// digits, `-`, `_` and `.`, at most 253 bytes, no address, no dot at the end. `None` without a server name
    /// extension, or with names of other types only.
    pub server_name: Option<&'b str>,
    /// Protocols offered within TLS, in the client's order of preference.
    pub alpn: Alpn<'b>,
    /// TLS versions offered.
    pub versions: Versions,
    /// Records that the hello came in.
    pub records: usize,
    /// Bytes of the handshake message, its header of 4 included.
    pub message_bytes: usize,
    /// Bytes that these records take at the start of the connection, headers included.
    pub wire_bytes: usize,
}

/// Reads the message without its header. `types` is memory to use.
pub(super) fn read<'b>(
    body: &'b [u8],
    frame: &Frame,
    types: &mut Vec<u16>,
) -> Result<ClientHello<'b>, Malformed> {
    let mut rest = Reader(body);
    let legacy_version = rest.u16().ok_or(Malformed::Truncated)?;
    rest.take(32).ok_or(Malformed::Truncated)?;
    let session_id = rest.list8().ok_or(Malformed::Truncated)?;
    if session_id.len() > 32 {
        return Err(Malformed::BadSessionId);
    }
    let cipher_suites = rest.list16().ok_or(Malformed::Truncated)?;
    if cipher_suites.is_empty() || cipher_suites.len() % 2 != 0 {
        return Err(Malformed::BadCipherSuites);
    }
    if rest.list8().ok_or(Malformed::Truncated)?.is_empty() {
        return Err(Malformed::BadCompression);
    }
    let mut hello = ClientHello {
        server_name: None,
        alpn: Alpn::default(),
        versions: Versions::up_to(legacy_version),
        records: frame.records,
        message_bytes: frame.message_bytes,
        wire_bytes: frame.wire_bytes,
    };
    // RFC 8446 section 4.1.2: earlier versions may end here.
    if !rest.0.is_empty() {
        let extensions = rest.list16().ok_or(Malformed::Truncated)?;
        if !rest.0.is_empty() {
            return Err(Malformed::TrailingBytes);
        }
        read_extensions(Reader(extensions), types, &mut hello)?;
    }
    Ok(hello)
}

fn read_extensions<'b>(
    mut rest: Reader<'b>,
    types: &mut Vec<u16>,
    hello: &mut ClientHello<'b>,
) -> Result<(), Malformed> {
    const SERVER_NAME: u16 = 0;
    const ALPN: u16 = 16;
    const SUPPORTED_VERSIONS: u16 = 43;
    types.clear();
    // Most types are below 64, so that a bit tells; there may be 4 096 others, which are too many to compare each with each.
    let mut seen = 0_u64;
    while !rest.0.is_empty() {
        let (extension, data) = rest.extension().ok_or(Malformed::Truncated)?;
        if extension < 64 {
            let bit = 1 << extension;
            if seen & bit != 0 {
                return Err(Malformed::DuplicateExtension);
            }
            seen |= bit;
        } else {
            types.push(extension);
        }
        match extension {
            SERVER_NAME => hello.server_name = read_server_names(data)?,
            ALPN => hello.alpn = Alpn::read(data).ok_or(Malformed::BadAlpn)?,
            SUPPORTED_VERSIONS => {
                hello.versions = Versions::read(data).ok_or(Malformed::BadSupportedVersions)?;
            }
            _ => {}
        }
    }
    types.sort_unstable();
    if types.array_windows().any(|[one, next]| one == next) {
        return Err(Malformed::DuplicateExtension);
    }
    Ok(())
}

/// The host name of a server name list (RFC 6066 section 3).
fn read_server_names(data: &[u8]) -> Result<Option<&str>, Malformed> {
    const HOST_NAME: u8 = 0;
    let mut rest = Reader(Reader(data).only_list16().ok_or(Malformed::BadServerNameList)?);
    let (mut host, mut seen) = (None, false);
    while !rest.0.is_empty() {
        // Names of all types, those to come included, begin with a length of two bytes.
        let (Some(of_type), Some(name)) = (rest.u8(), rest.list16()) else {
            return Err(Malformed::BadServerNameList);
        };
        if of_type != HOST_NAME {
            continue;
        }
        if std::mem::replace(&mut seen, true) {
            return Err(Malformed::RepeatedHostName);
        }
        host = read_host_name(name)?;
    }
    Ok(host)
}

/// A DNS name; `None` for an IP address, which RFC 6066 section 3 does not permit and clients that are given one in a URL
/// send nevertheless: it names no host, as for other servers.
fn read_host_name(name: &[u8]) -> Result<Option<&str>, Malformed> {
    const NAME_BYTES_MAX: usize = 253;
    const LABEL_BYTES_MAX: usize = 63;
    if name.is_empty() {
        return Err(Malformed::SniEmpty);
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(Malformed::SniTooLong);
    }
    let text = str::from_utf8(name).map_err(|_| Malformed::SniBadCharacter)?;
    // Where the label began, and whether it is digits only.
    let (mut start, mut numeric, mut bad_label) = (0, true, false);
    for (at, byte) in name.iter().enumerate() {
        match byte {
            b'0'..=b'9' => {}
            b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'_' => numeric = false,
            b'.' => {
                bad_label |= at == start || at - start > LABEL_BYTES_MAX;
                (start, numeric) = (at + 1, true);
            }
            _ if text.parse::<std::net::Ipv6Addr>().is_ok() => return Ok(None),
            _ => return Err(Malformed::SniBadCharacter),
        }
    }
    match name.len() - start {
        0 => Err(Malformed::SniTrailingDot),
        last if bad_label || last > LABEL_BYTES_MAX => Err(Malformed::SniBadLabel),
        _ if numeric => Ok(None),
        _ => Ok(Some(text)),
    }
}

/// Protocol names of the ALPN extension (RFC 7301 section 3.1); empty without one.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Alpn<'b> {
    /// A length byte before each name.
    list: &'b [u8],
}

impl<'b> Alpn<'b> {
    fn read(data: &'b [u8]) -> Option<Self> {
        let list = Reader(data).only_list16()?;
        let mut rest = Reader(list);
        while !rest.0.is_empty() {
            if rest.list8()?.is_empty() {
                return None;
            }
        }
        Some(Self { list })
    }

    /// The names in the client's order, without those that RFC 8701 section 2 reserves.
    pub fn names(self) -> impl Iterator<Item = &'b [u8]> {
        let mut rest = Reader(self.list);
        std::iter::from_fn(move || rest.list8())
            .filter(|name| !matches!(*name, [one, two] if is_grease(u16::from_be_bytes([*one, *two]))))
    }

    /// Whether the client offers `name`, such as `h2`.
    #[must_use]
    pub fn offers(self, name: &[u8]) -> bool {
        self.names().any(|offered| offered == name)
    }
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[repr(u16)]
pub enum TlsVersion {
    /// RFC 2246.
    Tls10 = 0x0301,
    /// RFC 4346.
    Tls11 = 0x0302,
    /// RFC 5246.
    Tls12 = 0x0303,
    /// RFC 8446.
    Tls13 = 0x0304,
}

impl TlsVersion {
    const ALL: [Self; 4] = [Self::Tls10, Self::Tls11, Self::Tls12, Self::Tls13];
}

/// The versions of TLS that a client offers. Unknown ones, drafts and GREASE are left out.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Versions {
    bits: u8,
}

impl Versions {
    /// What a hello without `supported_versions` offers: RFC 8446 section 4.2.1 has TLS 1.2 or before negotiated then,
    /// whatever `legacy_version` is.
    fn up_to(legacy_version: u16) -> Self {
        let offered =
            |version: &TlsVersion| *version as u16 <= legacy_version && *version <= TlsVersion::Tls12;
        TlsVersion::ALL.into_iter().filter(offered).fold(Self::default(), Self::with)
    }

    fn read(data: &[u8]) -> Option<Self> {
        let mut rest = Reader(data);
        let list = rest.list8()?;
        let (pairs, odd) = list.as_chunks();
        if pairs.is_empty() || !odd.is_empty() || !rest.0.is_empty() {
            return None;
        }
        let known = |pair: &[u8; 2]| {
            let value = u16::from_be_bytes(*pair);
            TlsVersion::ALL.into_iter().find(|version| *version as u16 == value)
        };
        Some(pairs.iter().filter_map(known).fold(Self::default(), Self::with))
    }

    const fn with(self, version: TlsVersion) -> Self {
        Self { bits: self.bits | Self::bit(version) }
    }

    /// Bits are in the order of the versions.
    const fn bit(version: TlsVersion) -> u8 {
        1 << (version as u16 - TlsVersion::Tls10 as u16)
    }

    /// Whether the client offers `version`.
    #[must_use]
    pub const fn offers(self, version: TlsVersion) -> bool {
        self.bits & Self::bit(version) != 0
    }

    /// The highest one; `None` when the client offers none that exists.
    #[must_use]
    pub fn highest(self) -> Option<TlsVersion> {
        TlsVersion::ALL.into_iter().rev().find(|version| self.offers(*version))
    }
}

/// RFC 8701 section 2: two equal bytes that end in A.
const fn is_grease(value: u16) -> bool {
    value & 0x0f0f == 0x0a0a && value >> 8 == value & 0xff
}

/// Bytes yet to be read; every method is `None`, and reads nothing further that counts, when they do not suffice.
#[derive(Clone, Copy)]
struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    fn u16(&mut self) -> Option<u16> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*bytes))
    }

    /// A type of two bytes, then what a length of two bytes is in front of.
    fn extension(&mut self) -> Option<(u16, &'b [u8])> {
        let ([type_high, type_low, high, low], rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        let data = self.take(usize::from(u16::from_be_bytes([*high, *low])))?;
        Some((u16::from_be_bytes([*type_high, *type_low]), data))
    }

    /// What a length of one byte is in front of.
    fn list8(&mut self) -> Option<&'b [u8]> {
        let count = self.u8()?;
        self.take(usize::from(count))
    }

    /// What a length of two bytes is in front of.
    fn list16(&mut self) -> Option<&'b [u8]> {
        let count = self.u16()?;
        self.take(usize::from(count))
    }

    /// The same for a list that must not be empty and be all that there is.
    fn only_list16(mut self) -> Option<&'b [u8]> {
        self.list16().filter(|list| !list.is_empty() && self.0.is_empty())
    }
}
