//! For whom a proxy connects: the PROXY protocol, versions 1 and 2, before anything else on the connection.
//!
//! ```text
//! version 1   PROXY TCP4 1.2.3.4 10.0.0.1 5678 443\r\n
//! version 2   12 bytes that no text has, version and command, family, length (2 bytes), addresses, extensions
//! ```
//!
//! It is read from the socket to its last byte and no further: what follows is TLS or HTTP, for others to read. Only a proxy that is trusted is
//! asked for it, and one that is asked must send it.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str,
};

use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    time::{Instant, timeout_at},
};

use crate::limits::{PROXY_HEADER_BYTES_MAX, PROXY_HEADER_WAIT_MAX};

/// What a proxy has said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// For whom it connects; `None`: for itself, as health checks do.
    pub(crate) client: Option<IpAddr>,
    /// How long the header is.
    pub(crate) bytes: usize,
}

/// It is no header, or too long for one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no PROXY header, although the proxy is to send one")]
pub(crate) struct Malformed;

const MARK: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const TEXT_MARK: &[u8] = b"PROXY ";
/// By the specification, with its line end.
const TEXT_BYTES_MAX: usize = 107;
const HEAD_BYTES: usize = 16;

/// Reads the header at the beginning of `bytes`. `None`: there must be more of it.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Said>, Malformed> {
    let begins = |mark: &[u8]| bytes.iter().zip(mark).all(|(byte, expected)| byte == expected);
    if begins(MARK) {
        return binary(bytes);
    }
    if !begins(TEXT_MARK) {
        return Err(Malformed);
    }
    let line = &bytes[..bytes.len().min(TEXT_BYTES_MAX)];
    match line.windows(2).position(|pair| pair == b"\r\n") {
        Some(end) => text(&line[..end]).map(Some),
        None if bytes.len() >= TEXT_BYTES_MAX => Err(Malformed),
        None => Ok(None),
    }
}

fn text(line: &[u8]) -> Result<Said, Malformed> {
    let words: Vec<_> = str::from_utf8(line).map_err(|_| Malformed)?.split(' ').collect();
    let bytes = line.len() + b"\r\n".len();
    let client = match words[..] {
        ["PROXY", "UNKNOWN", ..] => None,
        ["PROXY", family, from, to, from_port, to_port] => {
            let port = |text: &str| text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok();
            if !port(from_port) || !port(to_port) {
                return Err(Malformed);
            }
            let (from, to) = (from.parse::<IpAddr>().map_err(|_| Malformed)?, to.parse().map_err(|_| Malformed)?);
            match (family, from, to) {
                ("TCP4", IpAddr::V4(_), IpAddr::V4(_)) | ("TCP6", IpAddr::V6(_), IpAddr::V6(_)) => Some(from),
                _ => return Err(Malformed),
            }
        }
        _ => return Err(Malformed),
    };
    Ok(Said { client: client.map(|client| client.to_canonical()), bytes })
}

fn binary(bytes: &[u8]) -> Result<Option<Said>, Malformed> {
    let Some((head, rest)) = bytes.split_at_checked(HEAD_BYTES) else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([head[14], head[15]]));
    let whole = HEAD_BYTES + length;
    if whole > PROXY_HEADER_BYTES_MAX {
        return Err(Malformed);
    }
    let (command, family) = (head[12], head[13]);
    let Some(addresses) = rest.get(..length) else { return Ok(None) };
    let client = match (command, family) {
        (0x20, _) => None, // LOCAL
        (0x21, 0x11) => {
            let from: [u8; 4] =
                addresses.get(..4).filter(|_| length >= 12).ok_or(Malformed)?.try_into().expect("4 are");
            Some(IpAddr::V4(Ipv4Addr::from(from)))
        }
        (0x21, 0x21) => {
            let from: [u8; 16] =
                addresses.get(..16).filter(|_| length >= 36).ok_or(Malformed)?.try_into().expect("16 are");
            Some(IpAddr::V6(Ipv6Addr::from(from)).to_canonical())
        }
        (0x21, _) => None, // A local socket, or what is not TCP: the proxy cannot say who.
        _ => return Err(Malformed),
    };
    Ok(Some(Said { client, bytes: whole }))
}

/// Reads the header from a socket, and nothing behind it.
///
/// Errors: it is none, it did not come in time, or the proxy has gone.
pub(crate) async fn read(socket: &mut TcpStream) -> io::Result<Option<IpAddr>> {
    let deadline = Instant::now() + PROXY_HEADER_WAIT_MAX;
    timeout_at(deadline, header(socket)).await.map_err(|_| io::ErrorKind::TimedOut)?
}

