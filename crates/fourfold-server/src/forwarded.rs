//! For whom a proxy asks: `X-Forwarded-For`, or `Forwarded` (RFC 7239).
//!
//! Each proxy adds at the right who has asked it. So the list is walked from the right as long as the hops are proxies that we trust; the first that
//! is not is the client, and whatever stands left of it is its own invention. Only one of the two headers is read, the one that the proxy is
//! configured to write: the other one is as the client sent it.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, header};

use crate::{
    limits::{FORWARDED_BYTES_MAX, FORWARDED_HOPS_MAX},
    network::Network,
};

/// The header in which trusted proxies say for whom they ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// A list of addresses.
    #[default]
    XForwardedFor,
    /// Pairs, RFC 7239.
    Forwarded,
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Who asks, as far as proxies that are trusted say so. `None`: they do not say, or what they say cannot be understood.
pub(crate) fn client(headers: &HeaderMap, which: ForwardedHeader, trusted: &[Network]) -> Option<IpAddr> {
    let name = match which {
        ForwardedHeader::XForwardedFor => X_FORWARDED_FOR,
        ForwardedHeader::Forwarded => header::FORWARDED,
    };
    let (mut farthest, mut hops, mut bytes) = (None, 0, 0);
    for value in headers.get_all(name).iter().rev() {
        bytes += value.len();
        if bytes > FORWARDED_BYTES_MAX {
            return None;
        }
        let text = value.to_str().ok()?;
        let elements = match which {
            ForwardedHeader::XForwardedFor => text.split(',').collect(),
            ForwardedHeader::Forwarded => unquoted(text, ',')?,
        };
        for element in elements.into_iter().rev() {
            hops += 1;
            if hops > FORWARDED_HOPS_MAX {
                return None;
            }
            let address = match which {
                ForwardedHeader::XForwardedFor => node(element.trim()),
                ForwardedHeader::Forwarded => said_for(element),
            }?;
            if !trusted.iter().any(|network| network.contains(address)) {
                return Some(address);
            }
            farthest = Some(address);
        }
    }
    farthest // Proxies all the way: the first of them asks for itself.
}

/// The pieces between separators that do not stand in a quoted string. `None`: a quote does not end.
fn unquoted(text: &str, separator: char) -> Option<Vec<&str>> {
    let (mut pieces, mut begin, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c if c == separator && !quoted => {
                pieces.push(&text[begin..at]);
                begin = at + c.len_utf8();
            }
            _ => {}
        }
    }
    pieces.push(&text[begin..]);
    (!quoted).then_some(pieces)
}

/// The `for=` of an element; there must be exactly one.
fn said_for(element: &str) -> Option<IpAddr> {
    let pairs = unquoted(element, ';')?;
    let mut said = pairs.iter().filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then(|| value.trim())
    });
    let value = said.next()?;
    if said.next().is_some() {
        return None;
    }
    // An escape has no place in an address, so a quoted one is what stands between the quotes.
    node(value.strip_prefix('"').map_or(Some(value), |value| value.strip_suffix('"'))?)
}

