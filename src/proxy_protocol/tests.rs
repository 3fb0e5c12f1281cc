#![allow(clippy::unwrap_used, reason = "literals")]

use proptest::prelude::*;

use super::*;

fn addresses(source: &str, destination: &str) -> Addresses {
    Addresses { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

fn pairs() -> [Addresses; 3] {
    [
        addresses("192.0.2.1:56324", "198.51.100.2:443"),
        addresses("[2001:db8::1]:1", "[2001:db8::2]:65535"),
        addresses("[::ffff:192.0.2.1]:9", "[::1]:0"),
    ]
}

#[test]
fn reads_what_it_writes_at_every_cut() {
    let certificate = Some(ClientCertificate { common_name: Some("c"), of_resumed_session: false });
    let facts = Facts { sni: Some("a.test"), alpn: Some(b"h2"), tls_version: Some("TLSv1.3"), certificate };
    for pair in pairs() {
        for version in 0..3 {
            let mut bytes = Vec::new();
            match version {
                0 => write_v1(&mut bytes, &pair),
                1 => write_v2(&mut bytes, &pair, &Facts::default()),
                _ => write_v2(&mut bytes, &pair, &facts),
            }
            let whole = Outcome::Complete { addresses: Some(pair), length: bytes.len() };
            for cut in 1..bytes.len() {
                assert_eq!(parse(&bytes[..cut]), Outcome::Incomplete, "{cut} of {bytes:?}");
            }
            assert_eq!(parse(&bytes), whole);
            bytes.extend_from_slice(b"GET / HTTP/1.1\r\n");
            assert_eq!(parse(&bytes), whole);
        }
    }
    assert_eq!(parse(b""), Outcome::Incomplete);
}

#[test]
fn mixed_families() {
    let mixed = addresses("192.0.2.1:1", "[2001:db8::2]:2");
    let read = addresses("[::ffff:192.0.2.1]:1", "[2001:db8::2]:2");
    let mut bytes = Vec::new();
    write_v1(&mut bytes, &mixed);
    assert_eq!(bytes, b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 1 2\r\n");
    assert_eq!(parse(&bytes), Outcome::Complete { addresses: Some(read), length: bytes.len() });
    bytes.clear();
    write_v2(&mut bytes, &mixed, &Facts::default());
    assert_eq!(parse(&bytes), Outcome::Complete { addresses: Some(read), length: bytes.len() });
}

/// The bytes of section 2.2.5, by hand.
#[test]
fn tlvs_as_written() {
    let tlvs = |facts: &Facts<'_>| {
        let mut bytes = Vec::new();
        write_v2(&mut bytes, &pairs()[0], facts);
        assert_eq!(usize::from(u16::from_be_bytes([bytes[14], bytes[15]])) + 16, bytes.len());
        bytes.split_off(28)
    };
    let facts = Facts { sni: Some("a.b"), alpn: Some(b"h2"), ..Facts::default() };
    assert_eq!(tlvs(&facts), b"\x01\0\x02h2\x02\0\x03a.b");
    let tls = Facts { tls_version: Some("TLSv1.2"), ..Facts::default() };
    assert_eq!(tlvs(&tls), b"\x20\0\x0f\x01\0\0\0\x01\x21\0\x07TLSv1.2");
    for (of_resumed_session, flags) in [(false, 7), (true, 5)] {
        let certificate = Some(ClientCertificate { common_name: Some("me"), of_resumed_session });
        let bytes = tlvs(&Facts { certificate, ..tls });
        assert_eq!(bytes[..3], *b"\x20\0\x14");
        assert_eq!(bytes[3..], [&[flags], &b"\0\0\0\0\x21\0\x07TLSv1.2\x22\0\x02me"[..]].concat());
    }
    let certificate = ClientCertificate { common_name: Some(&"x".repeat(300)), of_resumed_session: false };
    let long = tlvs(&Facts { certificate: Some(certificate), ..tls });
    assert!(!long.contains(&b'x'), "a name cut short would be another one");
}

/// A header with a checksum is taken only where that fits.
#[test]
fn checksums() {
    let header = |sum: [u8; 4]| {
        let mut bytes = Vec::new();
        write_v2(&mut bytes, &pairs()[0], &Facts { sni: Some("a.test"), ..Facts::default() });
        bytes.extend_from_slice(&[TLV_CRC32C, 0, 4]);
        bytes.extend_from_slice(&sum);
        bytes.extend_from_slice(&[4, 0, 2, 0, 0]);
        let length = bytes.len() - 16;
        bytes[15] = u8::try_from(length).unwrap();
        bytes
    };
    let sum = crc32c(&[&header([0; 4])]);
    let good = header(sum.to_be_bytes());
    assert_eq!(parse(&good), Outcome::Complete { addresses: Some(pairs()[0]), length: good.len() });
    // But for its type, without which there is none.
    for at in (12..good.len()).filter(|at| *at != 37) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(!matches!(parse(&bad), Outcome::Complete { addresses: Some(_), .. }), "{at}");
    }
    let mut short = header([0; 4]);
    short.truncate(28);
    short.extend_from_slice(&[TLV_CRC32C, 0, 0]);
    short[15] = 15;
    assert_eq!(parse(&short), Outcome::Invalid(Invalid::Malformed));
}

#[test]
fn connections_of_the_proxy_itself() {
    for text in [&b"PROXY UNKNOWN\r\n"[..], b"PROXY UNKNOWN ffff:f::1 :: 1 2\r\n", b"PROXY UNKNOWN \xff\r\n"]
    {
        assert_eq!(parse(text), Outcome::Complete { addresses: None, length: text.len() });
    }
    let mut local = V2_SIGNATURE.to_vec();
    local.extend_from_slice(&[0x20, 0x00, 0, 3, 9, 9, 9]);
    assert_eq!(parse(&local), Outcome::Complete { addresses: None, length: 19 });
}

#[test]
fn refuses_everything_else() {
    for text in [
        "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n",
        "PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY TCP4 ::1 ::1 1 2\r\n",
        "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY UNKNOWNX\r\n",
        "PROXY \r\n",
    ] {
        assert_eq!(parse(text.as_bytes()), Outcome::Invalid(Invalid::Malformed), "{text}");
    }
    assert_eq!(
        parse(format!("PROXY UNKNOWN {}", "x".repeat(100)).as_bytes()),
        Outcome::Invalid(Invalid::TooLong)
    );
    for text in ["GET / HTTP/1.1\r\n", "proxy TCP4", "\r\n\r\nGET", "\x16\x03\x01"] {
        assert_eq!(parse(text.as_bytes()), Outcome::Invalid(Invalid::NoHeader), "{text:?}");
    }
    let v2 = |tail: &[u8]| parse(&[&V2_SIGNATURE[..], tail].concat());
    // Version, command, family, a body that is too short, TLVs that do not fill it, a length beyond the bound.
    assert_eq!(v2(&[0x11, 0x11, 0, 0]), Outcome::Invalid(Invalid::Malformed));
    assert_eq!(v2(&[0x22, 0x11, 0, 0]), Outcome::Invalid(Invalid::Malformed));
    assert_eq!(v2(&[0x21, 0x12, 0, 0]), Outcome::Invalid(Invalid::Malformed));
    assert_eq!(v2(&[0x21, 0x11, 0, 0]), Outcome::Invalid(Invalid::Malformed));
    assert_eq!(v2(&[&[0x21, 0x11, 0, 14][..], &[0; 14]].concat()), Outcome::Invalid(Invalid::Malformed));
    assert_eq!(
        v2(&[&[0x21, 0x11, 0, 15][..], &[0; 14], &[9]].concat()).clone(),
        Outcome::Invalid(Invalid::Malformed)
    );
    assert_eq!(v2(&[0x21, 0x11, 0xff, 0xff]), Outcome::Invalid(Invalid::TooLong));
}

proptest! {
    /// Never a header that is longer than the bytes, and a decision once made is kept with more bytes.
    #[test]
    fn decisions_are_final(start in 0..3_usize, noise in proptest::collection::vec(any::<u8>(), 0..200), cut in 0..220_usize) {
        let mut bytes = [&V2_SIGNATURE[..], b"PROXY TCP4 ", b""][start].to_vec();
        bytes.extend_from_slice(&noise);
        let cut = cut.min(bytes.len());
        let (early, late) = (parse(&bytes[..cut]), parse(&bytes));
        if let Outcome::Complete { length, .. } = early {
            prop_assert!(length <= cut);
        }
        if early != Outcome::Incomplete {
            prop_assert_eq!(early, late);
        }
    }
}
