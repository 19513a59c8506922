//! Where a token may stand in a request. Browsers cannot set headers everywhere, so there are four places.
//!
//! One that a program has put there on purpose outranks the cookie, which a browser sends by itself.

use std::borrow::Cow;

use fourfold_access::{Credential, Place};
use fourfold_protocol::{Code, Refusal};
use http::{HeaderMap, Request, header};

use crate::query::decode;

/// What stands before a token among the offered subprotocols of a WebSocket.
const SUBPROTOCOL: &str = "fourfold.token.";

/// A token, and where it stood.
pub(crate) struct Found<'a> {
    pub(crate) token: Cow<'a, str>,
    pub(crate) place: Place,
}

impl Found<'_> {
    pub(crate) fn credential(&self) -> Credential<'_> {
        Credential { token: &self.token, place: self.place }
    }
}

/// The token that a request brings, if any. Errors: two tokens in one place, of which either might be meant.
pub(crate) fn find<'a, B>(
    request: &'a Request<B>,
    upgrade: bool,
    cookie: Option<&str>,
    parameter: Option<&str>,
) -> Result<Option<Found<'a>>, Refusal> {
    let headers = request.headers();
    if let Some(token) = bearer(headers)? {
        return Ok(Some(Found { token: token.into(), place: Place::Header }));
    }
    if upgrade && let Some(token) = subprotocol(headers)? {
        return Ok(Some(Found { token: token.into(), place: Place::Subprotocol }));
    }
    if let Some(name) = parameter
        && let Some(token) = in_query(request.uri().query(), name)?
    {
        return Ok(Some(Found { token, place: Place::Query }));
    }
    let token = cookie.map(|name| in_cookies(headers, name)).transpose()?.flatten();
    Ok(token.map(|token| Found { token: token.into(), place: Place::Cookie }))
}

/// `Authorization: Bearer`; another scheme is for somebody else.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let values = headers.get_all(header::AUTHORIZATION).iter().filter_map(|value| value.to_str().ok());
    let tokens = values.filter_map(|value| {
        let (scheme, token) = value.trim().split_once(' ').unwrap_or((value.trim(), ""));
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    only(tokens, "Authorization")
}

fn subprotocol(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let offered = values.flat_map(|value| value.split(','));
    only(offered.filter_map(|protocol| protocol.trim().strip_prefix(SUBPROTOCOL)), "Sec-WebSocket-Protocol")
}

fn in_query<'a>(query: Option<&'a str>, wanted: &str) -> Result<Option<Cow<'a, str>>, Refusal> {
    let pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let tokens = pairs.filter(|(name, _)| *name == wanted).map(|(_, token)| token);
    let Some(token) = only(tokens, wanted)? else { return Ok(None) };
    if !token.contains(['%', '+']) {
        return Ok(Some(token.into()));
    }
    let detail = format!("the value of '{wanted}' is not percent-encoded UTF-8");
    decode(token).map(|token| Some(token.into())).ok_or_else(|| Refusal::new(Code::InvalidQuery, detail))
}

fn in_cookies<'a>(headers: &'a HeaderMap, wanted: &str) -> Result<Option<&'a str>, Refusal> {
    let values = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    // Whoever can set a cookie for a parent domain can place a second one: neither is believed.
    only(pairs.filter(|(name, _)| *name == wanted).map(|(_, token)| token.trim_matches('"')), "Cookie")
}

fn only<'a>(mut tokens: impl Iterator<Item = &'a str>, place: &str) -> Result<Option<&'a str>, Refusal> {
    let first = tokens.next();
    if tokens.next().is_some() {
        return Err(Refusal::new(Code::InvalidHeader, format!("{place} has two tokens: send one")));
    }
    Ok(first)
}

/// The subprotocol to agree on, for a client that offers it. A browser wants one of those that it has offered, and the one with the token in
/// it is not to be said again.
pub(crate) const AGREED_SUBPROTOCOL: &str = "fourfold";

