//! The fields that decide about framing and persistence, gathered over one head (RFC 9112 sections 6.3 and 9.3).
//!
//! `request` and `response` feed each such field in order and then judge: a request is refused, a response is a fault.

use super::scan::is_token;
use super::wire::parse_decimal;
use crate::message::Version;

/// Most members that `Connection` fields may have in all; keeps the work of dropping nominated fields bounded.
pub(super) const CONNECTION_MEMBERS_MAX: usize = 32;

/// The members of a comma-separated list without white space; empty members are skipped (RFC 9110 section 5.6.1.2).
pub(super) fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim).filter(|member| !member.is_empty())
}

/// `bytes` without SP and HTAB around them.
pub(super) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// What the `Connection` fields of a head say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Connection {
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) upgrade: bool,
    pub(super) members: usize,
}

impl Connection {
    /// Adds one field.
    #[inline]
    pub(super) fn add(&mut self, value: &[u8]) {
        for member in members(value) {
            self.members += 1;
            self.close |= member.eq_ignore_ascii_case(b"close");
            self.keep_alive |= member.eq_ignore_ascii_case(b"keep-alive");
            self.upgrade |= member.eq_ignore_ascii_case(b"upgrade");
        }
    }

    /// Whether the sender keeps the connection open (RFC 9112 section 9.3).
    pub(super) fn persists(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }

    /// Whether there are more members than anyone has a use for.
    pub(super) fn is_excessive(&self) -> bool {
        self.members > CONNECTION_MEMBERS_MAX
    }
}

/// What the `Transfer-Encoding` fields of a head say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TransferCodings {
    /// There is a field.
    pub(super) present: bool,
    chunked: bool,
    malformed: bool,
    unknown: bool,
}

/// Verdict on the transfer codings of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Codings {
    /// No field.
    Absent,
    /// `chunked`, once and alone.
    Chunked,
    /// Empty or malformed members, parameters, or `chunked` not last or repeated.
    Malformed,
    /// Codings other than `chunked`.
    Unknown,
}

impl TransferCodings {
    /// Adds one field; its members continue the list of the fields before it.
    pub(super) fn add(&mut self, value: &[u8]) {
        self.present = true;
        for coding in value.split(|byte| *byte == b',').map(trim) {
            // Whatever comes behind `chunked`, a second `chunked` included, leaves the end of the content unknown.
            self.malformed |= self.chunked || !is_token(coding);
            if coding.eq_ignore_ascii_case(b"chunked") {
                self.chunked = true;
            } else {
                self.unknown = true;
            }
        }
    }

    pub(super) fn verdict(&self) -> Codings {
        match self {
            Self { present: false, .. } => Codings::Absent,
            Self { malformed: true, .. } => Codings::Malformed,
            Self { unknown: true, .. } => Codings::Unknown,
            _ => Codings::Chunked,
        }
    }
}

/// What the `Content-Length` fields of a head say.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Length {
    /// No field.
    #[default]
    Absent,
    /// Malformed, out of range, or differing.
    Bad,
    /// One value.
    Known(u64),
    /// Several fields with one value.
    Repeated(u64),
}

impl Length {
    /// Adds one field.
    #[inline]
    pub(super) fn add(&mut self, value: &[u8]) {
        *self = match (*self, parse_decimal(value)) {
            (Self::Absent, Some(length)) => Self::Known(length),
            (Self::Known(known) | Self::Repeated(known), Some(length)) if known == length => {
                Self::Repeated(known)
            }
            _ => Self::Bad,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codings(fields: &[&str]) -> Codings {
        let mut codings = TransferCodings::default();
        fields.iter().for_each(|field| codings.add(field.as_bytes()));
        codings.verdict()
    }

    /// Only one `chunked` is framing; where it is not last or not well-formed, nothing is known.
    #[test]
    fn judges_transfer_codings() {
        assert_eq!(codings(&[]), Codings::Absent);
        for good in ["chunked", "Chunked", "CHUNKED"] {
            assert_eq!(codings(&[good]), Codings::Chunked, "{good}");
        }
        for bad in [
            "",
            ",",
            "chunked,",
            ",chunked",
            "chunked, chunked",
            "chunked, gzip",
            "chunked;q=1",
            "chunked chunked",
            "\"chunked\"",
            "chunked\u{b}",
            "gzip, chunked, chunked",
            "chunked;",
            "gzip;x=1, chunked",
        ] {
            assert_eq!(codings(&[bad]), Codings::Malformed, "{bad:?}");
        }
        for unknown in ["gzip", "identity", "foo", "xchunked", "gzip, chunked", "chunked_", "gzip, deflate"] {
            assert_eq!(codings(&[unknown]), Codings::Unknown, "{unknown:?}");
        }
        assert_eq!(codings(&["chunked", "chunked"]), Codings::Malformed);
        assert_eq!(codings(&["chunked", "gzip"]), Codings::Malformed);
        assert_eq!(codings(&["gzip", "chunked"]), Codings::Unknown);
        assert_eq!(codings(&["", "chunked"]), Codings::Malformed);
    }

    /// Equal lengths are told from one length; anything else is bad and stays bad.
    #[test]
    fn judges_lengths() {
        let length = |fields: &[&str]| {
            let mut length = Length::default();
            fields.iter().for_each(|field| length.add(field.as_bytes()));
            length
        };
        assert_eq!(length(&[]), Length::Absent);
        assert_eq!(length(&["5"]), Length::Known(5));
        assert_eq!(length(&["0"]), Length::Known(0));
        assert_eq!(length(&["5", "5"]), Length::Repeated(5));
        assert_eq!(length(&["5", "05", "5"]), Length::Repeated(5));
        for bad in
            [&["5", "6"][..], &["5", "6", "5"], &["x", "5"], &["5", ""], &["5, 5"], &["+5"], &["x", "5", "5"]]
        {
            assert_eq!(length(bad), Length::Bad, "{bad:?}");
        }
    }

    /// Persistence by version and member, over several fields, in any case.
    #[test]
    fn judges_persistence() {
        for (fields, in_10, in_11) in [
            (&[][..], false, true),
            (&["close"], false, false),
            (&["Keep-Alive"], true, true),
            (&["keep-alive, close"], false, false),
            (&["x", " , CLOSE ,"], false, false),
            (&["closed", "keep-alive-ish"], false, true),
        ] {
            let mut connection = Connection::default();
            fields.iter().for_each(|field| connection.add(field.as_bytes()));
            assert_eq!(connection.persists(Version::Http10), in_10, "{fields:?}");
            assert_eq!(connection.persists(Version::Http11), in_11, "{fields:?}");
        }
    }

    /// White space is trimmed on both sides, also where nothing else is there.
    #[test]
    fn trims() {
        assert_eq!(trim(b" \t a b\t "), b"a b");
        assert_eq!(trim(b" \t "), b"");
        assert_eq!(members(b" a ,, b,").collect::<Vec<_>>(), [b"a", b"b"]);
    }
}
