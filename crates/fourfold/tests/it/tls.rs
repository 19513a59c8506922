//! The command beside a port that speaks TLS: it does what it does elsewhere, and says what is wrong where it cannot.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustix::process::Signal;
use tempfile::TempDir;
use time::OffsetDateTime;

use crate::harness::{Finished, Server, TRANSPORTS, fourfold, fourfold_with, numbered};

/// A server's certificate and key in files, and that of the authority which has signed it.
struct Certificate {
    dir: TempDir,
}

impl Certificate {
    fn good() -> Self {
        Self::signed(|_| {}, &["localhost", "127.0.0.1"])
    }

    fn signed(set: impl FnOnce(&mut CertificateParams), names: &[&str]) -> Self {
        let authority = CertifiedIssuer::self_signed(authority(&[]), KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        set(&mut params);
        let certificate = params.signed_by(&key, &authority).unwrap();
        Self::kept(&certificate.pem(), &key, &authority.pem())
    }

    /// Its own authority, as `openssl req -x509` makes it.
    fn of_its_own(names: &[&str]) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = authority(names).self_signed(&key).unwrap();
        Self::kept(&certificate.pem(), &key, &certificate.pem())
    }

    fn kept(certificate: &str, key: &KeyPair, authority: &str) -> Self {
        let kept = Self { dir: tempfile::tempdir().unwrap() };
        fs::write(kept.path("cert.pem"), certificate).unwrap();
        fs::write(kept.path("key.pem"), key.serialize_pem()).unwrap();
        fs::write(kept.path("ca.pem"), authority).unwrap();
        kept
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn file(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn server(&self, further: &[&str]) -> Server {
        let (cert, key) = (self.file("cert.pem"), self.file("key.pem"));
        let settings = [&["--tls-cert", &cert, "--tls-key", &key], further].concat();
        Server::start_in(tempfile::tempdir().unwrap(), "127.0.0.1:0", &settings)
    }
}

fn authority(names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

/// All that speak to a server, and what each says with these arguments.
fn all(url: &str, arguments: &[&str]) -> Vec<(&'static str, Finished)> {
    let with = |first: &[&str]| fourfold(&[first, &["--url", url, "--retry-for", "0s"], arguments].concat()).finish();
    let mut said = vec![("append", with(&["append", "s"])), ("call", with(&["call", "x"]))];
    said.extend(TRANSPORTS.map(|transport| (transport, with(&["tail", "s", "--transport", transport]))));
    said
}

#[test]
fn what_goes_in_over_tls_comes_out_by_every_transport() {
    let certificate = Certificate::good();
    let mut server = certificate.server(&[]);
    assert!(server.url().starts_with("https://127.0.0.1:"), "{}", server.url());
    let ca = certificate.file("ca.pem");
    let lines = numbered(0..5_000);
    server.append_lines("a", &["--json", "--ca", &ca], &lines[..2_500]).succeeded();
    let tails = TRANSPORTS.map(|transport| {
        let tail = server.tail("a", &["--ca", &ca, "--offset", "-1", "--transport", transport]);
        assert_eq!(tail.line(), lines[0], "{transport}");
        tail
    });
    server.terminate().succeeded();
    server.restart();
    server.append_lines("a", &["--json", "--close", "--ca", &ca], &lines[2_500..]).succeeded();
    for (tail, transport) in tails.into_iter().zip(TRANSPORTS) {
        let rest = tail.finish().succeeded().lines;
        assert!(rest == lines[1..], "{transport}: {} lines", rest.len());
    }
}

#[test]
fn a_call_runs_over_tls_and_is_gone_on_with_by_the_command_that_is_printed() {
    let certificate = Certificate::good();
    let config = certificate.file("calls.toml");
    fs::write(&config, "[calls.greet]\ncommand = ['echo', 'hello']\n").unwrap();
    let server = certificate.server(&["--config", &config]);
    let ca = certificate.file("ca.pem");
    for transport in TRANSPORTS {
        let arguments = ["call", "greet", "--url", &server.url(), "--transport", transport];
        let finished = fourfold_with(&arguments, &[("FOURFOLD_CA", &ca)]).finish().succeeded();
        assert_eq!(finished.lines, ["hello"], "{transport}");
    }
}

#[test]
fn an_authority_that_is_not_known_is_refused_with_what_to_do() {
    let (certificate, other) = (Certificate::good(), Certificate::good());
    let server = certificate.server(&[]);
    let ca = other.file("ca.pem");
    for arguments in [&[][..], &["--ca", &ca]] {
        for (who, finished) in all(&server.url(), arguments) {
            let said = finished.failed();
            let expected = format!("the certificate of {} is of an authority that is not known here", server.url());
            assert!(said.contains(&expected) && said.contains("give it with --ca"), "{who}: {said}");
        }
    }
}

#[test]
fn a_certificate_for_another_name_is_refused_with_the_names_that_it_is_for() {
    let certificate = Certificate::signed(|_| {}, &["example.org", "10.0.0.1"]);
    let server = certificate.server(&[]);
    for (who, finished) in all(&server.url(), &["--ca", &certificate.file("ca.pem")]) {
        let said = finished.failed();
        assert!(
            said.contains("is not for that name, but for example.org, 10.0.0.1: write one of these"),
            "{who}: {said}"
        );
    }
}

#[test]
fn a_certificate_that_has_ended_or_not_begun_is_refused_with_the_day() {
    let ended = Certificate::signed(|params| params.not_after = date_time_ymd(2020, 2, 1), &["127.0.0.1"]);
    let begins = Certificate::signed(|params| params.not_before = date_time_ymd(3000, 2, 1), &["127.0.0.1"]);
    for (certificate, words) in [(ended, "has ended on 2020-02-01: renew it"), (begins, "begins only on 3000-02-01")] {
        let server = certificate.server(&[]);
        for (who, finished) in all(&server.url(), &["--ca", &certificate.file("ca.pem")]) {
            let said = finished.failed();
            assert!(said.contains(words), "{who}: {said}");
        }
    }
}

#[test]
fn http_to_a_port_with_tls_and_the_other_way_round_are_told_apart() {
    let secured = Certificate::good().server(&[]);
    for (who, finished) in all(&secured.url().replace("https://", "http://"), &[]) {
        let said = finished.failed();
        assert!(said.contains("this port speaks TLS: use https://"), "{who}: {said}");
    }
    let plain = Server::start();
    for (who, finished) in
        all(&plain.url().replace("http://", "https://"), &["--ca", &Certificate::good().file("ca.pem")])
    {
        let said = finished.failed();
        assert!(said.contains("does not speak TLS: write http:// in its URL"), "{who}: {said}");
    }
}

#[test]
fn a_certificate_that_is_its_own_authority_is_good_where_it_was_given() {
    let certificate = Certificate::of_its_own(&["localhost", "127.0.0.1"]);
    let server = certificate.server(&[]);
    let ca = certificate.file("ca.pem");
    server.append_lines("s", &["--close", "--ca", &ca], &["hello".to_owned()]).succeeded();
    for transport in TRANSPORTS {
        let tail = server.tail("s", &["--offset", "-1", "--ca", &ca, "--transport", transport]).finish().succeeded();
        assert_eq!(tail.lines, ["hello"], "{transport}");
    }
    for (who, finished) in all(&server.url(), &[]) {
        assert!(finished.failed().contains("give it with --ca"), "{who}: {}", finished.stderr);
    }
    // Being given does not make it one for another name.
    let certificate = Certificate::of_its_own(&["example.org"]);
    let server = certificate.server(&[]);
    for (who, finished) in all(&server.url(), &["--ca", &certificate.file("ca.pem")]) {
        assert!(finished.failed().contains("is not for that name"), "{who}: {}", finished.stderr);
    }
}

#[test]
fn a_file_that_is_no_authority_is_refused_at_once() {
    let certificate = Certificate::good();
    for (file, words) in
        [(certificate.file("key.pem"), "holds no certificate"), ("/nowhere".into(), "cannot be read as PEM")]
    {
        for (who, finished) in all("https://127.0.0.1:1", &["--ca", &file]) {
            let said = finished.failed();
            assert!(said.starts_with("fourfold: --ca: ") && said.contains(words), "{who}: {said}");
            assert_eq!(finished.code, Some(2), "{who}");
        }
    }
}

#[test]
fn a_token_that_would_be_seen_on_its_way_is_warned_of() {
    let server = Server::start();
    server.append_lines("s", &["--close"], &["hello".to_owned()]).succeeded();
    let port = server.address().rsplit_once(':').unwrap().1.to_owned();
    for (host, warned) in [("127.0.0.1", false), ("localhost", false), ("0.0.0.0", true)] {
        let url = format!("http://{host}:{port}");
        let tail = fourfold_with(&["tail", "s", "--offset", "-1", "--url", &url], &[("FOURFOLD_TOKEN", "secret")]);
        let finished = tail.finish().succeeded();
        assert_eq!(finished.lines, ["hello"]);
        let expected = format!("the token goes to {url} unencrypted");
        assert_eq!(finished.stderr.contains(&expected), warned, "{host}: {}", finished.stderr);
        assert!(!finished.stderr.contains("secret"), "{}", finished.stderr);
    }
}

/// Good for so many days from now.
fn ends_in(days: i64) -> impl FnOnce(&mut CertificateParams) {
    move |params| params.not_after = OffsetDateTime::now_utc() + time::Duration::days(days)
}

fn checked(certificate: &Certificate) -> Finished {
    let (cert, key) = (certificate.file("cert.pem"), certificate.file("key.pem"));
    fourfold(&["check", "--retention-age", "7d", "--tls-cert", &cert, "--tls-key", &key]).finish()
}

#[test]
fn check_tells_when_the_certificate_ends_and_for_whom_it_is_and_fails_when_it_has_ended() {
    let names = ["localhost", "127.0.0.1"];
    for (days, fails, words) in [
        (37, false, "36 days left; its key belongs to it."),
        (10, false, "9 days left. Renew it, then 'fourfold reload'."),
        (-1, true, "it has ended on "),
    ] {
        let certificate = Certificate::signed(ends_in(days), &names);
        fs::set_permissions(certificate.path("key.pem"), Permissions::from_mode(0o600)).unwrap();
        let finished = checked(&certificate);
        let page = finished.lines.join("\n");
        assert!(page.contains("a certificate for localhost, 127.0.0.1, "), "{page}");
        assert!(page.contains(words), "{days}: {page}");
        assert_eq!(page.contains("What to look at"), days < 14, "{days}: {page}");
        if fails {
            assert!(finished.failed().contains("tls-cert, tls-key: it has ended on "), "{}", finished.stderr);
        } else {
            finished.succeeded();
        }
    }
}

#[test]
fn check_fails_if_the_key_belongs_to_another_certificate() {
    let (certificate, other) = (Certificate::good(), Certificate::good());
    fs::copy(other.path("key.pem"), certificate.path("key.pem")).unwrap();
    let finished = checked(&certificate);
    assert!(finished.lines.join("\n").contains("The server does not start with these files"), "{:?}", finished.lines);
    assert!(finished.failed().contains("is not the one of the first certificate in"), "{}", finished.stderr);
}

#[test]
fn check_names_files_with_secrets_that_others_can_read() {
    let certificate = Certificate::good();
    let config = certificate.file("fourfold.toml");
    let text = "[access]\naudience = 'x'\n[[access.keys]]\nalgorithm = 'HS256'\nsecret-file = 'a.secret'\n[[access.keys]]\nalgorithm = 'HS256'\nkid = 'b'\nsecret = 'a secret of thirty-two bytes ...'\n";
    fs::write(&config, text).unwrap();
    fs::write(certificate.path("a.secret"), "a secret of thirty-two bytes ...").unwrap();
    let (cert, key) = (certificate.file("cert.pem"), certificate.file("key.pem"));
    let arguments = ["check", "--config", &config, "--tls-cert", &cert, "--tls-key", &key];
    for (mode, who) in [(0o600, None), (0o640, Some("its group")), (0o644, Some("everybody on this machine"))] {
        let secrets = ["key.pem", "a.secret", "fourfold.toml"];
        for name in secrets {
            fs::set_permissions(certificate.path(name), Permissions::from_mode(mode)).unwrap();
        }
        let page = fourfold(&arguments).finish().succeeded().lines.join("\n");
        for name in secrets {
            let line =
                page.lines().find(|line| line.contains("holds a secret") && line.contains(&certificate.file(name)));
            assert_eq!(line.is_some(), who.is_some(), "{name} {mode:o}: {page}");
            assert!(line.zip(who).is_none_or(|(line, who)| line.contains(who)), "{name} {mode:o}: {page}");
        }
        assert!(!page.contains(&format!("{} holds", certificate.file("cert.pem"))), "{page}");
    }
}

#[test]
fn a_certificate_that_ends_soon_is_in_the_log_at_the_start_and_at_a_reload() {
    let certificate = Certificate::signed(ends_in(5), &["127.0.0.1"]);
    let (cert, key, data) = (certificate.file("cert.pem"), certificate.file("key.pem"), certificate.file("data"));
    let serving = ["serve", "--listen", "127.0.0.1:0", "--data-dir", &data, "--tls-cert", &cert, "--tls-key", &key];
    let server = fourfold(&serving);
    assert!(server.line().starts_with("listening on https://"));
    let reload = || fourfold(&["reload", "--data-dir", &data]).finish().succeeded();
    reload();
    let fresh = Certificate::good();
    for name in ["cert.pem", "key.pem"] {
        fs::copy(fresh.path(name), certificate.path(name)).unwrap();
    }
    reload();
    server.signal(Signal::TERM);
    let log = server.finish().succeeded().stderr;
    assert_eq!(log.matches("4 days left: renew it, then 'fourfold reload'").count(), 2, "{log}");
}

#[test]
fn bench_says_that_it_speaks_no_tls() {
    let finished = fourfold(&["bench", "https://127.0.0.1:1"]).finish();
    assert!(finished.failed().contains("bench speaks plain HTTP only"), "{}", finished.stderr);
    assert_eq!(finished.code, Some(2));
}
