//! Where a webhook may point: the open Internet over TLS, and for development this machine by name. Spec: "Webhook URL Validation".
//!
//! A URL is checked when it is given; the addresses behind its host are checked again at each delivery, and only a checked
//! address is connected to ([`crate::courier`]). So a name that resolves to something else later gains nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fourfold_protocol::{Code, Refusal};
use url::{Host, Url};

use crate::limits::WEBHOOK_URL_BYTES_MAX;

/// A checked URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) url: Url,
    pub(crate) place: Place,
    pub(crate) port: u16,
}

/// Where its host is to be looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Here, and nowhere else.
    Known(IpAddr),
    /// Wherever the name leads, as long as that is [`is_public`].
    Name(String),
}

impl Target {
    /// `local` allows this machine: `localhost` and `127.0.0.x`, also without TLS.
    ///
    /// Errors: [`Code::WebhookUrlRejected`], saying why.
    pub(crate) fn parse(text: &str, local: bool) -> Result<Self, Refusal> {
        let rejected = |why: &str| {
            Refusal::new(Code::WebhookUrlRejected, format!("the webhook URL {why}"))
                .with("error", serde_json::json!({ "code": "WEBHOOK_URL_REJECTED" }))
        };
        if text.len() > WEBHOOK_URL_BYTES_MAX {
            return Err(rejected(&format!("is longer than {WEBHOOK_URL_BYTES_MAX} bytes")));
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
            return Err(rejected("has white space, a control character or a backslash"));
        }
        let url = Url::parse(text).map_err(|e| rejected(&format!("is not one: {e}")))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(rejected("has credentials in it: deliveries are signed, check the signature instead"));
        }
        let secure = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(rejected("is neither https nor http")),
        };
        let host = url.host().ok_or_else(|| rejected("has no host"))?;
        let here = match host {
            Host::Domain("localhost") => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            Host::Ipv4(ip) if ip.octets()[..3] == [127, 0, 0] => Some(IpAddr::V4(ip)),
            _ => None,
        };
        let place = match (here, host) {
            (Some(ip), _) if local => Place::Known(ip),
            (Some(_), _) => {
                return Err(rejected("points to the server's own machine, which this server does not allow"));
            }
            (None, Host::Ipv4(ip)) => Place::Known(IpAddr::V4(ip)),
            (None, Host::Ipv6(ip)) => Place::Known(IpAddr::V6(ip)),
            (None, Host::Domain(name)) => Place::Name(name.to_owned()),
        };
        if let (None, Place::Known(ip)) = (here, &place)
            && !is_public(*ip)
        {
            return Err(rejected("points into a private or special network"));
        }
        if let Place::Name(name) = &place {
            let name = name.trim_end_matches('.');
            let inner = ["localhost", "local", "internal", "localdomain", "home.arpa"];
            if !name.contains('.') || inner.iter().any(|top| name == *top || name.ends_with(&format!(".{top}"))) {
                return Err(rejected("names a host of a local network"));
            }
        }
        if here.is_none() && !secure {
            return Err(rejected("is http: only https leaves this machine"));
        }
        let port = url.port_or_known_default().ok_or_else(|| rejected("has no port"))?;
        if port == 0 {
            return Err(rejected("has port 0"));
        }
        Ok(Self { place, port, url })
    }

    pub(crate) fn secure(&self) -> bool {
        self.url.scheme() == "https"
    }
}

/// Whether an address belongs to the open Internet. Everything that is set aside for another use does not, also inside the
/// IPv6 forms that carry an IPv4 address.
pub(crate) fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    !matches!(
        (a, b, c),
        (0 | 10 | 127, _, _)        // this network, private, loopback
            | (100, 64..=127, _)    // carrier-grade NAT
            | (169, 254, _)         // link-local, cloud metadata
            | (172, 16..=31, _)     // private
            | (192, 0, 0 | 2)       // protocol assignments, documentation
            | (192, 31, 196) | (192, 52, 193) | (192, 88, 99) | (192, 175, 48) // AS112, AMT, 6to4 relays
            | (192, 168, _)         // private
            | (198, 18..=19, _)     // benchmarks
            | (198, 51, 100) | (203, 0, 113) // documentation
            | (224..=255, _, _) // multicast, reserved, broadcast
    )
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let s = ip.segments();
    // Only 2000::/3 is assigned to the open Internet: that leaves out ::, ::1, mapped and translated IPv4, fc00::/7, fe80::/10, ff00::/8.
    let global = s[0] & 0xe000 == 0x2000;
    let special = match (s[0], s[1]) {
        (0x2001, second) => second < 0x0200 || second == 0x0db8, // protocol assignments, Teredo, ORCHID; documentation
        (0x2002, _) => true,                                     // 6to4 carries any IPv4 address
        (0x2620, 0x004f) => s[2] == 0x8000,                      // AS112
        (0x3fff, second) => second < 0x1000,                     // documentation
        _ => false,
    };
    global && !special
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_open_internet_is_public() {
        for ip in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.1",
            "100.63.0.1",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.167.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00::1",
            "2001:4860::8888",
        ] {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.1.2.3",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "::ffff:1.1.1.1",
            "::10.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:a00:1::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn a_url_is_judged_by_what_it_means() {
        for url in [
            "https://worker.example/hooks",
            "https://worker.example:8443/x?y=1",
            "https://1.1.1.1/",
            "https://[2606:4700::1111]/",
            "http://localhost:8080/",
            "http://127.0.0.1:8080/",
            "http://127.0.0.9/",
            "https://localhost/",
        ] {
            assert!(Target::parse(url, true).is_ok(), "{url}");
        }
        let long = format!("https://worker.example/{}", "x".repeat(WEBHOOK_URL_BYTES_MAX));
        for url in [
            "",
            "worker.example",
            "http://worker.example/",
            "http://1.1.1.1/",
            "ftp://worker.example/",
            "file:///etc/passwd",
            "https://user@worker.example/",
            "https://user:secret@worker.example/",
            "https://10.0.0.1/",
            "http://10.0.0.1/hook",
            "https://169.254.169.254/latest/",
            "https://0x0a.1/",
            "https://167772161/",
            "https://127.1.0.1/",
            "http://127.1.0.1/",
            "https://0/",
            "https://[::1]/",
            "http://[::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://[fe80::1]/",
            "https://[fd00::1]/",
            "https://intranet/",
            "https://a.localhost/",
            "https://printer.local/",
            "https://metadata.google.internal/",
            "http://localhost.example/",
            "https://worker.example:0/",
            "https://worker.example/\n",
            " https://worker.example/",
            &long,
        ] {
            let refusal = Target::parse(url, true).expect_err(url);
            assert_eq!(refusal.code, Code::WebhookUrlRejected, "{url}");
        }
        for url in ["http://localhost/", "http://127.0.0.1/", "https://127.0.0.1/", "http://2130706433/"] {
            assert!(Target::parse(url, false).is_err(), "{url}");
        }
        assert_eq!(
            Target::parse("http://2130706433/", true).unwrap().place,
            Place::Known("127.0.0.1".parse().unwrap())
        );
    }
}
