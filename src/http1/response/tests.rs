//! Each rule as a row of responses; every row is also fed byte by byte and must come to the same verdict.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use super::*;

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 512, headers_max: 8, target_bytes_max: 0 };

/// Parses `bytes` at once and then byte by byte, and demands one result.
fn parse(bytes: &[u8], method: Method) -> Result<Option<ResponseHead>, ResponseFault> {
    let whole = {
        let mut head = ResponseHead::default();
        parse_response(bytes, &mut Scan::default(), &LIMITS, method, &mut head)
            .map(|progress| (progress == Progress::Complete).then_some(head))
    };
    let (mut scan, mut head) = (Scan::default(), ResponseHead::default());
    let mut grown = Ok(None);
    for len in 0..=bytes.len() {
        match parse_response(&bytes[..len], &mut scan, &LIMITS, method, &mut head) {
            Ok(Progress::Incomplete) => continue,
            Ok(Progress::Complete) => {
                assert_eq!(head.head_len, len, "complete at its last byte: {bytes:?}");
                grown = Ok(Some(head));
            }
            Err(fault) => grown = Err(fault),
        }
        break;
    }
    assert_eq!(format!("{grown:?}"), format!("{whole:?}"), "{:?}", String::from_utf8_lossy(bytes));
    whole
}

#[track_caller]
fn taken(text: &str) -> ResponseHead {
    match parse(text.as_bytes(), Method::Get) {
        Ok(Some(head)) => head,
        other => panic!("{text:?}: {other:?}"),
    }
}

#[track_caller]
fn faulty(text: &str, fault: ResponseFault) {
    assert_eq!(parse(text.as_bytes(), Method::Get).map(|head| head.is_some()), Err(fault), "{text:?}");
}

fn ok(fields: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}\r\n")
}

#[test]
fn reads_status_lines() {
    for (line, status, reason) in [
        ("HTTP/1.1 200 OK", 200, "OK"),
        ("HTTP/1.1 404 Not  Found ", 404, "Not  Found "),
        ("HTTP/1.0 200 ", 200, ""),
        ("HTTP/1.1 200", 200, ""),
        ("HTTP/1.1 999 \u{e9}\t", 999, "\u{e9}\t"),
        ("HTTP/1.1 100 Continue", 100, "Continue"),
    ] {
        let text = format!("{line}\r\n\r\n");
        let head = taken(&text);
        assert_eq!((head.status, head.reason.of(text.as_bytes())), (status, reason.as_bytes()), "{line}");
        assert_eq!(head.version == Version::Http10, line.starts_with("HTTP/1.0"));
    }
    for line in [
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 099 X",
        "HTTP/1.1 000",
        "HTTP/1.1  200 OK",
        "HTTP/1.1 2x0 OK",
        "HTTP/1.1",
        "HTTP 200 OK",
        " HTTP/1.1 200 OK",
        "",
        "ICY 200 OK",
        "http/1.1 200 OK",
        "HTTP/1.10 200",
        "HTTP/1.1 200OK",
        "HTTP/1.1 200\tOK",
        "HTTP/1.1\t200 OK",
        "HTTP/1.1 -20",
    ] {
        faulty(&format!("{line}\r\n\r\n"), ResponseFault::BadStatusLine);
    }
    for version in ["0.9", "1.2", "2.0"] {
        faulty(&format!("HTTP/{version} 200 OK\r\n\r\n"), ResponseFault::UnsupportedVersion);
    }
    faulty("HTTP/1.1 200 O\x01K\r\n\r\n", ResponseFault::InvalidHeaderValue);
}

#[test]
fn refuses_malformed_lines() {
    for (text, fault) in [
        ("HTTP/1.1 200 OK\n\r\n", ResponseFault::BareLf),
        ("HTTP/1.1 200\n\r\n", ResponseFault::BareLf),
        ("HTTP/1.1 200 OK\r\nA: b\n\r\n", ResponseFault::BareLf),
        ("HTTP/1.1 200 O\rK\r\n\r\n", ResponseFault::BareCr),
        ("HTTP/1.1 200\rK\r\n\r\n", ResponseFault::BareCr),
        ("HTTP/1.1\r200 OK\r\n\r\n", ResponseFault::BareCr),
        ("HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n", ResponseFault::BareCr),
        ("HTTP/1.1 200 O\0K\r\n\r\n", ResponseFault::Nul),
        ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", ResponseFault::ObsFold),
        ("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", ResponseFault::SpaceBeforeColon),
        ("HTTP/1.1 200 OK\r\nA(: b\r\n\r\n", ResponseFault::InvalidHeaderName),
        ("HTTP/1.1 200 OK\r\nA: \x02\r\n\r\n", ResponseFault::InvalidHeaderValue),
    ] {
        faulty(text, fault);
    }
}

