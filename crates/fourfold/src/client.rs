//! What every client command shares: the stream's URLs, one HTTP client, and the requests that are no reads.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use fourfold_protocol::StreamName;
use reqwest::{
    Method, RequestBuilder,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
};
use tokio_rustls::rustls::ClientConfig;
use url::{Host, Url};

use crate::{
    cli::ServerArgs,
    failure::{Failure, Problem, checked},
    message::Format,
    retry::{GaveUp, Retry, tell},
    trust::{self, TrustError},
};

/// No byte for so long means that the other side is gone: three of the server's slowest heartbeats (a ping every 30 s).
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(90);

/// A connection that is not made by then will not be.
pub(crate) const CONNECT_MAX: Duration = Duration::from_secs(10);

/// One server, and how to come to it.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    /// Without a slash at its end.
    pub(crate) url: String,
    pub(crate) host: Host,
    pub(crate) port: u16,
    /// Whom to trust, if it is to speak TLS.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) http: reqwest::Client,
    pub(crate) token: Option<Token>,
}

/// One stream on one server.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    server: Server,
    /// `http://host:port/v1/stream/name`
    url: String,
    /// As it was typed.
    pub(crate) name: String,
}

/// The URL or the name cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AddressError {
    /// Not a URL of this kind.
    #[error("'{0}' is not a server's URL; write it as http://127.0.0.1:4437 or https://example.org")]
    Url(String),
    /// Not a stream's name.
    #[error("'{name}' is not a stream: {why}")]
    Name {
        /// As it was typed.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// It is to speak TLS, and nobody is trusted.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The HTTP client cannot be made.
    #[error("the HTTP client does not start: {0}")]
    Http(#[from] reqwest::Error),
}

/// What `HEAD` tells.
#[derive(Clone, Debug)]
pub(crate) struct Metadata {
    pub(crate) content_type: String,
    pub(crate) next_offset: String,
    pub(crate) closed: bool,
}

impl Metadata {
    pub(crate) fn format(&self) -> Format {
        Format::of(&self.content_type)
    }
}

impl Server {
    /// As it was typed. Warns if a token would be seen on its way.
    pub(crate) fn new(args: &ServerArgs) -> Result<Self, AddressError> {
        let url = root(&args.url)?;
        let wrong = || AddressError::Url(args.url.clone());
        let parsed = Url::parse(&url).map_err(|_| wrong())?;
        let host = parsed.host().ok_or_else(wrong)?.to_owned();
        let port = parsed.port_or_known_default().ok_or_else(wrong)?;
        let tls = match url.starts_with("https://") {
            true => Some(trust::config(args.ca.as_deref())?),
            false => None,
        };
        if tls.is_none() && args.token.is_some() && !is_here(&host) {
            tell(&format!(
                "the token goes to {url} unencrypted, for all on its way to read: write https:// if the server speaks TLS"
            ));
        }
        let http = http(args.token.as_ref(), tls.as_ref())?;
        Ok(Self { url, host, port, tls, http, token: args.token.clone() })
    }

    /// At this URL, shown nothing.
    pub(crate) fn open(url: &str) -> Result<Self, AddressError> {
        Self::new(&ServerArgs { url: url.to_owned(), token: None, ca: None })
    }
}

/// Whether what is sent there does not leave this machine.
fn is_here(host: &Host) -> bool {
    match host {
        Host::Domain(name) => name == "localhost" || name.ends_with(".localhost"),
        Host::Ipv4(ip) => ip.is_loopback(),
        Host::Ipv6(ip) => ip.to_canonical().is_loopback(),
    }
}

impl Client {
    /// For the stream `name`.
    pub(crate) fn new(server: Server, name: &str) -> Result<Self, AddressError> {
        let stream = StreamName::new(name)
            .map_err(|refusal| AddressError::Name { name: name.to_owned(), why: refusal.detail })?;
        let url = format!("{}/v1/stream/{}", server.url, stream.encoded());
        Ok(Self { server, url, name: name.to_owned() })
    }

    /// Where it is.
    pub(crate) fn at(&self) -> &Server {
        &self.server
    }

    /// The server's part of the URL, for messages to people.
    pub(crate) fn server(&self) -> &str {
        &self.server.url
    }

    /// The stream's URL for a read from `offset`, with further parameters that need no encoding.
    pub(crate) fn read_url(&self, offset: &str, parameters: &str) -> String {
        format!("{}?offset={}{parameters}", self.url, encoded(offset))
    }

    /// The same as a WebSocket URL.
    pub(crate) fn websocket_url(&self, offset: &str) -> String {
        self.read_url(offset, "").replacen("http", "ws", 1)
    }

    /// A `GET` of a URL made by [`read_url`](Self::read_url).
    pub(crate) fn get(&self, url: &str) -> RequestBuilder {
        self.server.http.get(url)
    }

    /// What there is to know about the stream. One try.
    pub(crate) async fn head(&self) -> Result<Metadata, Failure> {
        let response = self.server.http.head(&self.url).send().await?;
        let mut answer = checked(response).await;
        if let Err(Failure::Refused(Problem { status: 400, .. })) = &answer {
            // A plain read is refused with the same words, and the answer to it has a body. A server that wants TLS says so here.
            let read = self.get(&self.read_url("now", "&limit=1")).send().await?;
            answer = Err(checked(read).await.err().unwrap_or_else(|| Failure::Garbled("to HEAD alone".into())));
        }
        if let Err(Failure::Refused(problem)) = &mut answer {
            // The answer to HEAD has no body, so the words are ours.
            problem.detail = match problem.status {
                404 => format!("there is no stream '{}' at {}", self.name, self.server()),
                401 => format!(
                    "the server wants another token for '{}': give one in FOURFOLD_TOKEN, as 'fourfold token' makes it",
                    self.name
                ),
                403 => format!(
                    "the token does not permit to read '{}': 'fourfold token check' says what it permits",
                    self.name
                ),
                400 => std::mem::take(&mut problem.detail),
                _ => format!("the server refused to describe '{}'", self.name),
            };
        }
        let response = answer?;
        let headers = response.headers();
        let needed = |name: &str| header(headers, name).ok_or_else(|| Failure::Garbled(format!("it lacks {name}")));
        Ok(Metadata {
            content_type: needed("content-type")?,
            next_offset: needed("stream-next-offset")?,
            closed: is_true(headers, "stream-closed"),
        })
    }

    /// Makes sure that the stream exists, and tells about it: `content_type` is for a new one (text/plain if `None`);
    /// one that exists is taken as it is, unless its type is another than the one asked for.
    pub(crate) async fn ensure(
        &self,
        content_type: Option<&str>,
        headers: &[(&'static str, String)],
        retry: &mut Retry,
    ) -> Result<Metadata, EnsureError> {
        loop {
            let failure = match self.ensure_once(content_type, headers).await {
                Ok(metadata) => {
                    retry.reset();
                    let same = |asked: &str| asked.eq_ignore_ascii_case(&metadata.content_type);
                    return match content_type {
                        Some(asked) if !same(asked) => Err(EnsureError::ContentType {
                            name: self.name.clone(),
                            has: metadata.content_type,
                            asked: asked.into(),
                        }),
                        _ if metadata.closed => Err(EnsureError::Closed { name: self.name.clone() }),
                        _ => Ok(metadata),
                    };
                }
                Err(failure) => failure,
            };
            let Failure::Passing { why, after } = failure else { return Err(failure.into()) };
            retry.wait(&why, after).await?;
        }
    }

    async fn ensure_once(
        &self,
        content_type: Option<&str>,
        headers: &[(&'static str, String)],
    ) -> Result<Metadata, Failure> {
        match self.head().await {
            Err(Failure::Refused(problem)) if problem.status == 404 => {}
            known => return known,
        }
        let mut request = self.server.http.put(&self.url).header("content-type", content_type.unwrap_or("text/plain"));
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        match checked(request.send().await?).await {
            // Somebody else was quicker: what is there now decides.
            Err(Failure::Refused(problem)) if problem.status == 409 => {}
            Err(failure) => return Err(failure),
            Ok(_) => {}
        }
        self.head().await
    }

    /// Closes the stream; closing it twice is the same as once.
    pub(crate) async fn close(&self, retry: &mut Retry) -> Result<(), EnsureError> {
        loop {
            let request = self.server.http.request(Method::POST, &self.url).header("stream-closed", "true");
            let answer = match request.send().await {
                Ok(response) => checked(response).await,
                Err(error) => Err(error.into()),
            };
            match answer {
                Ok(_) => return Ok(()),
                Err(Failure::Passing { why, after }) => retry.wait(&why, after).await?,
                Err(failure) => return Err(failure.into()),
            }
        }
    }
}

/// Why there is no stream to work with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnsureError {
    /// The stream exists with another content type.
    #[error(
        "the stream '{name}' exists with content type {has}, not {asked}; leave the type out, or name another stream"
    )]
    ContentType {
        /// The stream.
        name: String,
        /// Its own type.
        has: String,
        /// The type asked for.
        asked: String,
    },
    /// The stream is closed.
    #[error("the stream '{name}' is closed; nothing can be appended to it")]
    Closed {
        /// The stream.
        name: String,
    },
    /// The server refused, or answers with something else.
    #[error("{0}")]
    Refused(String),
    /// It took too long.
    #[error(transparent)]
    GaveUp(#[from] GaveUp),
}

impl From<Failure> for EnsureError {
    fn from(failure: Failure) -> Self {
        Self::Refused(failure.to_string())
    }
}

/// A server's URL without a slash at its end.
fn root(url: &str) -> Result<String, AddressError> {
    let wrong = || AddressError::Url(url.to_owned());
    let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
    let rest = rest.trim_end_matches('/');
    if !matches!(scheme, "http" | "https")
        || rest.is_empty()
        || rest.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '?' | '#' | '@'))
    {
        return Err(wrong());
    }
    Ok(format!("{scheme}://{rest}"))
}

/// A client for one server. No proxy: a WebSocket would not go through it, and the four transports are to see the same server.
fn http(token: Option<&Token>, tls: Option<&Arc<ClientConfig>>) -> Result<reqwest::Client, AddressError> {
    let headers = token.map(|token| (AUTHORIZATION, token.0.clone())).into_iter().collect();
    let client = reqwest::Client::builder().no_proxy().default_headers(headers);
    // Also without TLS: left alone, the library looks for a crypto provider of its own.
    let tls = tls.map_or_else(trust::nobody, Arc::clone);
    let client = client.tls_backend_preconfigured((*tls).clone());
    Ok(client.connect_timeout(CONNECT_MAX).read_timeout(SILENCE_MAX).build()?)
}

/// A token as a header has it; no log and no error shows it.
#[derive(Clone, Debug)]
pub(crate) struct Token(pub(crate) HeaderValue);

impl Token {
    /// Errors: it is none, in words.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let value = HeaderValue::from_str(&format!("Bearer {text}")).ok().filter(|_| !text.is_empty());
        let mut value = value.ok_or("a token is one word without spaces, as 'fourfold token' prints it")?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

/// A header that is text.
pub(crate) fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(ToOwned::to_owned)
}

/// A header that says `true`.
pub(crate) fn is_true(headers: &HeaderMap, name: &str) -> bool {
    headers.get(name).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"))
}

/// A value for the query.
pub(crate) fn encoded(value: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("writing to a String does not fail");
        }
    }
    out
}

