//! libFuzzer program; the target is in `src/evidence.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_fuzz::evidence::siem(data));
