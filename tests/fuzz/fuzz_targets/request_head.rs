//! Request heads: one verdict however they arrive, and a rewritten request that says the same.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringgate::fuzz::request_head(data));