async fn header(socket: &mut TcpStream) -> io::Result<Option<IpAddr>> {
    let mut bytes = [0; PROXY_HEADER_BYTES_MAX];
    let mut taken = 0;
    loop {
        // What is only looked at stays for whoever comes next; of an unfinished header all of it is taken, so that the next look waits for more.
        let seen = socket.peek(&mut bytes[taken..]).await?;
        if seen == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let all = taken + seen;
        let said = parse(&bytes[..all]).map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))?;
        let until = said.map_or(all, |said| said.bytes);
        socket.read_exact(&mut bytes[taken..until]).await?;
        if let Some(said) = said {
            return Ok(said.client);
        }
        taken = until;
        if taken == bytes.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, Malformed));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::{io::AsyncWriteExt, net::TcpListener};

    use super::*;

    fn binary_header(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        [MARK, &[command, family], &length, addresses].concat()
    }

    fn headers() -> Vec<(Vec<u8>, Option<&'static str>)> {
        let v4 = [1, 2, 3, 4, 10, 0, 0, 1, 0, 80, 1, 187];
        let v6 = [[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1].as_slice(), &[0; 20]].concat();
        let long = [v4.as_slice(), &[4; 300]].concat(); // With extensions.
        vec![
            (b"PROXY TCP4 1.2.3.4 10.0.0.1 5678 443\r\n".to_vec(), Some("1.2.3.4")),
            (b"PROXY TCP6 2001:db8::1 ::1 5678 443\r\n".to_vec(), Some("2001:db8::1")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ::1 5678 443\r\n".to_vec(), None),
            (binary_header(0x21, 0x11, &v4), Some("1.2.3.4")),
            (binary_header(0x21, 0x11, &long), Some("1.2.3.4")),
            (binary_header(0x21, 0x21, &v6), Some("2001:db8::1")),
            (binary_header(0x20, 0x00, &[]), None),
            (binary_header(0x21, 0x31, &[0; 216]), None),
        ]
    }

    #[test]
    fn each_header_says_who_in_all_its_beginnings() {
        for (header, client) in headers() {
            let followed = [header.as_slice(), b"GET / HTTP/1.1\r\n\r\n"].concat();
            for end in 0..header.len() {
                assert_eq!(parse(&followed[..end]), Ok(None), "{end} of {header:?}");
            }
            for end in header.len()..=followed.len() {
                let said = parse(&followed[..end]).unwrap().expect("it is whole");
                assert_eq!(
                    (said.client.map(|client| client.to_string()).as_deref(), said.bytes),
                    (client, header.len())
                );
            }
        }
    }

    #[test]
    fn what_is_no_header_is_refused_as_soon_as_that_is_sure() {
        for bad in [
            &b"G"[..],
            b"PROXX",
            b"\x16\x03\x01",
            b"PROXY TCP4 1.2.3.4 ::1 1 2\r\n",
            b"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1 99999\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n",
            b"PROXY \r\n",
            b"PROXY TCP4 \xff 1.2.3.4 1 2\r\n",
            &[b"PROXY UNKNOWN ".as_slice(), &[b'x'; 100]].concat(),
            &binary_header(0x31, 0x11, &[0; 12]),
            &binary_header(0x22, 0x11, &[0; 12]),
            &binary_header(0x21, 0x11, &[0; 11]),
            &binary_header(0x21, 0x21, &[0; 35]),
            &binary_header(0x21, 0x11, &[0; PROXY_HEADER_BYTES_MAX]),
        ] {
            assert_eq!(parse(bad), Err(Malformed), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn nothing_behind_it_is_read_in_whatever_pieces_it_comes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        for (header, client) in headers() {
            let followed = [header.as_slice(), b"behind"].concat();
            for cut in [1, 5, 13, 15, 17, header.len() - 1, header.len(), header.len() + 3] {
                let cut = cut.min(followed.len() - 1);
                let mut theirs = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
                theirs.set_nodelay(true).unwrap();
                let (mut ours, _) = listener.accept().await.unwrap();
                theirs.write_all(&followed[..cut]).await.unwrap();
                let reading = async {
                    let read = read(&mut ours).await.unwrap();
                    let mut rest = [0; 6];
                    ours.read_exact(&mut rest).await.unwrap();
                    (read.map(|client| client.to_string()), rest)
                };
                let writing = async {
                    tokio::task::yield_now().await;
                    theirs.write_all(&followed[cut..]).await.unwrap();
                };
                let ((read, rest), ()) = tokio::join!(reading, writing);
                assert_eq!((read.as_deref(), &rest), (client, b"behind"), "cut at {cut}: {header:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mark in 0..3_usize, bytes in prop::collection::vec(prop::num::u8::ANY, 0..600)) {
            let all = [[&b""[..], MARK, TEXT_MARK][mark], &bytes].concat();
            if let Ok(Some(said)) = parse(&all) {
                prop_assert!(said.bytes <= all.len() && said.bytes <= PROXY_HEADER_BYTES_MAX);
            }
        }
    }
}
