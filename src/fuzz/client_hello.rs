//! The first bytes of a connection.

use crate::downstream::client_hello::{ClientHello, Outcome, RECORDS_MAX, Scratch, WIRE_BYTES_MAX, walk};

/// One verdict however the bytes arrive, not before it is due and not later, and the same from other records.
pub fn client_hello(data: &[u8]) {
    let (mut scratch, mut scratch_whole) = (Scratch::default(), Scratch::default());
    let whole = walk(data, &mut scratch_whole);
    let shown = data.escape_ascii();
    // Outcomes up to here are this one.
    let mut last = Outcome::Incomplete { need: 1 };
    for have in 0..=data.len() {
        let now = walk(data.get(..have).unwrap_or_default(), &mut scratch);
        match last {
            Outcome::Incomplete { need } if have >= need => {
                if let Outcome::Incomplete { need } = now {
                    assert!(need > have && need <= WIRE_BYTES_MAX, "needs {need} at {have}: {shown}");
                    last = Outcome::Incomplete { need };
                    continue;
                }
                if let Outcome::Complete(hello) = now {
                    assert_eq!(hello.wire_bytes, have, "{shown}");
                }
                assert_eq!(now, whole, "at {have}: {shown}");
                last = whole;
            }
            _ => assert_eq!(now, last, "at {have}: {shown}"),
        }
    }
    assert_eq!(last, whole, "{shown}");
    let Outcome::Complete(hello) = whole else { return };
    assert_plausible(&hello, data);
    for first in [1, 4, 5, hello.message_bytes / 2] {
        let (bytes, records) = in_records(&message(data, hello.wire_bytes), first);
        match walk(&bytes, &mut scratch) {
            Outcome::Complete(again) => {
                let expected = ClientHello { records, wire_bytes: bytes.len(), ..hello };
                assert_eq!(again, expected, "{shown}");
            }
            other => panic!("{other:?} in {records} records from {shown}"),
        }
    }
}

fn assert_plausible(hello: &ClientHello<'_>, data: &[u8]) {
    let shown = data.escape_ascii();
    assert!(hello.wire_bytes <= data.len() && (1..=RECORDS_MAX).contains(&hello.records), "{shown}");
    assert_eq!(hello.wire_bytes, hello.message_bytes + 5 * hello.records, "{shown}");
    if let Some(host) = hello.server_name {
        assert!(
            !host.is_empty() && host.len() <= 253 && !host.starts_with('.') && !host.ends_with('.'),
            "{shown}"
        );
        assert!(host.parse::<std::net::IpAddr>().is_err(), "{shown}");
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        assert!(host.bytes().all(allowed), "{shown}");
    }
    assert!(hello.alpn.names().all(|name| !name.is_empty() && hello.alpn.offers(name)), "{shown}");
}

/// The message that is in the records of the first `wire_bytes`.
fn message(data: &[u8], wire_bytes: usize) -> Vec<u8> {
    let mut message = Vec::new();
    let mut rest = data.get(..wire_bytes).unwrap_or_default();
    while let [22, 3, _, high, low, behind @ ..] = rest {
        let (fragment, next) = behind.split_at(usize::from(*high) * 256 + usize::from(*low));
        message.extend_from_slice(fragment);
        rest = next;
    }
    message
}

/// The message in records, the first of `first` bytes, and their number.
fn in_records(message: &[u8], first: usize) -> (Vec<u8>, usize) {
    let (one, other) = message.split_at(first);
    let mut bytes = Vec::new();
    let mut records = 0;
    for fragment in [one].into_iter().chain(other.chunks(1000)) {
        bytes.extend_from_slice(&[22, 3, 3]);
        bytes.extend_from_slice(&(fragment.len() as u16).to_be_bytes());
        bytes.extend_from_slice(fragment);
        records += 1;
    }
    (bytes, records)
}
