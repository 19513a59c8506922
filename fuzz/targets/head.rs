#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fourfold_server::fuzzing::head(data));
