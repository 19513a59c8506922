#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fourfold_protocol::fuzzing::words(data));
