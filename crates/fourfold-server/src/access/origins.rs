//! From which pages requests may come. Any page that a browser shows can send requests with its reader's cookies, and from its reader's place in the
//! network; the browser says which page it was, and nothing else protects from that.
//!
//! | | a page of the same host | a page that is named | another page |
//! |---|---|---|---|
//! | open server | may | may | may not |
//! | rules, token sent on purpose, or anonymous | may | may | may, unless some are named |
//! | rules, token in a cookie | only of the same port, too | may | may not |

use std::sync::{Arc, RwLock};

use fourfold_access::Place;
use fourfold_calls::origins::{admits, check};
use fourfold_protocol::{Code, Refusal};
use http::{HeaderMap, HeaderValue, Method, Request, header};

use super::host;

/// Every page.
const ANY: &str = "*";

/// The pages that are named. Cheap to clone; all clones follow a reload.
#[derive(Clone, Debug, Default)]
pub struct Origins(Arc<RwLock<Arc<[String]>>>);

impl Origins {
    /// Each is a scheme, a host and perhaps a port, such as `https://app.example`, or `*` for every page.
    ///
    /// Errors: the first that is no origin, and how to write one.
    pub fn named(origins: Vec<String>) -> Result<Self, String> {
        let origins = check(origins).map_err(|error| error.to_string())?;
        Ok(Self(Arc::new(RwLock::new(origins.into()))))
    }

    /// Takes over what another one names, in all clones.
    pub fn reload(&self, from: &Self) {
        let named = from.list();
        *self.0.write().expect("no code panics while it holds the origins") = named;
    }

    fn list(&self) -> Arc<[String]> {
        Arc::clone(&self.0.read().expect("no code panics while it holds the origins"))
    }

    /// Whether this page is named, and not just any.
    pub(crate) fn names(&self, origin: &HeaderValue) -> bool {
        self.list().iter().any(|named| named != ANY && named.as_bytes() == origin.as_bytes())
    }

    /// For a server that is open to everybody: a stranger's page must not read or write it through its reader's browser.
    pub(super) fn check_open<B>(&self, request: &Request<B>) -> Result<(), Refusal> {
        let Some(origin) = request.headers().get(header::ORIGIN) else { return Ok(()) };
        self.admit(origin, host(request.uri(), request.headers()))
    }

    /// For a server with rules, which speaks TLS itself or not.
    pub(super) fn check<B>(
        &self,
        request: &Request<B>,
        upgrade: bool,
        place: Option<Place>,
        tls: bool,
    ) -> Result<(), Refusal> {
        let headers = request.headers();
        let origin = headers.get(header::ORIGIN);
        let server = host(request.uri(), headers);
        if place == Some(Place::Cookie) {
            let safe = [Method::GET, Method::HEAD].contains(request.method()) && !upgrade;
            return match origin {
                Some(origin) if is_same(origin, server, tls) || self.names(origin) => Ok(()),
                Some(origin) => Err(refused(origin, "may not use the reader's cookie here")),
                None if safe && !comes_from_elsewhere(headers) => Ok(()),
                None => Err(Refusal::new(
                    Code::OriginNotAllowed,
                    "a cookie alone is not enough for this, as any page could cause it: send the token as Authorization: Bearer, or an Origin that is allowed",
                )),
            };
        }
        match origin {
            Some(origin) if !self.list().is_empty() => self.admit(origin, server),
            _ => Ok(()),
        }
    }

    fn admit(&self, origin: &HeaderValue, server: Option<&str>) -> Result<(), Refusal> {
        let text = origin.to_str().unwrap_or_default();
        if admits(&self.list(), text, server) {
            return Ok(());
        }
        Err(refused(origin, "may not use this server"))
    }
}

fn refused(origin: &HeaderValue, what: &str) -> Refusal {
    let shown: String = origin.to_str().unwrap_or("this origin").chars().take(ORIGIN_SHOWN_MAX).collect();
    let detail = format!("a page of {shown} {what}: name it with --origins, or the key 'origins' of the configuration");
    Refusal::new(Code::OriginNotAllowed, detail)
}

/// An origin in a refusal, in characters.
const ORIGIN_SHOWN_MAX: usize = 100;