/// RFC 9112 section 6.3, for a response that has content.
#[test]
fn frames_content_in_one_way_only() {
    for (fields, body) in [
        ("", BodyLength::UntilClose),
        ("Content-Length: 5\r\n", BodyLength::Known(5)),
        ("Content-Length: 0\r\n", BodyLength::Known(0)),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", BodyLength::Known(5)),
        ("Transfer-Encoding: Chunked\r\n", BodyLength::Chunked),
    ] {
        assert_eq!(taken(&ok(fields)).body, body, "{fields}");
    }
    for (fields, fault) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", ResponseFault::LengthAndChunked),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", ResponseFault::BadContentLength),
        ("Content-Length: 5, 5\r\n", ResponseFault::BadContentLength),
        ("Content-Length: -1\r\n", ResponseFault::BadContentLength),
        ("Content-Length:\r\n", ResponseFault::BadContentLength),
        ("Transfer-Encoding: gzip\r\n", ResponseFault::BadTransferEncoding),
        ("Transfer-Encoding: identity\r\n", ResponseFault::BadTransferEncoding),
        ("Transfer-Encoding: gzip, chunked\r\n", ResponseFault::BadTransferEncoding),
        ("Transfer-Encoding: chunked, chunked\r\n", ResponseFault::BadTransferEncoding),
        ("Transfer-Encoding:\r\n", ResponseFault::BadTransferEncoding),
    ] {
        faulty(&ok(fields), fault);
    }
    faulty("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", ResponseFault::ChunkedInHttp10);
}

/// Status and request decide whether content follows, whatever the fields say; broken fields stay faults.
#[test]
fn knows_what_has_no_content() {
    for fields in ["", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"] {
        let head = parse(ok(fields).as_bytes(), Method::Head).unwrap().unwrap();
        assert_eq!((head.body, head.keep_alive), (BodyLength::None, true), "HEAD {fields}");
        let text = format!("HTTP/1.1 304 Not Modified\r\n{fields}\r\n");
        assert_eq!((taken(&text).body, taken(&text).keep_alive), (BodyLength::None, true), "304 {fields}");
        let text = format!("HTTP/1.1 204 No Content\r\n{fields}\r\n");
        assert_eq!(
            (taken(&text).body, taken(&text).keep_alive),
            (BodyLength::None, fields.is_empty()),
            "204 {fields}"
        );
    }
    assert!(taken("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n").keep_alive);
    assert_eq!(taken("HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n").body, BodyLength::None);
    faulty("HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\n", ResponseFault::FramedInterim);
    faulty("HTTP/1.1 101 Switching\r\nTransfer-Encoding: chunked\r\n\r\n", ResponseFault::FramedInterim);
    let both = ok("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n");
    assert_eq!(parse(both.as_bytes(), Method::Head).err(), Some(ResponseFault::LengthAndChunked));
}

#[test]
fn judges_reuse() {
    for (text, keep_alive) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\n\r\n", false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", true),
        ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n", false),
    ] {
        assert_eq!(taken(text).keep_alive, keep_alive, "{text}");
    }
}

#[test]
fn keeps_the_upgrade_of_a_101() {
    let text = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let head = taken(text);
    assert_eq!(head.upgrade.unwrap().of(text.as_bytes()), b"websocket");
    assert_eq!(taken(&text.replace("101", "200")).upgrade, None);
}

#[test]
fn holds_limits_to_the_byte() {
    taken(&ok(&"A: b\r\n".repeat(8)));
    faulty(&ok(&"A: b\r\n".repeat(9)), ResponseFault::TooManyHeaders);
    let frame = ok("A: \r\n").len();
    taken(&ok(&format!("A: {}\r\n", "a".repeat(512 - frame))));
    faulty(&ok(&format!("A: {}\r\n", "a".repeat(513 - frame))), ResponseFault::HeadTooLarge);
    faulty(&format!("HTTP/1.1 200 {}", "a".repeat(499)), ResponseFault::HeadTooLarge);
    faulty(&ok(&format!("Connection: {}\r\n", "a,".repeat(33))), ResponseFault::BadConnection);
}
