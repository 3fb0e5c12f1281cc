//! Properties of generated hellos: what was put in is read, however it is cut, and rustls reads no other name.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::HashSet;

use proptest::prelude::*;
use proptest::sample::Index;

use super::real::rustls_reads;
use super::samples::{Sample, alpn, list16, records, sni, versions};
use super::*;

/// What goes into a hello.
#[derive(Clone, Debug)]
struct Parts {
    host: Option<String>,
    protocols: Vec<String>,
    /// `None` leaves the extension away.
    versions: Option<Vec<u16>>,
    others: Vec<(u16, Vec<u8>)>,
    order: Index,
}

impl Parts {
    fn sample(&self) -> Sample {
        let mut extensions = self.others.clone();
        // Without it rustls refuses.
        extensions.push((13, list16(&[4, 3, 8, 4])));
        extensions.extend(self.host.as_ref().map(|host| (0, sni(host))));
        if !self.protocols.is_empty() {
            let names: Vec<&str> = self.protocols.iter().map(String::as_str).collect();
            extensions.push((16, alpn(&names)));
        }
        extensions.extend(self.versions.as_ref().map(|list| (43, versions(list))));
        let mut types = HashSet::new();
        extensions.retain(|(of_type, _)| types.insert(*of_type));
        let middle = self.order.index(extensions.len());
        extensions.rotate_left(middle);
        Sample::new(extensions)
    }

    fn highest(&self) -> Option<TlsVersion> {
        let Some(offered) = &self.versions else { return Some(TlsVersion::Tls12) };
        let all = [TlsVersion::Tls13, TlsVersion::Tls12, TlsVersion::Tls11, TlsVersion::Tls10];
        all.into_iter().find(|version| offered.contains(&(*version as u16)))
    }
}

fn parts() -> impl Strategy<Value = Parts> {
    let host =
        "([a-zA-Z0-9_]([a-zA-Z0-9_-]{0,8}[a-zA-Z0-9])?\\.){0,4}[a-zA-Z]([a-zA-Z0-9-]{0,8}[a-zA-Z0-9])?";
    let protocol = prop_oneof!["h2", "http/1\\.1", "\u{1a}\u{1a}", "[ -~]{1,20}"];
    let version = prop_oneof![0x0300..0x0306u16, Just(0x4a4a), Just(0x7f1c)];
    // Not those that rustls looks into: what it demands of them is another matter.
    let other = (
        prop_oneof![200..5_000u16, Just(0x3a3a), Just(0xff02)],
        proptest::collection::vec(any::<u8>(), 0..300),
    );
    (
        proptest::option::weighted(0.9, host),
        proptest::collection::vec(protocol, 0..5),
        proptest::option::weighted(0.8, proptest::collection::vec(version, 1..6)),
        proptest::collection::vec(other, 0..8),
        any::<Index>(),
    )
        .prop_map(|(host, protocols, versions, others, order)| Parts {
            host,
            protocols,
            versions,
            others,
            order,
        })
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        Just(vec![HELLO_BYTES_MAX]),
        proptest::collection::vec(1..2_000usize, 1..4).prop_map(|mut sizes| {
            sizes.push(200);
            sizes
        }),
        proptest::collection::vec(1..10usize, 0..40).prop_map(|mut sizes| {
            sizes.push(HELLO_BYTES_MAX);
            sizes
        }),
    ]
}

/// RFC 8701 section 2, for protocol names.
fn is_grease(name: &[u8]) -> bool {
    matches!(name, [one, two] if one == two && one & 0x0f == 0x0a)
}

/// Refusals of what rustls lets pass: it takes a dot at the end for no matter, reads the version as a number, and stops at a server name of another type.
const STRICTER: &[Malformed] = &[
    Malformed::SniBadCharacter,
    Malformed::SniTrailingDot,
    Malformed::BadVersion,
    Malformed::BadServerNameList,
];

