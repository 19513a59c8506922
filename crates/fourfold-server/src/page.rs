//! The page at `/`: files that are part of the binary.

use bytes::Bytes;
use http::{StatusCode, header};

use crate::answer::{self, Answer};

/// Only what the page itself brings; it talks to its own origin.
const POLICY: &str =
    "default-src 'self'; connect-src 'self' ws: wss:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// Where the page at `/` has its link to what the one who mounts the server adds.
const LINK: &str = "<!-- extra -->";

/// Where the page says that there are no rules, and so no tokens to show.
const OPEN: &str = r#"data-access="open""#;
const RULES: &str = r#"data-access="rules""#;

/// The file at this path. `link` is a path and plain words; `is_open` says that there are no rules.
pub(crate) fn get(path: &str, link: Option<(&str, &str)>, is_open: bool) -> Option<Answer> {
    let (_, content_type, text) = FILES.iter().find(|(at, ..)| *at == path)?;
    let mut parts = answer::head(StatusCode::OK);
    answer::put(&mut parts, header::CONTENT_TYPE, content_type);
    answer::put(&mut parts, header::CACHE_CONTROL, "no-cache");
    answer::put(&mut parts, header::CONTENT_SECURITY_POLICY, POLICY);
    let body = if path == "/" && (link.is_some() || !is_open) {
        let link = link.map(|(to, words)| format!(r#"<a class="extra" href="{to}">{words}</a>"#)).unwrap_or_default();
        Bytes::from(text.replace(LINK, &link).replacen(OPEN, if is_open { OPEN } else { RULES }, 1))
    } else {
        Bytes::from_static(text.as_bytes())
    };
    Some(answer::full(parts, body))
}

macro_rules! file {
    ($name:literal) => {
        (concat!("/page/", $name), content_type($name), include_str!(concat!("page/", $name)))
    };
}

/// Path, content type, text. One line a file of the folder `page`; a test finds a forgotten one.
const FILES: &[(&str, &str, &str)] = &[
    ("/", "text/html; charset=utf-8", include_str!("page/index.html")),
    file!("call_view.js"),
    file!("calls.js"),
    file!("catalog.js"),
    file!("chart.js"),
    file!("code.js"),
    file!("code_card.js"),
    file!("continuity.js"),
    file!("copy.js"),
    file!("favicon.svg"),
    file!("format.js"),
    file!("forms.js"),
    file!("latency.js"),
    file!("long_poll.js"),
    file!("page.css"),
    file!("page.js"),
    file!("panel.js"),
    file!("pause.js"),
    file!("problem.js"),
    file!("series.js"),
    file!("short_poll.js"),
    file!("slots.js"),
    file!("sse.js"),
    file!("stream.js"),
    file!("subscription.js"),
    file!("token.js"),
    file!("transport.js"),
    file!("websocket.js"),
];

const fn content_type(name: &str) -> &'static str {
    match name.as_bytes() {
        [.., b'.', b'j', b's'] => "text/javascript; charset=utf-8",
        [.., b'.', b'c', b's', b's'] => "text/css; charset=utf-8",
        [.., b'.', b's', b'v', b'g'] => "image/svg+xml",
        _ => panic!("a file of the page has no content type yet"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_file_of_the_page_is_served() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/page");
        for entry in std::fs::read_dir(folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let path = if name == "index.html" { "/".to_owned() } else { format!("/page/{name}") };
            assert!(super::get(&path, None, true).is_some(), "{name} is not served: add it to FILES");
        }
    }

    #[test]
    fn the_page_has_a_place_for_a_link_and_says_whether_there_are_rules() {
        for place in [super::LINK, super::OPEN] {
            assert_eq!(include_str!("page/index.html").matches(place).count(), 1);
        }
    }
}
