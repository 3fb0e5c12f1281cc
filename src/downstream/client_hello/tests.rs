#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::HashSet;

use super::samples::{Sample, alpn, list16, records, sni, typical, versions};
use super::*;

/// The verdict on `bytes`, kept apart from the scratch.
#[track_caller]
fn check(bytes: &[u8], verdict: impl FnOnce(Outcome<'_>)) {
    crate::fuzz::client_hello(bytes);
    verdict(walk(bytes, &mut Scratch::default()));
}

#[track_caller]
fn assert_malformed(bytes: &[u8], why: Malformed) {
    check(bytes, |outcome| assert_eq!(outcome, Outcome::Malformed(why), "{}", bytes.escape_ascii()));
}

#[track_caller]
fn assert_not_tls(bytes: &[u8], what: NotTls) {
    check(bytes, |outcome| assert_eq!(outcome, Outcome::NotTls(what), "{}", bytes.escape_ascii()));
}

#[track_caller]
fn assert_need(bytes: &[u8], need: usize) {
    check(bytes, |outcome| assert_eq!(outcome, Outcome::Incomplete { need }, "{}", bytes.escape_ascii()));
}

#[track_caller]
fn assert_complete(bytes: &[u8], verdict: impl FnOnce(ClientHello<'_>)) {
    check(bytes, |outcome| match outcome {
        Outcome::Complete(hello) => verdict(hello),
        other => panic!("{other:?} from {}", bytes.escape_ascii()),
    });
}

#[track_caller]
fn with_extension(of_type: u16, data: Vec<u8>) -> Vec<u8> {
    Sample::new(vec![(of_type, data)]).one_record()
}

#[test]
fn reads_a_typical_hello_without_a_copy() {
    let sample = typical("www.Example.test");
    let mut bytes = sample.one_record();
    let wire_bytes = bytes.len();
    bytes.extend_from_slice(&[20, 3, 3, 0, 1, 1]);
    assert_complete(&bytes, |hello| {
        let host = hello.server_name.unwrap();
        assert_eq!(host, "www.Example.test");
        assert!(bytes.as_ptr_range().contains(&host.as_ptr()), "borrowed from the input");
        assert_eq!(hello.alpn.names().collect::<Vec<_>>(), [&b"h2"[..], b"http/1.1"]);
        assert!(hello.alpn.offers(b"h2") && !hello.alpn.offers(b"h3"));
        assert_eq!(hello.versions.highest(), Some(TlsVersion::Tls13));
        assert!(hello.versions.offers(TlsVersion::Tls12) && !hello.versions.offers(TlsVersion::Tls11));
        assert_eq!((hello.records, hello.message_bytes), (1, wire_bytes - RECORD_HEADER));
        assert_eq!(hello.wire_bytes, wire_bytes);
    });
}

/// The record's version means nothing as long as it is of TLS or SSL 3.0.
#[test]
fn ignores_the_version_of_the_record() {
    for minor in [0, 1, 2, 3, 4, 0xff] {
        let mut bytes = typical("a.test").one_record();
        bytes[2] = minor;
        assert_complete(&bytes, |hello| assert_eq!(hello.server_name, Some("a.test")));
    }
    assert_not_tls(&[22, 2, 0], NotTls::Unknown);
    let mut bytes = records(&typical("a.test").message(), &[20]);
    bytes[26] = 2;
    assert_malformed(&bytes, Malformed::BadRecordVersion);
}

/// Every place to cut in two, and a hello whose own header is in several records.
#[test]
fn joins_records() {
    let message = typical("www.example.test").message();
    for first in 1..message.len() {
        let bytes = records(&message, &[first, message.len()]);
        assert_complete(&bytes, |hello| {
            assert_eq!((hello.server_name, hello.records), (Some("www.example.test"), 2));
            assert_eq!((hello.message_bytes, hello.wire_bytes), (message.len(), bytes.len()));
        });
    }
    assert_complete(&records(&message, &[1, 1, 1, 1, 1, 1, 500]), |hello| assert_eq!(hello.records, 7));
}

#[test]
fn bounds_the_records() {
    let message = Sample { session_id: vec![], extensions: None, ..Sample::new(vec![]) }.message();
    assert!(message.len() <= RECORDS_MAX);
    assert_complete(&records(&message, &[1]), |hello| assert_eq!(hello.records, message.len()));

    let message = typical("www.example.test").message();
    assert!(message.len() > RECORDS_MAX + 1);
    assert_malformed(&records(&message, &[1]), Malformed::TooManyRecords);
    let most = [vec![1; RECORDS_MAX - 1], vec![message.len()]].concat();
    assert_complete(&records(&message, &most), |hello| assert_eq!(hello.records, RECORDS_MAX));
    // The last record that may be is seen not to be the hello's last one before its content arrives.
    let more = [vec![1; RECORDS_MAX - 1], vec![message.len() - RECORDS_MAX, 1]].concat();
    let bytes = records(&message, &more);
    let header_end = (RECORDS_MAX - 1) * (RECORD_HEADER + 1) + RECORD_HEADER;
    assert_need(&bytes[..header_end - 1], header_end);
    assert_malformed(&bytes[..header_end], Malformed::TooManyRecords);
}

#[test]
fn bounds_the_bytes() {
    let padded = |padding: usize| {
        let message = Sample::new(vec![(0, sni("a.test")), (21, vec![0; padding])]).message();
        (message.len(), message)
    };
    let (short, _) = padded(0);
    let (len, message) = padded(HELLO_BYTES_MAX - short);
    assert_eq!(len, HELLO_BYTES_MAX);
    assert_complete(&records(&message, &[len]), |hello| assert_eq!(hello.message_bytes, HELLO_BYTES_MAX));
    let most = [vec![1; RECORDS_MAX - 1], vec![len]].concat();
    assert_complete(&records(&message, &most), |hello| assert_eq!(hello.wire_bytes, WIRE_BYTES_MAX));

    let (len, message) = padded(HELLO_BYTES_MAX - short + 1);
    let bytes = records(&message, &[RECORD_BYTES_MAX]);
    assert_eq!(len, HELLO_BYTES_MAX + 1);
    assert_malformed(&bytes[..9], Malformed::HelloTooLarge);
    assert_need(&bytes[..8], 9);
    assert_malformed(&[22, 3, 1, 0x40, 1], Malformed::RecordTooLong);
    assert_malformed(&[22, 3, 1, 0, 0], Malformed::EmptyRecord);
}

#[test]
fn says_how_much_it_needs() {
    assert_need(b"", 1);
    let message = typical("www.example.test").message();
    let bytes = records(&message, &[message.len()]);
    for (have, need) in [(1, 2), (2, 5), (5, 9), (9, 11), (11, bytes.len()), (bytes.len() - 1, bytes.len())] {
        assert_need(&bytes[..have], need);
    }
    let bytes = records(&message, &[2, 3, 20, 200]);
    for (have, need) in [(5, 12), (7, 12), (12, 14), (14, 20), (20, 21), (21, 45), (45, bytes.len())] {
        assert_need(&bytes[..have], need);
    }
}

#[test]
fn refuses_what_interrupts_or_follows_within_the_record() {
    let message = typical("www.example.test").message();
    let mut bytes = records(&message, &[50, message.len()]);
    bytes[55] = 21;
    assert_malformed(&bytes, Malformed::OtherRecordBetween);
    bytes.truncate(55);
    bytes.extend_from_slice(&[22, 3, 3, 0, 0]);
    assert_malformed(&bytes, Malformed::EmptyRecord);

    let longer = [&message[..], &[1]].concat();
    assert_malformed(&records(&longer, &[longer.len()]), Malformed::BytesBehindHello);
    let bytes = records(&longer, &[50, longer.len()]);
    assert_malformed(&bytes[..60], Malformed::BytesBehindHello);
    // In a record of its own it is early data, or what the endpoint refuses.
    assert_complete(&records(&longer, &[message.len(), 1]), |hello| assert_eq!(hello.records, 1));
}

#[test]
fn tells_what_else_it_is() {
    for method in ["GET / HTTP/1.1\r\n", "POST /a HTTP", "OPTIONS * HTTP/1.1", "PRI * HTTP/2.0", "PROPFIND /"]
    {
        assert_not_tls(method.as_bytes(), NotTls::PlainHttp);
        assert_not_tls(&method.as_bytes()[..8], NotTls::PlainHttp);
    }
    assert_not_tls(b"GET ", NotTls::PlainHttp);
    assert_need(b"GET", 4);
    assert_need(b"P", 2);
    assert_not_tls(b"PROXY TCP4 192.0.2.1", NotTls::ProxyProtocol);
    assert_not_tls(b"\r\n\r\n\0\r\nQUIT\n\x21\x11", NotTls::ProxyProtocol);
    assert_not_tls(&[0x80, 0x2e, 1, 0, 2, 0, 21], NotTls::Ssl2);
    assert_not_tls(&[0x80, 0x2e, 2], NotTls::Unknown);
    assert_not_tls(&[21, 3, 1, 0, 2, 2, 40], NotTls::OtherRecord);
    assert_not_tls(&[23, 3], NotTls::OtherRecord);
    assert_not_tls(&[20, 4], NotTls::Unknown);
    for garbage in
        [&b"get / HTTP/1.1"[..], b"EHLO a\r\n", b"SSH-2.0-x", b"GETS", b"PX", b"\0", b"\r\n\r\nG", b" "]
    {
        assert_not_tls(garbage, NotTls::Unknown);
    }
    let old = Sample { legacy_version: 0x0300, extensions: None, ..Sample::new(vec![]) }.one_record();
    assert_not_tls(&old, NotTls::Ssl3);
    assert_not_tls(&old[..11], NotTls::Ssl3);
    let wrong = Sample { legacy_version: 0xfefd, ..Sample::new(vec![]) }.one_record();
    assert_malformed(&wrong, Malformed::BadVersion);
    let mut answer = typical("a.test").one_record();
    answer[5] = 2;
    assert_malformed(&answer[..9], Malformed::NotClientHello);
}

#[test]
fn reads_versions() {
    let old = |legacy_version| {
        let sample = Sample { legacy_version, extensions: None, ..Sample::new(vec![]) };
        let bytes = sample.one_record();
        let mut scratch = Scratch::default();
        match walk(&bytes, &mut scratch) {
            Outcome::Complete(hello) => hello.versions,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(old(0x0301).highest(), Some(TlsVersion::Tls10));
    assert_eq!(old(0x0303).highest(), Some(TlsVersion::Tls12));
    assert!(old(0x0303).offers(TlsVersion::Tls10));
    // No supported_versions: not above 1.2, whatever the field says.
    assert_eq!(old(0x0304).highest(), Some(TlsVersion::Tls12));
    for (list, highest) in [
        (&[0x0303, 0x0304, 0x0301][..], Some(TlsVersion::Tls13)),
        (&[0x0302, 0x8a8a], Some(TlsVersion::Tls11)),
        (&[0x7f1c, 0xfafa, 0x0305, 0x0300], None),
    ] {
        assert_complete(&with_extension(43, versions(list)), |hello| {
            assert_eq!(hello.versions.highest(), highest, "{list:x?}");
        });
    }
    for data in [vec![], vec![0], vec![3, 3, 4, 3], vec![2, 3], vec![2, 3, 4, 0]] {
        assert_malformed(&with_extension(43, data), Malformed::BadSupportedVersions);
    }
}

#[test]
fn reads_server_names() {
    let long = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(61));
    assert_eq!(long.len(), 253);
    for host in ["a", "localhost", "A-b_c.9.x", "xn--bcher-kva.example", "1.2.3.4a", "-a.test", long.as_str()]
    {
        assert_complete(&with_extension(0, sni(host)), |hello| assert_eq!(hello.server_name, Some(host)));
    }
    for address in ["127.0.0.1", "10", "::1", "2001:db8::5"] {
        assert_complete(&with_extension(0, sni(address)), |hello| assert_eq!(hello.server_name, None));
    }
    let long_label = format!("{}.test", "a".repeat(64));
    for (host, why) in [
        ("", Malformed::SniEmpty),
        (&format!("{long}a"), Malformed::SniTooLong),
        ("a.test.", Malformed::SniTrailingDot),
        (".", Malformed::SniTrailingDot),
        ("a..test", Malformed::SniBadLabel),
        (".test", Malformed::SniBadLabel),
        (&long_label, Malformed::SniBadLabel),
        (&long_label[..64], Malformed::SniBadLabel),
        ("[::1]", Malformed::SniBadCharacter),
        ("a.test:443", Malformed::SniBadCharacter),
        ("a b", Malformed::SniBadCharacter),
        ("a\0.test", Malformed::SniBadCharacter),
        ("*.test", Malformed::SniBadCharacter),
        ("b\u{fc}cher.test", Malformed::SniBadCharacter),
    ] {
        assert_malformed(&with_extension(0, sni(host)), why);
    }
    assert_malformed(&with_extension(0, list16(&[0, 0, 1, 0xff])), Malformed::SniBadCharacter);
}

#[test]
fn reads_server_name_lists() {
    let name = |of_type: u8, text: &str| [&[of_type], &list16(text.as_bytes())[..]].concat();
    let two = [name(0, "a.test"), name(0, "b.test")].concat();
    assert_malformed(&with_extension(0, list16(&two)), Malformed::RepeatedHostName);
    let mixed = [name(7, "\u{0}"), name(0, "a.test"), name(7, "")].concat();
    assert_complete(&with_extension(0, list16(&mixed)), |hello| {
        assert_eq!(hello.server_name, Some("a.test"));
    });
    assert_complete(&with_extension(0, list16(&name(7, "x"))), |hello| assert_eq!(hello.server_name, None));
    let whole = sni("a.test");
    for data in [
        vec![],
        list16(&[]),
        list16(&[0]),
        list16(&[0, 0]),
        list16(&[0, 0, 9, b'a']),
        [&whole[..], &[0]].concat(),
        whole[..whole.len() - 1].to_vec(),
    ] {
        assert_malformed(&with_extension(0, data), Malformed::BadServerNameList);
    }
}

#[test]
fn reads_alpn() {
    let names = alpn(&["\u{a}\u{a}", "h2", "ZZ", "Z*", "acme-tls/1"]);
    assert_complete(&with_extension(16, names), |hello| {
        let names: Vec<_> = hello.alpn.names().collect();
        assert_eq!(names, [&b"h2"[..], b"Z*", b"acme-tls/1"], "GREASE is left out");
    });
    for data in [
        vec![],
        list16(&[]),
        list16(&[0]),
        list16(&[2, b'h', b'2', 0]),
        list16(&[3, b'h', b'2']),
        [&alpn(&["h2"])[..], &[0]].concat(),
    ] {
        assert_malformed(&with_extension(16, data), Malformed::BadAlpn);
    }
}

#[test]
fn refuses_malformed_fields() {
    let good = Sample::new(vec![(0, sni("a.test"))]);
    let refused = |sample: Sample, why| assert_malformed(&sample.one_record(), why);
    refused(Sample { session_id: vec![0; 33], ..good.clone() }, Malformed::BadSessionId);
    refused(Sample { cipher_suites: vec![], ..good.clone() }, Malformed::BadCipherSuites);
    refused(Sample { cipher_suites: vec![0x13, 1, 0x13], ..good.clone() }, Malformed::BadCipherSuites);
    refused(Sample { compression: vec![], ..good.clone() }, Malformed::BadCompression);
    refused(Sample { behind: vec![0], ..good.clone() }, Malformed::TrailingBytes);
    refused(Sample { extensions: None, behind: vec![0], ..good.clone() }, Malformed::Truncated);
    for twice in [0, 43, 63, 64, 0x0a0a, 0xff01] {
        let data = if twice == 0 { sni("a.test") } else { versions(&[0x0304]) };
        let sample = Sample::new(vec![(twice, data.clone()), (99, vec![]), (twice, data)]);
        refused(sample, Malformed::DuplicateExtension);
    }
    // Every shorter message, with its length put right.
    let message = good.message();
    for len in 0..message.len() {
        let mut short = message[..len.max(4)].to_vec();
        let body = u32::try_from(short.len() - 4).unwrap();
        short[..4].copy_from_slice(&(1 << 24 | body).to_be_bytes());
        let bytes = records(&short, &[short.len()]);
        check(&bytes, |outcome| match outcome {
            // Before the list of extensions a hello may end.
            Outcome::Complete(hello) => assert!(hello.server_name.is_none()),
            Outcome::Malformed(why) => assert_eq!(why, Malformed::Truncated),
            other => panic!("{other:?}"),
        });
    }
}

/// As many extensions as fit are no trouble, and two that are alike are found among them.
#[test]
fn reads_very_many_extensions() {
    let mut extensions: Vec<_> = (100..4_100).map(|of_type| (of_type, Vec::new())).collect();
    assert_complete(&Sample::new(extensions.clone()).one_record(), |hello| assert_eq!(hello.records, 1));
    extensions.push((100, Vec::new()));
    assert_malformed(&Sample::new(extensions).one_record(), Malformed::DuplicateExtension);
}

/// Earlier calls leave nothing behind that a later one could see.
#[test]
fn scratch_is_reusable() {
    let mut scratch = Scratch::default();
    let long = records(&typical("a-longer-name.example.test").message(), &[40]);
    let short = records(&typical("b.test").message(), &[60]);
    for _ in 0..2 {
        for (bytes, host) in [(&long, "a-longer-name.example.test"), (&short, "b.test")] {
            assert!(
                matches!(walk(bytes, &mut scratch), Outcome::Complete(hello) if hello.server_name == Some(host))
            );
        }
    }
}

/// Reason codes are keys of counters: no two kinds share one, each is snake case, and each has a sentence.
#[test]
fn refusals_say_what() {
    let told: Vec<_> = NotTls::ALL
        .iter()
        .map(|kind| (kind.reason(), kind.to_string()))
        .chain(Malformed::ALL.iter().map(|kind| (kind.reason(), kind.to_string())))
        .collect();
    assert_eq!(told.iter().map(|(reason, _)| reason).collect::<HashSet<_>>().len(), told.len());
    assert_eq!(told.iter().map(|(_, sentence)| sentence).collect::<HashSet<_>>().len(), told.len());
    for (reason, sentence) in told {
        assert!(
            reason.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        );
        assert!(sentence.contains(' ') && !sentence.ends_with('.'), "{sentence}");
    }
}
