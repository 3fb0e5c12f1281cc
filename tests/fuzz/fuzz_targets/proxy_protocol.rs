//! The header of a proxy in front of us: one verdict however it arrives, and what it says can be written again.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringgate::fuzz::proxy_protocol(data));
