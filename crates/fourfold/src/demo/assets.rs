//! The files of the page at `/demo`, part of the binary.

use bytes::Bytes;
use http::{HeaderValue, Response, header};

/// The file of this name; the page itself has none. It may talk to its own origin and to the relay.
pub(super) fn get(name: &str, weather_port: u16) -> Option<Response<Bytes>> {
    let name = if name.is_empty() { "index.html" } else { name };
    let (_, content_type, text) = FILES.iter().find(|(at, ..)| *at == name)?;
    let policy = format!(
        "default-src 'self'; connect-src 'self' ws: http://127.0.0.1:{weather_port}; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    );
    let mut answer = Response::new(Bytes::from_static(text.as_bytes()));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_str(&policy).ok()?);
    Some(answer)
}

macro_rules! file {
    ($name:literal) => {
        ($name, content_type($name), include_str!(concat!("assets/", $name)))
    };
}

/// Name, content type, text. One line a file of the folder `assets`; a test finds a forgotten one.
const FILES: &[(&str, &str, &str)] = &[
    file!("carriage.js"),
    file!("chat.js"),
    file!("demo.css"),
    file!("demo.js"),
    file!("dom.js"),
    file!("fourfold.js"),
    file!("index.html"),
    file!("lanes.js"),
    file!("network.js"),
    file!("notices.js"),
    file!("progress.js"),
    file!("rates.js"),
    file!("witness.js"),
];

const fn content_type(name: &str) -> &'static str {
    match name.as_bytes() {
        [.., b'.', b'h', b't', b'm', b'l'] => "text/html; charset=utf-8",
        [.., b'.', b'j', b's'] => "text/javascript; charset=utf-8",
        [.., b'.', b'c', b's', b's'] => "text/css; charset=utf-8",
        _ => panic!("a file of the demo has no content type yet"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_file_of_the_demo_is_served() {
        for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/demo/assets")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(super::get(&name, 1).is_some(), "{name} is not served: add it to FILES");
        }
    }
}