/// Where a client on this machine reaches a server that listens on all addresses.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_on_all_addresses_is_reached_on_loopback() {
        let of = |address: &str| reachable(address.parse().unwrap()).to_string();
        assert_eq!(of("0.0.0.0:4437"), "127.0.0.1:4437");
        assert_eq!(of("[::]:4437"), "[::1]:4437");
        assert_eq!(of("127.0.0.2:1"), "127.0.0.2:1");
    }

    fn client(url: &str, name: &str) -> Result<Client, AddressError> {
        Client::new(Server::open(url)?, name)
    }

    #[test]
    fn a_url_and_a_name_become_one_address() {
        let client = client("http://127.0.0.1:4437/", "demo/über").unwrap();
        assert_eq!(
            client.read_url("-1", "&live=sse"),
            "http://127.0.0.1:4437/v1/stream/demo/%C3%BCber?offset=-1&live=sse"
        );
        assert_eq!(client.websocket_url("a&b"), "ws://127.0.0.1:4437/v1/stream/demo/%C3%BCber?offset=a%26b");
        assert_eq!(client.server(), "http://127.0.0.1:4437");
    }

    #[test]
    fn an_address_that_cannot_work_is_refused_at_once() {
        for url in [
            "ftp://host",
            "127.0.0.1:4437",
            "http://",
            "https:///",
            "http://a b",
            "http://user@host",
            "https://host?x",
            "http://[::1",
        ] {
            assert!(matches!(client(url, "a"), Err(AddressError::Url(_))), "{url}");
        }
        assert!(matches!(client("http://host", "a//b"), Err(AddressError::Name { .. })));
    }

    #[test]
    fn what_stays_on_this_machine_is_known_by_its_host() {
        for (url, here) in [
            ("http://127.0.0.1:4437", true),
            ("http://127.9.9.9", true),
            ("http://[::1]:80", true),
            ("http://[::ffff:127.0.0.1]", true),
            ("http://localhost", true),
            ("http://a.localhost", true),
            ("http://10.0.0.1", false),
            ("http://localhost.example", false),
            ("http://notlocalhost", false),
        ] {
            assert_eq!(is_here(&Server::open(url).unwrap().host), here, "{url}");
        }
    }
}
