//! What a caller may add to an upstream's URL: a path strictly below the configured one, and a query. Everything that some server somewhere reads as
//! "up", as another host or as another line is refused, encoded or not.

use crate::limits::{QUERY_BYTES_MAX, REST_BYTES_MAX};

/// Why what stands behind a call's name is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The configuration has `rest = false`, and there is a path: there is nothing at this URL.
    #[error("this call takes no path behind its name")]
    Rest,
    /// The configuration has `rest = false`, and there is a query.
    #[error("this call takes no query")]
    Query,
    /// It is longer than can be passed on.
    #[error("the path behind the call's name has more than {REST_BYTES_MAX} bytes")]
    RestTooLong,
    /// It is longer than can be passed on.
    #[error("the query has more than {QUERY_BYTES_MAX} bytes")]
    QueryTooLong,
    /// A dot segment, an empty segment, an encoded slash, or a character that has no place in a path.
    #[error("the path behind the call's name {0}")]
    RestUnsafe(&'static str),
    /// A character that has no place in a query.
    #[error("the query has a character that must be percent-encoded")]
    QueryUnsafe,
}

pub(super) fn check(allowed: bool, rest: &str, query: Option<&str>) -> Result<(), Refused> {
    let query = query.unwrap_or_default();
    match allowed {
        false if !rest.is_empty() => return Err(Refused::Rest),
        false if !query.is_empty() => return Err(Refused::Query),
        _ if rest.len() > REST_BYTES_MAX => return Err(Refused::RestTooLong),
        _ if query.len() > QUERY_BYTES_MAX => return Err(Refused::QueryTooLong),
        _ => {}
    }
    if !query.bytes().all(|b| b.is_ascii_graphic() && !b"#\"<>\\^`{|}".contains(&b)) {
        return Err(Refused::QueryUnsafe);
    }
    if rest.is_empty() {
        return Ok(());
    }
    path(rest).map_err(Refused::RestUnsafe)
}

fn path(rest: &str) -> Result<(), &'static str> {
    let segments = rest.strip_prefix('/').ok_or("does not begin with a slash")?;
    let count = segments.split('/').count();
    for (nth, segment) in segments.split('/').enumerate() {
        let is_last = nth + 1 == count;
        if segment.is_empty() && (nth == 0 || !is_last) {
            return Err("has an empty segment");
        }
        let plain = decoded(segment)?;
        // Some servers cut a segment's parameters off before they look for dots.
        let (named, _) = plain.split_once(';').unwrap_or((&plain, ""));
        if matches!(named, "." | "..") || (named.is_empty() && !segment.is_empty()) {
            return Err("has a dot segment");
        }
    }
    Ok(())
}

/// A segment's characters, or why none of its kind is passed on.
fn decoded(segment: &str) -> Result<String, &'static str> {
    let mut plain = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16));
                let (Some(high), Some(low)) = (digit(), digit()) else { return Err("has a broken percent-encoding") };
                let byte = u8::try_from(high * 16 + low).expect("two hexadecimal digits are one byte");
                match byte {
                    b'/' | b'\\' => return Err("has an encoded slash"),
                    b'%' => return Err("is encoded twice"), // What decodes twice would find a slash or a dot in it.
                    0..=31 | 127 => return Err("has an encoded control character"),
                    _ => plain.push(byte),
                }
            }
            _ if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:".contains(&byte) => plain.push(byte),
            _ => return Err("has a character that must be percent-encoded"),
        }
    }
    // Overlong forms of dots and slashes are no UTF-8.
    String::from_utf8(plain).map_err(|_| "is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_path_strictly_below_is_passed_on() {
        for good in
            ["", "/a", "/a/b", "/a/", "/a.b/..c/...", "/%C3%BC", "/a%20b", "/a;v=1", "/a:b", "/user%40example.org"]
        {
            assert_eq!(check(true, good, Some("a=1&b=%0A?/")), Ok(()), "{good}");
        }
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        for bad in [
            "a",
            "/",
            "//",
            "//evil.example/x",
            "/a//b",
            "/..",
            "/a/..",
            "/../a",
            "/a/../b",
            "/.",
            "/./a",
            "/%2e%2e/a",
            "/%2E",
            "/.%2e/a",
            "/a/%2e./b",
            "/..;/a",
            "/..;x=1",
            "/%2e%2e%3b/a",
            "/;/a",
            "/a%2fb",
            "/a%2Fb",
            "/%5c..",
            "/a\\b",
            "/..\\a",
            "/a%5Cb",
            "/%252e%252e/a",
            "/a%25",
            "/@evil.example",
            "/a@b",
            "/a\r\nHost: x",
            "/a%0d%0a",
            "/a%00",
            "/a%7f",
            "/a b",
            "/a\t",
            "/%",
            "/%2",
            "/%zz",
            "/%u002e",
            "/%c0%ae%c0%ae/a",
            "/%c0%af",
            "/ü",
            "/a#b",
            "/a?b",
            "/a\"",
            "/[",
            "/\u{7f}",
        ] {
            let refused = check(true, bad, None);
            assert!(matches!(refused, Err(Refused::RestUnsafe(_))), "{bad:?}: {refused:?}");
        }
    }

    #[test]
    fn a_query_cannot_end_the_request_line() {
        for bad in ["a=b c", "a\r\nb", "a#b", "a\0", "ü", "a<b", "a\\b"] {
            assert_eq!(check(true, "", Some(bad)), Err(Refused::QueryUnsafe), "{bad:?}");
        }
    }

    #[test]
    fn nothing_is_passed_on_unless_it_is_configured() {
        assert_eq!(check(false, "", None), Ok(()));
        assert_eq!(check(false, "", Some("")), Ok(()));
        assert_eq!(check(false, "/a", None), Err(Refused::Rest));
        assert_eq!(check(false, "", Some("a=1")), Err(Refused::Query));
        assert_eq!(check(true, &"/a".repeat(2_000), None), Err(Refused::RestTooLong));
        assert_eq!(check(true, "", Some(&"a".repeat(10_000))), Err(Refused::QueryTooLong));
    }

    proptest! {
        #[test]
        fn an_url_never_leaves_its_path(rest in "(/|\\.|%2e|%2F|%5c|;|\\\\|@|:|a|%25|%09|\t|\\?|#){0,12}") {
            let base = url::Url::parse("http://upstream.example/base/path").unwrap();
            if check(true, &rest, None).is_ok() {
                let joined = url::Url::parse(&format!("{base}{rest}")).unwrap();
                prop_assert_eq!(joined.host_str(), Some("upstream.example"));
                prop_assert!(joined.path().starts_with("/base/path"));
                prop_assert_eq!(joined.path(), format!("/base/path{rest}"), "a browser's parser changes nothing of it");
            }
        }
    }
}
