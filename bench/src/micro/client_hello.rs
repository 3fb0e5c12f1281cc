//! Operations on the first bytes of a TLS connection.

use std::hint::black_box;

use ringgate::downstream::client_hello::{Outcome, Scratch, TlsVersion, walk};

use super::cases::Operation;

const HOST: &[u8] = b"www.example.test";

/// A handshake message as a browser sends it: GREASE, 16 extensions, and a hybrid key share of 1.2 KB.
fn browser() -> Vec<u8> {
    let key_share = [&[0, 0, 0, 1, 0][..], &with_length(&[0x11, 0xec], &[0x5a; 1216])].concat();
    let extensions: [(u16, Vec<u8>); 16] = [
        (0x2a2a, vec![]),
        (35, vec![]),
        (43, vec![6, 0x7a, 0x7a, 3, 4, 3, 3]),
        (27, vec![2, 0, 2]),
        (5, vec![1, 0, 0, 0, 0]),
        (11, vec![1, 0]),
        (23, vec![]),
        (51, with_length(&[], &key_share)),
        (0, with_length(&[], &with_length(&[0], HOST))),
        (16, with_length(&[], b"\x02h2\x08http/1.1")),
        (10, vec![0, 8, 0x3a, 0x3a, 0x11, 0xec, 0, 29, 0, 23]),
        (13, vec![0, 8, 4, 3, 8, 4, 4, 1, 5, 3]),
        (0xfe0d, vec![0; 250]),
        (0xff01, vec![0]),
        (45, vec![1, 1]),
        (0x8a8a, vec![0]),
    ];
    let mut all = Vec::new();
    for (of_type, data) in extensions {
        all.extend(with_length(&of_type.to_be_bytes(), &data));
    }
    let mut body = vec![3, 3];
    body.extend_from_slice(&[0x5a; 32]);
    body.push(32);
    body.extend_from_slice(&[0x5a; 32]);
    body.extend(with_length(&[], &[0x13; 32]));
    body.extend_from_slice(&[1, 0]);
    body.extend(with_length(&[], &all));
    with_length(&[1, 0], &body)
}

/// `data` behind a length of two bytes, behind `before`.
fn with_length(before: &[u8], data: &[u8]) -> Vec<u8> {
    [before, &(data.len() as u16).to_be_bytes(), data].concat()
}

fn walk_in_records(fragment_bytes: usize) -> Operation {
    let message = browser();
    let bytes: Vec<u8> =
        message.chunks(fragment_bytes).flat_map(|fragment| with_length(&[22, 3, 1], fragment)).collect();
    let mut scratch = Scratch::default();
    Box::new(move || {
        let outcome = walk(black_box(&bytes), &mut scratch);
        let Outcome::Complete(hello) = &outcome else { unreachable!("a whole hello gave {outcome:?}") };
        assert!(hello.server_name.is_some() && hello.versions.highest() == Some(TlsVersion::Tls13));
        black_box(&outcome);
    })
}

pub(super) fn one_record() -> Operation {
    walk_in_records(1 << 14)
}

pub(super) fn two_records() -> Operation {
    walk_in_records(1000)
}
