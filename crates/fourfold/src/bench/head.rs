//! The head of an HTTP answer, as far as a reader needs it: where the body ends, and where to go on.

use memchr::memmem;

/// A head that is longer is no answer. More than servers are known to send.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// A head that is whole.
#[derive(Debug, PartialEq)]
pub(crate) struct Head<'a> {
    pub(crate) status: u16,
    /// With the blank line.
    pub(crate) bytes: usize,
    pub(crate) body: Extent,
    /// The server will not answer another request on this connection.
    pub(crate) closes: bool,
    pub(crate) next_offset: Option<&'a [u8]>,
    pub(crate) up_to_date: bool,
    pub(crate) etag: Option<&'a [u8]>,
    pub(crate) modified: Option<&'a [u8]>,
}

/// Where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// After so many bytes.
    Length(u64),
    /// After the last chunk.
    Chunked,
    /// With the connection.
    Close,
}

/// The head at the start of `bytes`; `None` if it is not whole yet. Errors: what it is instead.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Head<'_>>, &'static str> {
    let Some(end) = memmem::find(bytes, b"\r\n\r\n") else {
        return if bytes.len() > HEAD_BYTES_MAX { Err("an answer whose head does not end") } else { Ok(None) };
    };
    let mut lines = bytes[..end].split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let first = lines.next().unwrap_or_default();
    let status = match first {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', _, b' ', digits @ ..] => {
            decimal(digits.get(..3).unwrap_or_default())
        }
        _ => None,
    };
    let status = status.and_then(|status| u16::try_from(status).ok()).ok_or("an answer that is not HTTP/1")?;
    let mut head = Head {
        status,
        bytes: end + 4,
        body: Extent::Close,
        closes: first.starts_with(b"HTTP/1.0"),
        next_offset: None,
        up_to_date: false,
        etag: None,
        modified: None,
    };
    let mut length = None;
    for line in lines {
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        // By length first: one comparison for most headers.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"etag") => head.etag = Some(value),
            10 if name.eq_ignore_ascii_case(b"connection") => head.closes |= value.eq_ignore_ascii_case(b"close"),
            13 if name.eq_ignore_ascii_case(b"last-modified") => head.modified = Some(value),
            14 if name.eq_ignore_ascii_case(b"content-length") => length = decimal(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => head.body = Extent::Chunked,
            17 if name.eq_ignore_ascii_case(b"stream-up-to-date") => head.up_to_date = true,
            18 if name.eq_ignore_ascii_case(b"stream-next-offset") => head.next_offset = Some(value),
            _ => {}
        }
    }
    if matches!(status, 100..=199 | 204 | 304) {
        head.body = Extent::Length(0);
    } else if head.body != Extent::Chunked
        && let Some(length) = length
    {
        head.body = Extent::Length(length);
    }
    Ok(Some(head))
}

fn decimal(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_says_where_the_body_ends_and_where_to_go_on() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nStream-Next-Offset: a_1\r\nEtag: 0\r\nstream-up-to-date: true\r\n\r\nbody";
        let head = parse(text).unwrap().unwrap();
        assert_eq!((head.status, head.body, head.bytes), (200, Extent::Length(12), text.len() - 4));
        assert_eq!((head.next_offset, head.etag, head.up_to_date), (Some(&b"a_1"[..]), Some(&b"0"[..]), true));
        for cut in 0..text.len() - 5 {
            assert_eq!(parse(&text[..cut]), Ok(None), "{cut}");
        }
    }

    #[test]
    fn an_answer_without_body_has_none_whatever_its_headers_say() {
        for status in [101, 204, 304] {
            let text = format!("HTTP/1.1 {status} X\r\ncontent-length: 7\r\n\r\n");
            assert_eq!(parse(text.as_bytes()).unwrap().unwrap().body, Extent::Length(0));
        }
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\n\r\n").unwrap().unwrap().body, Extent::Close);
        let chunked = parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n");
        let chunked = chunked.unwrap().unwrap();
        assert_eq!((chunked.body, chunked.closes), (Extent::Chunked, true));
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        assert!(parse(b"SSH-2.0-x\r\n\r\n").is_err());
        assert!(parse(&vec![b'x'; HEAD_BYTES_MAX + 1]).is_err());
    }
}
