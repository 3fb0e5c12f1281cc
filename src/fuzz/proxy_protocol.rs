//! The PROXY protocol's header in front of a connection.

use crate::proxy_protocol::{Facts, HEADER_BYTES_MAX, Invalid, Outcome, parse, write_v1, write_v2};

/// One verdict however the bytes arrive and whatever comes behind; what was read can be written and read again.
pub fn proxy_protocol(data: &[u8]) {
    let shown = data.escape_ascii();
    let whole = parse(data);
    let mut last = Outcome::Incomplete;
    for have in 0..=data.len() {
        let now = parse(data.get(..have).unwrap_or_default());
        assert!(last == Outcome::Incomplete || now == last, "{now:?} after {last:?} at {have}: {shown}");
        if let Outcome::Complete { length, .. } = now
            && last == Outcome::Incomplete
        {
            assert_eq!(length, have, "{shown}");
        }
        assert!(now != Outcome::Incomplete || have < HEADER_BYTES_MAX, "undecided at {have}: {shown}");
        last = now;
    }
    assert_eq!(last, whole, "{shown}");
    match whole {
        Outcome::Complete { addresses, length } => {
            assert!((1..=HEADER_BYTES_MAX).contains(&length), "{shown}");
            let Some(addresses) = addresses else { return };
            let mut out = Vec::new();
            write_v1(&mut out, &addresses);
            assert_eq!(
                parse(&out),
                Outcome::Complete { addresses: Some(addresses), length: out.len() },
                "{shown}"
            );
            out.clear();
            let facts = Facts { sni: Some("a.test"), alpn: Some(data), ..Facts::default() };
            write_v2(&mut out, &addresses, &facts);
            assert_eq!(
                parse(&out),
                Outcome::Complete { addresses: Some(addresses), length: out.len() },
                "{shown}"
            );
        }
        Outcome::Invalid(Invalid::NoHeader) => {
            assert!(!data.starts_with(b"PROXY ") && !data.starts_with(b"\r\n\r\n\0\r\nQUIT\n"), "{shown}");
        }
        Outcome::Invalid(_) | Outcome::Incomplete => {}
    }
}