/// Demands that rustls, if it takes `bytes` for a hello, reads the same from it.
fn assert_agrees(bytes: &[u8]) -> Result<bool, TestCaseError> {
    let mut scratch = Scratch::default();
    let outcome = walk(bytes, &mut scratch);
    let theirs = rustls_reads(bytes);
    match (&outcome, theirs) {
        (Outcome::Complete(hello), Ok(Some((name, protocols)))) => {
            prop_assert_eq!(hello.server_name.map(str::to_ascii_lowercase), name);
            let protocols: Vec<_> = protocols.into_iter().filter(|name| !is_grease(name)).collect();
            prop_assert_eq!(hello.alpn.names().collect::<Vec<_>>(), protocols);
            Ok(true)
        }
        (Outcome::Malformed(why), Ok(Some(read))) => {
            prop_assert!(STRICTER.contains(why), "{why:?} where rustls reads {read:?}");
            Ok(false)
        }
        (Outcome::NotTls(NotTls::Ssl3), Ok(Some(_)))
        | (_, Err(_))
        | (Outcome::Incomplete { .. }, Ok(None)) => Ok(false),
        // It waits for the end of a message that is already wrong.
        (Outcome::Malformed(_) | Outcome::NotTls(_), Ok(None)) => Ok(false),
        (_, theirs) => Err(TestCaseError::fail(format!("{outcome:?}, and rustls reads {theirs:?}"))),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A well-formed hello is taken with what was put in, as soon as its last byte is there, whatever follows.
    #[test]
    fn reads_what_was_put_in(
        parts in parts(),
        sizes in sizes(),
        cut in any::<Index>(),
        behind in proptest::collection::vec(any::<u8>(), 0..30),
    ) {
        let message = parts.sample().message();
        let mut bytes = records(&message, &sizes);
        let wire_bytes = bytes.len();
        let mut scratch = Scratch::default();
        let before = &bytes[..cut.index(wire_bytes)];
        let incomplete = matches!(walk(before, &mut scratch),
            Outcome::Incomplete { need } if need > before.len() && need <= wire_bytes);
        prop_assert!(incomplete);
        bytes.extend(behind);
        let Outcome::Complete(hello) = walk(&bytes, &mut scratch) else {
            return Err(TestCaseError::fail("not complete"));
        };
        prop_assert_eq!(hello.server_name, parts.host.as_deref());
        let named = parts.protocols.iter().map(String::as_bytes).filter(|name| !is_grease(name));
        prop_assert!(hello.alpn.names().eq(named));
        prop_assert_eq!(hello.versions.highest(), parts.highest());
        prop_assert_eq!((hello.wire_bytes, hello.message_bytes), (wire_bytes, message.len()));
        prop_assert_eq!(hello.records, (wire_bytes - message.len()) / RECORD_HEADER);
    }

    /// rustls reads the same from a well-formed hello.
    #[test]
    fn rustls_agrees(parts in parts(), sizes in sizes()) {
        let bytes = records(&parts.sample().message(), &sizes);
        prop_assert!(assert_agrees(&bytes)?, "rustls refuses {:?}", rustls_reads(&bytes));
    }

    /// A damaged hello, or a part of one, is at most refused: what rustls reads from it is never another name.
    #[test]
    fn rustls_agrees_on_damaged_hellos(
        parts in parts(),
        sizes in sizes(),
        damage in proptest::collection::vec((any::<Index>(), any::<u8>(), 0..4u8), 1..4),
        end in proptest::option::weighted(0.2, any::<Index>()),
    ) {
        let mut bytes = records(&parts.sample().message(), &sizes);
        for (at, byte, how) in damage {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes[at] ^= 1 << (byte % 8),
                2 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        if let Some(end) = end {
            bytes.truncate(end.index(bytes.len()));
        }
        assert_agrees(&bytes)?;
        crate::fuzz::client_hello(&bytes);
    }

    /// Server names of any form.
    #[test]
    fn rustls_agrees_on_names(
        host in "[a-zA-Z0-9._:*-]{0,12}|([0-9a]{1,3}\\.){0,4}[0-9a]{1,3}\\.?",
        order in any::<Index>(),
    ) {
        let parts = Parts {
            host: Some(host), protocols: vec![], versions: None, others: vec![], order,
        };
        assert_agrees(&parts.sample().one_record())?;
    }

    /// Garbage never panics and never counts as more than there is; most of it is refused at once.
    #[test]
    fn garbage_is_no_hello(
        start in prop_oneof![
            Just(&b""[..]), Just(&[22][..]), Just(&[22, 3, 1][..]), Just(&[22, 3, 1, 1, 0, 1, 0, 0, 0xfc, 3, 3][..]),
            Just(&[22, 3, 1, 0, 1][..]), Just(&b"G"[..]), Just(&[0x80][..]),
        ],
        rest in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let bytes = [start, &rest].concat();
        crate::fuzz::client_hello(&bytes);
        if !matches!(start, [22, ..]) && bytes.first().is_some_and(|first| *first != 22) && bytes.len() > 8 {
            prop_assert!(matches!(walk(&bytes, &mut Scratch::default()), Outcome::NotTls(_)));
        }
    }
}
