//! First bytes of a connection: one verdict however they arrive, and the same hello from other records.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringgate::fuzz::client_hello(data));
