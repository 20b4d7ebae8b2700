//! libFuzzer program; the target is in `src/protocol.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_fuzz::protocol::chunks(data));
