//! Hellos put together by hand, good and bad, for tests.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

/// The fields of a hello before they are bytes.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) legacy_version: u16,
    pub(crate) session_id: Vec<u8>,
    pub(crate) cipher_suites: Vec<u8>,
    pub(crate) compression: Vec<u8>,
    /// Type and data of each; `None` ends the hello before the list.
    pub(crate) extensions: Option<Vec<(u16, Vec<u8>)>>,
    /// Bytes behind all of it, within the message.
    pub(crate) behind: Vec<u8>,
}

impl Sample {
    /// A hello of TLS 1.3 with these extensions.
    pub(crate) fn new(extensions: Vec<(u16, Vec<u8>)>) -> Self {
        Self {
            legacy_version: 0x0303,
            session_id: vec![7; 32],
            cipher_suites: vec![0x13, 0x01, 0x13, 0x02],
            compression: vec![0],
            extensions: Some(extensions),
            behind: Vec::new(),
        }
    }

    /// The handshake message.
    pub(crate) fn message(&self) -> Vec<u8> {
        let mut body = self.legacy_version.to_be_bytes().to_vec();
        body.extend_from_slice(&[0x5a; 32]);
        body.extend(list8(&self.session_id));
        body.extend(list16(&self.cipher_suites));
        body.extend(list8(&self.compression));
        if let Some(extensions) = &self.extensions {
            let mut all = Vec::new();
            for (of_type, data) in extensions {
                all.extend_from_slice(&of_type.to_be_bytes());
                all.extend(list16(data));
            }
            body.extend(list16(&all));
        }
        body.extend_from_slice(&self.behind);
        let mut message = (1 << 24 | u32::try_from(body.len()).unwrap()).to_be_bytes().to_vec();
        message.append(&mut body);
        message
    }

    /// The message in one record.
    pub(crate) fn one_record(&self) -> Vec<u8> {
        let message = self.message();
        records(&message, &[message.len()])
    }
}

/// What a browser offers a host, without what does not matter here.
pub(crate) fn typical(host: &str) -> Sample {
    Sample::new(vec![
        (0x2a2a, vec![]),
        (0, sni(host)),
        (16, alpn(&["h2", "http/1.1"])),
        (43, versions(&[0x7a7a, 0x0304, 0x0303])),
        (0xff01, vec![0]),
        (0x8a8a, vec![0]),
    ])
}

/// `message` in records of these sizes in turn, the last size again and again.
pub(crate) fn records(message: &[u8], sizes: &[usize]) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), message);
    let mut sizes = sizes.iter().copied();
    let mut size = 1;
    while !rest.is_empty() {
        size = sizes.next().unwrap_or(size);
        let (fragment, behind) = rest.split_at(size.clamp(1, rest.len()));
        bytes.extend_from_slice(&[22, 3, 1]);
        bytes.extend(list16(fragment));
        rest = behind;
    }
    bytes
}

/// Data of a server name extension with this host name.
pub(crate) fn sni(host: &str) -> Vec<u8> {
    list16(&[&[0][..], &list16(host.as_bytes())].concat())
}

/// Data of an ALPN extension.
pub(crate) fn alpn(names: &[&str]) -> Vec<u8> {
    list16(&names.iter().flat_map(|name| list8(name.as_bytes())).collect::<Vec<_>>())
}

/// Data of a client's supported versions.
pub(crate) fn versions(versions: &[u16]) -> Vec<u8> {
    list8(&versions.iter().flat_map(|version| version.to_be_bytes()).collect::<Vec<_>>())
}

/// `data` behind its length in one byte.
pub(crate) fn list8(data: &[u8]) -> Vec<u8> {
    [&[u8::try_from(data.len()).unwrap()], data].concat()
}

/// `data` behind its length in two bytes.
pub(crate) fn list16(data: &[u8]) -> Vec<u8> {
    [&u16::try_from(data.len()).unwrap().to_be_bytes()[..], data].concat()
}
