//! The fuzz functions over input from a seeded generator: messages put together from good and bad pieces, then
//! damaged a little. `RINGGATE_SEED` repeats a run.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use super::*;
use crate::downstream::client_hello::{Outcome, samples, walk};

const ROUNDS: usize = 20_000;

/// The seed of this run, printed so that a failure shows it.
fn numbers() -> Numbers {
    let seed = std::env::var("RINGGATE_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0x9e37_79b9_7f4a_7c15);
    println!("RINGGATE_SEED={seed}");
    Numbers(seed | 1)
}

type Check = fn(&[u8]);

fn pick<'a>(numbers: &mut Numbers, pieces: &[&'a str]) -> &'a str {
    pieces[numbers.below(pieces.len())]
}

/// Mostly the first piece, sometimes one of the others.
fn lean<'a>(numbers: &mut Numbers, pieces: &[&'a str]) -> &'a str {
    if numbers.below(8) > 0 { pieces[0] } else { pick(numbers, pieces) }
}

/// Replaces, inserts, removes or repeats a few bytes.
fn damage(numbers: &mut Numbers, bytes: &mut Vec<u8>) {
    const BYTES: &[u8] = b"\r\n\0 \t:,;/%.\\?#*[]@0aG\x7f\x80\xff";
    for _ in 0..[0, 0, 1, 1, 2, 5][numbers.below(6)] {
        let at = numbers.below(bytes.len() + 1);
        let byte = BYTES[numbers.below(BYTES.len())];
        match numbers.below(4) {
            0 => bytes.insert(at, byte),
            1 if at < bytes.len() => bytes[at] = byte,
            2 if at < bytes.len() => drop(bytes.remove(at)),
            _ => {
                let end = bytes.len().min(at + numbers.below(20));
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
        }
    }
}

const FIELDS: [&str; 36] = [
    "A: b",
    "Accept: */*",
    "X-Long: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "Content-Length: 5",
    "Content-Length: 0",
    "content-length:007",
    "Transfer-Encoding: chunked",
    "transfer-encoding:Chunked ",
    "Connection: close",
    "Connection: keep-alive, A",
    "Connection: Upgrade, TE",
    "Connection: upgrade",
    "Connection: host, content-length, transfer-encoding",
    "Upgrade: websocket",
    "Upgrade: h2c",
    "TE: trailers",
    "TE: gzip",
    "Trailer: X-Sum",
    "Expect: 100-continue",
    "Keep-Alive: 5",
    "Proxy-Connection: a",
    "Via: 1.0 x",
    "X-Forwarded-For: 1.1.1.1",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: h",
    "X-Forwarded-Port: 1",
    "Forwarded: for=1",
    "X-Real-IP: 1",
    "X-Request-Id: abc",
    "X-Request-Id: a b",
    "Date: x",
    "Content_Length: 9",
    "Set-Cookie: \u{e9}",
    "Empty:",
    "Tab:\ta\tb\t",
    "Authorization: x",
];

/// Fields that a request, at least, is refused for.
const BAD_FIELDS: [&str; 8] = [
    "Content-Length: 5,5",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: x",
    "Expect: x",
    "Host: b",
    " folded",
    "Bad : x",
    "No colon",
];

fn request(numbers: &mut Numbers) -> Vec<u8> {
    let mut text = lean(numbers, &["", "\r\n", "\n"]).to_owned();
    text += pick(numbers, &["GET", "POST", "OPTIONS", "HEAD", "PURGE", "GET", "TRACE", "CONNECT", "G@T"]);
    text += lean(numbers, &[" ", "  ", "\t"]);
    let prefix = ["/", "/", "/", "http://b.example:81", "HTTPS://[::1]/", "*", "http://", "x"];
    text += pick(numbers, &prefix);
    for _ in 0..numbers.below(6) {
        text += pick(
            numbers,
            &[
                "a", "/", "..", "/../", "%2e", "%2F", "%00", "%5c", "\\", "?", "%41", ".", "/./", "%c3", "%",
                "//",
            ],
        );
    }
    text += lean(numbers, &[" HTTP/1.1\r\n", " HTTP/1.0\r\n", " HTTP/2.0\r\n", " HTTP/1.1\n", "\r\n"]);
    text += lean(numbers, &["Host: a.example\r\n", "", "Host:\r\n", "host: [::1]:80\r\n", "Host: a b\r\n"]);
    fields(numbers, &mut text);
    text.into_bytes()
}

fn response(numbers: &mut Numbers) -> Vec<u8> {
    let mut text = pick(numbers, &["H", "G"]).to_owned();
    text += lean(numbers, &["HTTP/1.1 ", "HTTP/1.0 ", "HTTP/2.0 ", "HTTP/1.1"]);
    text += pick(numbers, &["200", "204", "304", "101", "103", "404", "999", "20"]);
    text += lean(numbers, &[" OK\r\n", "\r\n", " \r\n", " \u{e9} x\r\n", " OK\n"]);
    fields(numbers, &mut text);
    text.into_bytes()
}

fn fields(numbers: &mut Numbers, text: &mut String) {
    for _ in 0..[0, 1, 2, 3, 5, 14][numbers.below(6)] {
        *text += if numbers.below(12) > 0 { pick(numbers, &FIELDS) } else { pick(numbers, &BAD_FIELDS) };
        *text += if numbers.below(40) > 0 { "\r\n" } else { "\n" };
    }
    *text += lean(numbers, &["\r\n", "\r\nbody", "", "\n"]);
}

fn content(numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..numbers.below(5) {
        let len = 1 + numbers.below(40);
        let size = if numbers.below(2) == 0 { format!("{len:x}") } else { format!("00{len:X}") };
        bytes.extend_from_slice(size.as_bytes());
        bytes.extend_from_slice(
            lean(numbers, &["\r\n", ";a=b\r\n", ";a=\"c d\"\r\n", " \r\n", "\n"]).as_bytes(),
        );
        bytes.extend((0..len).map(|_| b"\r\n0;:ab"[numbers.below(7)]));
        bytes.extend_from_slice(lean(numbers, &["\r\n", "\n", "", "x\r\n"]).as_bytes());
    }
    bytes.extend_from_slice(lean(numbers, &["0\r\n", "000\r\n", "0;a\r\n", "0\n"]).as_bytes());
    for _ in 0..[0, 0, 1, 2, 7][numbers.below(5)] {
        bytes.extend_from_slice(pick(numbers, &FIELDS).as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(lean(numbers, &["\r\n", "\r\nGET / HTTP/1.1\r\n", "\n", ""]).as_bytes());
    bytes
}

fn hello(numbers: &mut Numbers) -> Vec<u8> {
    if numbers.below(10) == 0 {
        let first = [
            "GET / HTTP/1.1",
            "PROPFIND /",
            "PROXY TCP4",
            "\r\n\r\n\0\r\nQUIT",
            "\u{15}\u{3}\u{1}",
            "EHLO a",
        ];
        return pick(numbers, &first).as_bytes().to_vec();
    }
    let host = lean(numbers, &["a.example", "", "A-b.example.", "127.0.0.1", "::1", "a..b", "a b", "x_y"]);
    let extensions = [
        (0x0a0a, vec![]),
        (0, samples::sni(host)),
        (16, samples::alpn(&[lean(numbers, &["h2", "\u{a}\u{a}"]), lean(numbers, &["http/1.1", ""])])),
        (43, samples::versions(&[0x1a1a, 0x0304, 0x0303, 0x0300][numbers.below(4)..])),
        (13, vec![0, 2, 4, 3]),
        (0xfe0d, vec![0; 40]),
        (0xff01, vec![0]),
    ];
    let some: Vec<_> = extensions.into_iter().filter(|_| numbers.below(6) > 0).collect();
    let mut sample = samples::Sample::new(some);
    sample.legacy_version = [0x0303, 0x0303, 0x0303, 0x0301, 0x0300, 0x0505][numbers.below(6)];
    let sizes: Vec<usize> = (0..[1, 1, 2, 70][numbers.below(4)]).map(|_| 1 + numbers.below(300)).collect();
    let mut bytes = samples::records(&sample.message(), &sizes);
    bytes.extend_from_slice(lean(numbers, &["", "\u{14}\u{3}\u{3}\0\u{1}\u{1}"]).as_bytes());
    bytes
}

fn proxy_header(numbers: &mut Numbers) -> Vec<u8> {
    if numbers.below(2) == 0 {
        let family = lean(numbers, &["TCP4", "TCP6", "UNKNOWN", "UDP4"]);
        let address = if family == "TCP6" { "2001:db8::1" } else { "192.0.2.1" };
        let port = lean(numbers, &["443", "0", "65536", "080"]);
        let end = lean(numbers, &["\r\n", "\n", "\r\nGET"]);
        return format!("PROXY {family} {address} {address} 1 {port}{end}").into_bytes();
    }
    let mut body = vec![7; [12, 36, 12, 0][numbers.below(4)]];
    for _ in 0..numbers.below(3) {
        let length = numbers.below(6) as u8;
        body.extend_from_slice(&[1 + numbers.below(5) as u8, 0, length]);
        body.extend(std::iter::repeat_n(9, usize::from(length)));
    }
    let command = [0x21, 0x21, 0x20, 0x11][numbers.below(4)];
    let family = [0x11, 0x21, 0x00, 0x31][numbers.below(4)];
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    bytes.extend_from_slice(&[command, family, 0, body.len() as u8]);
    bytes.append(&mut body);
    bytes
}

/// Runs `check` on damaged messages; enough of them, and not all, must be taken by `taken`.
fn run(make: fn(&mut Numbers) -> Vec<u8>, check: Check, taken: fn(&[u8]) -> bool) {
    let mut numbers = numbers();
    let mut count = 0;
    for _ in 0..ROUNDS {
        let mut bytes = make(&mut numbers);
        damage(&mut numbers, &mut bytes);
        check(&bytes);
        count += usize::from(taken(&bytes));
    }
    println!("{count} of {ROUNDS} taken");
    assert!(count > ROUNDS / 50 && count < ROUNDS, "the generator misses its aim: {count} of {ROUNDS} taken");
}

#[test]
fn requests_hold() {
    run(request, request_head, |bytes| matches!(request_by(bytes, &[bytes.len()]), Ok(Some(_))));
}

#[test]
fn responses_hold() {
    run(response, response_head, |bytes| {
        matches!(response_by(&bytes[1..], &[bytes.len() - 1], Method::Get), Ok(Some(_)))
    });
}

#[test]
fn chunked_content_holds() {
    run(content, chunked, |bytes| {
        matches!(decode_by(bytes, &[bytes.len()], ChunkLimits::default()).1, Ok(Some(_)))
    });
}

#[test]
fn hellos_hold() {
    run(hello, client_hello, |bytes| matches!(walk(bytes, &mut Default::default()), Outcome::Complete(_)));
}

#[test]
fn proxy_headers_hold() {
    run(proxy_header, proxy_protocol, |bytes| {
        matches!(crate::proxy_protocol::parse(bytes), crate::proxy_protocol::Outcome::Complete { .. })
    });
}

/// The seed corpus of the fuzzer holds, too, and is there.
#[test]
fn corpus_holds() {
    let targets: [(&str, Check); 5] = [
        ("request_head", request_head),
        ("response_head", response_head),
        ("chunked", chunked),
        ("client_hello", client_hello),
        ("proxy_protocol", proxy_protocol),
    ];
    for (target, check) in targets {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
        let mut count = 0;
        for entry in std::fs::read_dir(&folder).unwrap() {
            check(&std::fs::read(entry.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count >= 5, "{target}: {count} seeds");
    }
}