/// An address, also with a port, also in brackets.
fn node(text: &str) -> Option<IpAddr> {
    let address = text.parse::<IpAddr>().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<std::net::Ipv6Addr>().ok().map(IpAddr::V6);
    address.or_else(bracketed).map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn asked(which: ForwardedHeader, values: &[&str]) -> Option<String> {
        let name = match which {
            ForwardedHeader::XForwardedFor => X_FORWARDED_FOR,
            ForwardedHeader::Forwarded => header::FORWARDED,
        };
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let trusted = Network::parse_all("127.0.0.1, 10.0.0.0/8").unwrap();
        client(&headers, which, &trusted).map(|address| address.to_string())
    }

    #[test]
    fn the_first_from_the_right_that_is_no_proxy_of_ours_asks() {
        for (values, address) in [
            (&["1.2.3.4"][..], Some("1.2.3.4")),
            (&["6.6.6.6, 1.2.3.4"], Some("1.2.3.4")),
            (&["6.6.6.6, 1.2.3.4 ,10.1.1.1"], Some("1.2.3.4")),
            (&["6.6.6.6", "1.2.3.4", "10.1.1.1,127.0.0.1"], Some("1.2.3.4")),
            (&["nonsense, 1.2.3.4"], Some("1.2.3.4")),
            (&["10.0.0.2, 10.0.0.1"], Some("10.0.0.2")),
            (&["1.2.3.4:5678"], Some("1.2.3.4")),
            (&["[2001:db8::1]:80"], Some("2001:db8::1")),
            (&["[2001:db8::1]"], Some("2001:db8::1")),
            (&["::ffff:1.2.3.4"], Some("1.2.3.4")),
            (&["1.2.3.4, nonsense"], None),
            (&["1.2.3.4, nonsense, 10.0.0.1"], None),
            (&["1.2.3.4,"], None),
            (&["", "x\u{e9}"], None),
            (&[], None),
        ] {
            assert_eq!(asked(ForwardedHeader::XForwardedFor, values).as_deref(), address, "{values:?}");
        }
    }

    #[test]
    fn pairs_are_read_as_the_rfc_writes_them() {
        for (values, address) in [
            (&["for=1.2.3.4"][..], Some("1.2.3.4")),
            (&["For=\"[2001:db8:cafe::17]:4711\""], Some("2001:db8:cafe::17")),
            (&["for=6.6.6.6, for=1.2.3.4;proto=https;by=10.0.0.1, for=10.0.0.1"], Some("1.2.3.4")),
            (&["for=1.2.3.4;host=\"a,for=6.6.6.6\""], Some("1.2.3.4")),
            (&["for=1.2.3.4;host=\"a\\\",for=6.6.6.6\""], Some("1.2.3.4")),
            (&["for=_hidden"], None),
            (&["for=unknown"], None),
            (&["proto=https"], None),
            (&["for=1.2.3.4;for=6.6.6.6"], None),
            (&["for=\"1.2.3.4"], None),
        ] {
            assert_eq!(asked(ForwardedHeader::Forwarded, values).as_deref(), address, "{values:?}");
        }
    }

    #[test]
    fn a_list_without_end_is_not_walked() {
        let hops = "10.0.0.1, ".repeat(FORWARDED_HOPS_MAX) + "10.0.0.1";
        assert_eq!(asked(ForwardedHeader::XForwardedFor, &[&hops]), None);
        let long = " ".repeat(FORWARDED_BYTES_MAX) + "1.2.3.4";
        assert_eq!(asked(ForwardedHeader::XForwardedFor, &[&long]), None);
    }

    const HOPS: [&str; 10] = [
        "1.2.3.4",
        "10.0.0.1",
        "127.0.0.1",
        "10.9.9.9:1",
        "[::1]",
        "2001:db8::1",
        "",
        "x",
        "for=1.2.3.4",
        "\"10.0.0.1\"",
    ];

    proptest! {
        #[test]
        fn whatever_is_sent_no_address_left_of_an_untrusted_hop_is_taken(
            picks in prop::collection::vec(0..HOPS.len(), 0..8),
            cut in 0..8_usize,
        ) {
            let hops: Vec<_> = picks.iter().map(|pick| HOPS[*pick]).collect();
            let (left, right) = hops.split_at(cut.min(hops.len()));
            let text = [left.join(","), right.join(", ")];
            let values: Vec<_> = text.iter().filter(|text| !text.is_empty()).map(String::as_str).collect();
            // By the rule itself: the first from the right that is not a proxy of ours, if all behind it are understood.
            let ours = |hop: &str| hop.starts_with("10.") || hop.starts_with("127.");
            let all: Vec<_> = values.iter().flat_map(|text| text.split(',')).map(str::trim).collect();
            let expected = match all.iter().rev().find(|hop| !ours(hop)) {
                Some(&"1.2.3.4") => Some("1.2.3.4".to_owned()),
                Some(&"[::1]") => Some("::1".to_owned()),
                Some(&"2001:db8::1") => Some("2001:db8::1".to_owned()),
                Some(_) => None,
                None => all.first().map(|hop| hop.trim_end_matches(":1").to_owned()),
            };
            prop_assert_eq!(asked(ForwardedHeader::XForwardedFor, &values), expected, "{:?}", values);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(prop::num::u8::ANY, 0..300)) {
            let Ok(value) = HeaderValue::from_bytes(&bytes) else { return Ok(()) };
            for (name, which) in [(X_FORWARDED_FOR, ForwardedHeader::XForwardedFor), (header::FORWARDED, ForwardedHeader::Forwarded)] {
                let headers = HeaderMap::from_iter([(name, value.clone())]);
                let _ = client(&headers, which, &[]);
            }
        }

        #[test]
        fn no_text_of_its_own_alphabet_makes_it_panic(text in "[for=\"\\\\;, \\[\\]:0-9.]{0,80}") {
            let headers = HeaderMap::from_iter([(header::FORWARDED, HeaderValue::from_str(&text).unwrap())]);
            let _ = client(&headers, ForwardedHeader::Forwarded, &[]);
        }
    }
}
