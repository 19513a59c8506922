//! Which pages may begin a call. Any page that a browser shows can send requests to a server on its reader's machine or network, and what a
//! call runs is more than a record: so pages of other hosts have to be named.

use std::net::IpAddr;

use url::{Host, Url};

use super::{ConfigError, typed::fault};

/// Every page.
const ANY: &str = "*";

/// Checks what was typed. Errors: the first that is not an origin.
pub fn check(origins: Vec<String>) -> Result<Vec<String>, ConfigError> {
    for typed in &origins {
        let is_one = |url: Url| url.origin().ascii_serialization() == *typed;
        if typed != ANY && !Url::parse(typed).is_ok_and(is_one) {
            let shown = typed.escape_debug();
            return Err(fault(format!("origins: '{shown}' is none; write 'https://app.example' or '*'")));
        }
    }
    Ok(origins)
}

/// Whether a page of `origin` may, on a server that its browser knows as `host`: one of the same host on any port, all names of this machine
/// being one, or one that is named.
pub fn admits(origins: &[String], origin: &str, host: Option<&str>) -> bool {
    if origins.iter().any(|named| named == ANY || named == origin) {
        return true;
    }
    let of = |url: String| Url::parse(&url).ok().and_then(|url| url.host().map(|host| host.to_owned()));
    let page = of(origin.to_owned());
    let server = host.and_then(|host| of(format!("http://{host}")));
    match (page, server) {
        (Some(page), Some(server)) => page == server || (is_here(&page) && is_here(&server)),
        _ => false,
    }
}

fn is_here(host: &Host<String>) -> bool {
    match host {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(ip) => IpAddr::V4(*ip).is_loopback(),
        Host::Ipv6(ip) => IpAddr::V6(*ip).is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_the_same_host_may_and_one_that_is_named() {
        let named = [String::from("https://app.example")];
        for (origin, host) in [
            ("http://127.0.0.1:4437", "127.0.0.1:4437"),
            ("http://localhost:3000", "127.0.0.1:4437"),
            ("http://[::1]:3000", "localhost:4437"),
            ("https://work.example", "work.example"),
            ("https://app.example", "api.example:4437"),
        ] {
            assert!(admits(&named, origin, Some(host)), "{origin} at {host}");
        }
        assert!(admits(&["*".into()], "null", None));
    }

    #[test]
    fn other_pages_may_not() {
        let named = [String::from("https://app.example")];
        for (origin, host) in [
            ("https://evil.example", "127.0.0.1:4437"),
            ("https://localhost.evil.example", "localhost:4437"),
            ("http://app.example", "api.example"),
            ("https://app.example:8443", "api.example"),
            ("null", "127.0.0.1:4437"),
            ("", ""),
            ("file://", "127.0.0.1:4437"),
        ] {
            assert!(!admits(&named, origin, Some(host)), "{origin} at {host}");
        }
        assert!(!admits(&[], "http://localhost", None));
    }

    #[test]
    fn what_is_no_origin_is_told_at_the_start() {
        for wrong in
            ["app.example", "https://app.example/", "https://APP.example", "https://app.example:443", "null", ""]
        {
            assert!(check(vec![wrong.into()]).is_err(), "{wrong}");
        }
        assert!(check(vec!["https://app.example".into(), "http://localhost:3000".into(), "*".into()]).is_ok());
    }
}
