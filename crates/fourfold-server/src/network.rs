//! Addresses and the networks that they are in.

use std::{fmt, net::IpAddr, str::FromStr};

/// An address and how many of its bits count: `10.0.0.0/8`, `2001:db8::/32`, or one address alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Whether the address lies in it. An IPv4 address is the same when it is written as an IPv6 one.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(other)) => {
                masked(ours.to_bits().into(), 32, self.bits) == masked(other.to_bits().into(), 32, self.bits)
            }
            (IpAddr::V6(ours), IpAddr::V6(other)) => {
                masked(ours.to_bits(), 128, self.bits) == masked(other.to_bits(), 128, self.bits)
            }
            _ => false,
        }
    }

    /// Reads networks with commas between them; none if there is nothing. Errors: one clause that names the first that is none.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, String> {
        text.split(',').map(str::trim).filter(|one| !one.is_empty()).map(str::parse).collect()
    }
}

fn masked(address: u128, width: u32, bits: u8) -> u128 {
    // A shift by the whole width is none.
    address.checked_shr(width - u32::from(bits)).unwrap_or(0)
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
            let address = address.parse::<IpAddr>().ok()?.to_canonical();
            let width = if address.is_ipv4() { 32 } else { 128 };
            let bits = match bits {
                None => width,
                Some(bits) if bits.bytes().all(|b| b.is_ascii_digit()) => bits.parse().ok().filter(|n| *n <= width)?,
                Some(_) => return None,
            };
            Some(Self { address, bits })
        };
        read()
            .ok_or_else(|| format!("'{text}' is not an address or network; write for example 127.0.0.1 or 10.0.0.0/8"))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_the_addresses_that_begin_as_it_does() {
        for (network, inside, outside) in [
            ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.1.2.3/8", "10.255.0.1", "11.0.0.0"),
            ("0.0.0.0/0", "8.8.8.8", "::1"),
            ("::/0", "2001:db8::1", "8.8.8.8"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("::1", "::1", "::2"),
            ("10.0.0.0/8", "::ffff:10.0.0.1", "::ffff:11.0.0.1"),
        ] {
            let read: Network = network.parse().unwrap();
            assert!(read.contains(inside.parse().unwrap()), "{network}");
            assert!(!read.contains(outside.parse().unwrap()), "{network}");
        }
        assert_eq!(Network::parse_all("127.0.0.1, ::1,").unwrap().len(), 2);
        for bad in ["localhost", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "::1/129", "10.0.0/8", "1.2.3.4/8/8"] {
            assert!(Network::parse_all(bad).is_err(), "{bad}");
        }
    }
}
