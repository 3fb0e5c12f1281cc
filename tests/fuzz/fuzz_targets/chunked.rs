//! Chunked content: one outcome however it arrives.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringgate::fuzz::chunked(data));