/// The same host and port, and scheme if this server speaks TLS: what somebody in the middle puts into a page without is not of the same origin. Without it
/// the scheme is not known, as a proxy may end TLS.
fn is_same(origin: &HeaderValue, server: Option<&str>, tls: bool) -> bool {
    let page = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    page.zip(server).is_some_and(|((scheme, authority), server)| {
        authority.eq_ignore_ascii_case(server) && (!tls || scheme == "https")
    })
}

/// Browsers say so where they send no `Origin`: images, scripts, links.
fn comes_from_elsewhere(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: Method, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().method(method).uri("/v1/stream/a").header("host", "rt.example:8443");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    fn named(origins: &[&str]) -> Origins {
        Origins::named(origins.iter().map(|text| (*text).to_owned()).collect()).unwrap()
    }

    #[test]
    fn an_open_server_is_for_pages_of_its_own_host() {
        let may = |origins: &Origins, origin| origins.check_open(&request(Method::GET, &[("origin", origin)])).is_ok();
        let nobody = Origins::default();
        for origin in ["http://rt.example:3000", "https://rt.example"] {
            assert!(may(&nobody, origin), "{origin}");
        }
        for origin in ["https://evil.example", "null", "http://rt.example.evil", "", "http://localhost"] {
            assert!(!may(&nobody, origin), "{origin}");
        }
        assert!(may(&named(&["https://app.example"]), "https://app.example"));
        assert!(may(&named(&["*"]), "https://evil.example"));
        assert!(nobody.check_open(&request(Method::POST, &[])).is_ok(), "not a browser");
    }

    #[test]
    fn a_cookie_is_for_pages_of_the_same_origin_and_named_ones() {
        let check = |origins: &Origins, method: Method, headers: &[(&str, &str)], upgrade| {
            origins.check(&request(method, headers), upgrade, Some(Place::Cookie), false).is_ok()
        };
        let origins = named(&["https://app.example"]);
        let same = [("origin", "https://rt.example:8443")];
        let app = [("origin", "https://app.example")];
        for (headers, may) in [
            (&same[..], true),
            (&app, true),
            (&[("origin", "https://rt.example")], false),
            (&[("origin", "https://evil.example")], false),
            (&[("origin", "null")], false),
        ] {
            for (method, upgrade) in [(Method::GET, false), (Method::GET, true), (Method::POST, false)] {
                assert_eq!(check(&origins, method.clone(), headers, upgrade), may, "{method} {upgrade} {headers:?}");
            }
        }
        assert!(check(&origins, Method::GET, &[], false));
        assert!(check(&origins, Method::GET, &[("sec-fetch-site", "same-origin")], false));
        assert!(!check(&origins, Method::GET, &[("sec-fetch-site", "cross-site")], false));
        assert!(!check(&origins, Method::POST, &[], false), "an append needs an Origin");
        assert!(!check(&origins, Method::GET, &[], true), "and so does a WebSocket");
        assert!(!check(&named(&["*"]), Method::GET, &[("origin", "https://evil.example")], false), "named is not any");
    }

    #[test]
    fn beside_tls_a_page_without_it_is_another_origin() {
        let check = |origin, tls| {
            let request = request(Method::POST, &[("origin", origin)]);
            Origins::default().check(&request, false, Some(Place::Cookie), tls).is_ok()
        };
        assert!(check("https://rt.example:8443", true));
        assert!(!check("http://rt.example:8443", true));
        assert!(check("http://rt.example:8443", false), "a proxy may end TLS, or nobody speaks it");
    }

    #[test]
    fn a_token_sent_on_purpose_may_come_from_any_page_unless_some_are_named() {
        let evil = request(Method::POST, &[("origin", "https://evil.example")]);
        assert!(Origins::default().check(&evil, false, Some(Place::Header), true).is_ok());
        assert!(Origins::default().check(&evil, false, None, true).is_ok());
        assert!(named(&["https://app.example"]).check(&evil, false, Some(Place::Query), true).is_err());
    }

    #[test]
    fn a_reload_reaches_all_clones() {
        let (origins, app) = (Origins::default(), HeaderValue::from_static("https://app.example"));
        let clone = origins.clone();
        origins.reload(&named(&["https://app.example"]));
        assert!(clone.names(&app));
    }
}
