//! Response heads: one verdict however they arrive, and a rewritten response that says the same.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringgate::fuzz::response_head(data));
