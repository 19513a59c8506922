//! What every client command shares: the stream's URLs, one HTTP client, and the requests that are no reads.

use std::time::Duration;

use fourfold_protocol::StreamName;
use reqwest::{
    Method, RequestBuilder,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
};

use crate::{
    failure::{Failure, checked},
    message::Format,
    retry::{GaveUp, Retry},
};

/// No byte for so long means that the other side is gone: three of the server's slowest heartbeats (a ping every 30 s).
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(90);

/// A connection that is not made by then will not be.
pub(crate) const CONNECT_MAX: Duration = Duration::from_secs(10);

/// One stream on one server.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    token: Option<Token>,
    /// `http://host:port/v1/stream/name`
    url: String,
    /// As it was typed.
    pub(crate) name: String,
}

/// The URL or the name cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AddressError {
    /// Not a URL of this kind.
    #[error("'{0}' is not a server's URL; write it as http://127.0.0.1:4437 (this command speaks plain HTTP)")]
    Url(String),
    /// Not a stream's name.
    #[error("'{name}' is not a stream: {why}")]
    Name {
        /// As it was typed.
        name: String,
        /// What is wrong with it.
        why: String,
    },
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

impl Client {
    /// For the stream `name` on the server at `url`.
    pub(crate) fn new(url: &str, name: &str) -> Result<Self, AddressError> {
        let root = root(url)?;
        let stream = StreamName::new(name)
            .map_err(|refusal| AddressError::Name { name: name.to_owned(), why: refusal.detail })?;
        let url = format!("{root}/v1/stream/{}", stream.encoded());
        Ok(Self { http: http(None)?, token: None, url, name: name.to_owned() })
    }

    /// The same, showing a token with each request.
    pub(crate) fn with_token(url: &str, name: &str, token: Option<Token>) -> Result<Self, AddressError> {
        Ok(Self { http: http(token.as_ref())?, token, ..Self::new(url, name)? })
    }

    /// What each request shows.
    pub(crate) fn token(&self) -> Option<&Token> {
        self.token.as_ref()
    }

    /// The server's part of the URL, for messages to people.
    pub(crate) fn server(&self) -> &str {
        self.url.split_once("/v1/stream/").map_or(&self.url, |(server, _)| server)
    }

    /// The stream's URL for a read from `offset`, with further parameters that need no encoding.
    pub(crate) fn read_url(&self, offset: &str, parameters: &str) -> String {
        format!("{}?offset={}{parameters}", self.url, encoded(offset))
    }

    /// The same as a WebSocket URL.
    pub(crate) fn websocket_url(&self, offset: &str) -> String {
        self.read_url(offset, "").replacen("http://", "ws://", 1)
    }

    /// A `GET` of a URL made by [`read_url`](Self::read_url).
    pub(crate) fn get(&self, url: &str) -> RequestBuilder {
        self.http.get(url)
    }

    /// What there is to know about the stream. One try.
    pub(crate) async fn head(&self) -> Result<Metadata, Failure> {
        let response = self.http.head(&self.url).send().await?;
        let mut answer = checked(response).await;
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
        let mut request = self.http.put(&self.url).header("content-type", content_type.unwrap_or("text/plain"));
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
            let request = self.http.request(Method::POST, &self.url).header("stream-closed", "true");
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
pub(crate) fn root(url: &str) -> Result<String, AddressError> {
    let rest = url.strip_prefix("http://").ok_or_else(|| AddressError::Url(url.to_owned()))?.trim_end_matches('/');
    if rest.is_empty() || rest.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '?' | '#' | '@')) {
        return Err(AddressError::Url(url.to_owned()));
    }
    Ok(format!("http://{rest}"))
}

/// A client for one server. No proxy: a WebSocket would not go through it, and the four transports are to see the same server.
pub(crate) fn http(token: Option<&Token>) -> Result<reqwest::Client, AddressError> {
    let headers = token.map(|token| (AUTHORIZATION, token.0.clone())).into_iter().collect();
    let client = reqwest::Client::builder().no_proxy().default_headers(headers);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_and_a_name_become_one_address() {
        let client = Client::new("http://127.0.0.1:4437/", "demo/über").unwrap();
        assert_eq!(
            client.read_url("-1", "&live=sse"),
            "http://127.0.0.1:4437/v1/stream/demo/%C3%BCber?offset=-1&live=sse"
        );
        assert_eq!(client.websocket_url("a&b"), "ws://127.0.0.1:4437/v1/stream/demo/%C3%BCber?offset=a%26b");
        assert_eq!(client.server(), "http://127.0.0.1:4437");
    }

    #[test]
    fn an_address_that_cannot_work_is_refused_at_once() {
        for url in ["https://host", "127.0.0.1:4437", "http://", "http://a b", "http://user@host", "http://host?x"] {
            assert!(matches!(Client::new(url, "a"), Err(AddressError::Url(_))), "{url}");
        }
        assert!(matches!(Client::new("http://host", "a//b"), Err(AddressError::Name { .. })));
    }
}
