//! What a certificate says of itself, as far as operators and those who connect want to know it. Who has signed it is no matter of this file.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use time::OffsetDateTime;
use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::{extensions::GeneralName, parse_x509_certificate, time::ASN1Time};

/// For which names a certificate is, and for how long. Displayed as `for localhost, until 2027-01-03, 36 days left`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Hosts and addresses, as its subject's alternative names; of the rest browsers take no notice.
    pub names: Vec<String>,
    /// Not good before.
    pub begins_at: SystemTime,
    /// Not good after.
    pub ends_at: SystemTime,
}

/// With less left an operator should hear of it: renewals are usually tried from 30 days before the end, so this one has failed for half of them.
pub const CERTIFICATE_LEFT_MIN: Duration = Duration::from_secs(14 * DAY_SECONDS);

const DAY_SECONDS: u64 = 24 * 3600;

impl Certificate {
    /// Of one certificate, not of its chain. `None` if it is not understood.
    #[must_use]
    pub fn parse(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = parse_x509_certificate(certificate).ok()?;
        let names = parsed.subject_alternative_name().ok()?;
        let names = names.map_or_else(Vec::new, |names| names.value.general_names.iter().filter_map(name).collect());
        let validity = parsed.validity();
        Some(Self { names, begins_at: moment(&validity.not_before)?, ends_at: moment(&validity.not_after)? })
    }

    /// Whether it is good at that time.
    #[must_use]
    pub fn holds(&self, at: SystemTime) -> bool {
        (self.begins_at..=self.ends_at).contains(&at)
    }

    /// How long it is still good; `None` if it has ended.
    #[must_use]
    pub fn left(&self, now: SystemTime) -> Option<Duration> {
        self.ends_at.duration_since(now).ok()
    }

    /// What is wrong about its time at present, in words; `None` if nothing is.
    #[must_use]
    pub fn trouble(&self, now: SystemTime) -> Option<String> {
        let left = self.left(now);
        if left.is_none() {
            return Some(format!("it has ended on {}, and clients refuse it", date(self.ends_at)));
        }
        if now < self.begins_at {
            return Some(format!("it begins only on {}, and clients refuse it until then", date(self.begins_at)));
        }
        left.filter(|left| *left < CERTIFICATE_LEFT_MIN)
            .map(|left| format!("it ends on {}, {}", date(self.ends_at), days(left)))
    }

    fn until(&self, now: SystemTime) -> String {
        match self.left(now) {
            Some(left) => format!("until {}, {}", date(self.ends_at), days(left)),
            None => format!("ended on {}", date(self.ends_at)),
        }
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = if self.names.is_empty() { "no name".to_owned() } else { self.names.join(", ") };
        write!(f, "for {names}, {}", self.until(SystemTime::now()))
    }
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|bytes| std::net::Ipv4Addr::from(bytes).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|bytes| std::net::Ipv6Addr::from(bytes).to_string()),
        },
        _ => None,
    }
}

fn moment(time: &ASN1Time) -> Option<SystemTime> {
    let seconds = time.timestamp();
    let away = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { UNIX_EPOCH.checked_sub(away) } else { UNIX_EPOCH.checked_add(away) }
}

fn date(at: SystemTime) -> String {
    OffsetDateTime::from(at).date().to_string()
}

fn days(left: Duration) -> String {
    match left.as_secs() / DAY_SECONDS {
        0 => "less than a day left".to_owned(),
        1 => "1 day left".to_owned(),
        days => format!("{days} days left"),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn certificate(names: &[&str]) -> Certificate {
        let mut params =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2026, 11, 1), date_time_ymd(2027, 1, 3));
        let signed = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        Certificate::parse(signed.der()).unwrap()
    }

    fn at(year: i32, month: u8, day: u8) -> SystemTime {
        date_time_ymd(year, month, day).into()
    }

    #[test]
    fn names_and_the_end_are_told_in_words() {
        let found = certificate(&["localhost", "127.0.0.1", "::1"]);
        assert_eq!(found.names, ["localhost", "127.0.0.1", "::1"]);
        assert_eq!(found.until(at(2026, 11, 28)), "until 2027-01-03, 36 days left");
        assert_eq!(found.until(at(2027, 1, 2)), "until 2027-01-03, 1 day left");
        assert_eq!(found.until(at(2027, 1, 4)), "ended on 2027-01-03");
        assert!(certificate(&[]).to_string().starts_with("for no name, "));
    }

    #[test]
    fn an_end_that_is_near_is_trouble_and_so_is_one_that_has_been() {
        let found = certificate(&["localhost"]);
        assert_eq!(found.trouble(at(2026, 12, 20)), None, "14 days");
        assert_eq!(found.trouble(at(2026, 12, 21)).as_deref(), Some("it ends on 2027-01-03, 13 days left"));
        assert!(found.trouble(at(2027, 1, 4)).unwrap().starts_with("it has ended on 2027-01-03"));
        assert!(found.trouble(at(2026, 10, 1)).unwrap().starts_with("it begins only on 2026-11-01"));
        assert!(found.holds(at(2026, 12, 1)) && !found.holds(at(2026, 10, 1)) && !found.holds(at(2027, 1, 4)));
    }

    #[test]
    fn what_is_no_certificate_is_nothing() {
        for bytes in [&b""[..], b"x", &[0x30, 0x82, 0xff, 0xff]] {
            assert_eq!(Certificate::parse(&CertificateDer::from(bytes)), None);
        }
    }
}