/// Whether a client offers [`AGREED_SUBPROTOCOL`]. Errors: it offers a token and nothing that could be agreed on.
pub(crate) fn agreed_subprotocol(headers: &HeaderMap) -> Result<bool, Refusal> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let mut offered = values.flat_map(|value| value.split(',')).map(str::trim);
    if offered.any(|protocol| protocol == AGREED_SUBPROTOCOL) {
        return Ok(true);
    }
    if subprotocol(headers)?.is_none() {
        return Ok(false);
    }
    let detail =
        format!("offer the subprotocol '{AGREED_SUBPROTOCOL}' beside '{SUBPROTOCOL}…': it is the one to agree on");
    Err(Refusal::new(Code::InvalidUpgrade, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uri: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::get(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    fn found(uri: &str, headers: &[(&str, &str)]) -> Option<(String, Place)> {
        let request = request(uri, headers);
        let found = find(&request, true, Some("session"), Some("access_token")).unwrap();
        found.map(|found| (found.token.into_owned(), found.place))
    }

    #[test]
    fn each_place_is_looked_at() {
        for (uri, headers, token, place) in [
            ("/", &[("authorization", "Bearer a.b.c")][..], "a.b.c", Place::Header),
            ("/", &[("authorization", "bearer   x ")], "x", Place::Header),
            ("/", &[("authorization", "Bearer")], "", Place::Header),
            ("/", &[("sec-websocket-protocol", "fourfold, fourfold.token.x")], "x", Place::Subprotocol),
            ("/?offset=-1&access_token=x", &[], "x", Place::Query),
            ("/?access_token=%78", &[], "x", Place::Query),
            ("/", &[("cookie", "a=b; session=x; c=d")], "x", Place::Cookie),
        ] {
            assert_eq!(found(uri, headers), Some((token.to_owned(), place)), "{uri} {headers:?}");
        }
        for headers in [&[("authorization", "Basic x")][..], &[("cookie", "sessions=x; xsession=y")], &[]] {
            assert_eq!(found("/?token=x", headers), None, "{headers:?}");
        }
    }

    #[test]
    fn what_is_sent_on_purpose_outranks_the_cookie() {
        let cookie = ("cookie", "session=c");
        assert_eq!(found("/", &[cookie, ("authorization", "Bearer h")]).unwrap().1, Place::Header);
        assert_eq!(found("/?access_token=q", &[cookie]).unwrap().1, Place::Query);
        // A scheme that is somebody else's does not hide it.
        assert_eq!(found("/", &[cookie, ("authorization", "Basic x")]).unwrap().1, Place::Cookie);
    }

    #[test]
    fn two_tokens_in_one_place_are_refused() {
        for (uri, headers) in [
            ("/", &[("authorization", "Bearer a"), ("authorization", "Bearer b")][..]),
            ("/?access_token=a&access_token=b", &[]),
            ("/", &[("cookie", "session=a; session=b")]),
            ("/", &[("cookie", "session=a"), ("cookie", "session=a")]),
            ("/", &[("sec-websocket-protocol", "fourfold.token.a"), ("sec-websocket-protocol", "fourfold.token.b")]),
        ] {
            let request = request(uri, headers);
            assert!(find(&request, true, Some("session"), Some("access_token")).is_err(), "{uri} {headers:?}");
        }
    }

    #[test]
    fn places_that_are_off_are_not_looked_at() {
        let request =
            request("/?access_token=q", &[("cookie", "session=c"), ("sec-websocket-protocol", "fourfold.token.s")]);
        assert!(find(&request, false, None, None).unwrap().is_none());
    }

    #[test]
    fn a_token_among_subprotocols_needs_one_to_agree_on() {
        let offers = |text| agreed_subprotocol(request("/", &[("sec-websocket-protocol", text)]).headers());
        assert!(offers("fourfold.token.x, fourfold").unwrap());
        assert!(!offers("chat").unwrap());
        assert_eq!(offers("chat, fourfold.token.x").unwrap_err().code, Code::InvalidUpgrade);
    }
}
