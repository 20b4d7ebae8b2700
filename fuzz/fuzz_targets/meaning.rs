//! libFuzzer program; the target is in `src/gate.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_fuzz::gate::meaning(data));
