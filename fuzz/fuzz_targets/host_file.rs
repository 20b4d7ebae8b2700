//! libFuzzer program; the target is in `src/clients.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_fuzz::clients::host_file(data));
