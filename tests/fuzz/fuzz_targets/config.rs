//! Configuration text: a checked configuration or diagnostics, never a panic.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringgate::config::fuzz_text(data));
