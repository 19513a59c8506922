//! The requests that are no reads: beginning a call, once, and cancelling one.

use std::{
    io::{self, Read},
    time::Duration,
};

use fourfold_calls::{config::is_call_name, limits::BODY_BYTES_LIMIT};
use reqwest::{Method, Response};

use super::CallError;
use crate::{
    cli::CallArgs,
    client::{Server, encoded, header},
    failure::{Failure, checked},
    retry::{Retry, random},
};

/// How long a server that cannot be reached is tried unless it is said: as `append` does.
const RETRY_FOR: Duration = Duration::from_secs(60);

/// A server that can be asked about calls.
#[derive(Debug)]
pub(super) struct Requests {
    server: Server,
    retry_for: Duration,
}

impl Requests {
    pub(super) fn new(server: Server, retry_for: Option<Duration>) -> Self {
        Self { server, retry_for: retry_for.unwrap_or(RETRY_FOR) }
    }

    /// Begins a call; its id. The request carries a key, so that it can be repeated after a cut.
    pub(super) async fn begin(&self, call: &str, args: &CallArgs) -> Result<String, CallError> {
        let url = self.url(call)?;
        let body = body(args.data.as_deref()).await?;
        let content_type = args.content_type.as_deref().unwrap_or_else(|| guessed(&body)).to_owned();
        let key = args.key.clone().unwrap_or_else(|| format!("{:016x}{:016x}", random(), random()));
        let asking = self.ask(|| {
            let mut request = self.server.http.request(Method::POST, &url).header("idempotency-key", &key);
            if !body.is_empty() {
                request = request.header("content-type", &content_type).body(body.clone());
            }
            request
        });
        let answer = tokio::select! {
            answer = asking => answer?,
            _ = tokio::signal::ctrl_c() => return Err(CallError::Unknown { key }),
        };
        header(answer.headers(), "call-id").ok_or_else(|| CallError::Refused("the answer lacks call-id".into()))
    }

    /// Cancels a call that runs. Errors: there is no such call, or it has ended.
    pub(super) async fn cancel(&self, id: &str) -> Result<(), CallError> {
        let url = format!("{}/v1/calls/{}/cancel", self.server.url, encoded(id));
        self.ask(|| self.server.http.request(Method::POST, &url)).await.map(drop)
    }

    async fn ask(&self, request: impl Fn() -> reqwest::RequestBuilder) -> Result<Response, CallError> {
        let mut retry = Retry::new(&self.server.url, Some(self.retry_for));
        loop {
            let answer = match request().send().await {
                Ok(response) => checked(response).await,
                Err(error) => Err(error.into()),
            };
            match answer {
                Ok(response) => {
                    retry.reset();
                    return Ok(response);
                }
                Err(Failure::Passing { why, after }) => retry.wait(&why, after).await?,
                Err(failure) => return Err(CallError::Refused(failure.to_string())),
            }
        }
    }

    /// `NAME[/rest][?query]`, as it stands in a URL.
    fn url(&self, call: &str) -> Result<String, CallError> {
        let refused = |why| CallError::Name { call: call.to_owned(), why };
        let name = call.split(['/', '?']).next().unwrap_or_default();
        if !is_call_name(name) {
            return Err(refused("write NAME or NAME/rest; a name is 1 to 64 of a-z, A-Z, 0-9, '.', '_' and '-'"));
        }
        let rest = call[name.len()..].split('?').next().unwrap_or_default();
        if rest.split('/').any(|segment| matches!(segment, "." | "..")) {
            return Err(refused("its path has a dot segment"));
        }
        if call.chars().any(|c| c.is_whitespace() || c.is_control() || c == '#' || c == '\\') {
            return Err(refused("percent-encode what does not stand in a URL"));
        }
        Ok(format!("{}/v1/call/{call}", self.server.url))
    }
}

/// `-` is standard input, `@FILE` a file, all else the text itself.
async fn body(data: Option<&str>) -> Result<Vec<u8>, CallError> {
    let failed = |what: &str, error: io::Error| CallError::Data(format!("{what}: {error}"));
    let whole = match data {
        None => return Ok(Vec::new()),
        Some("-") => {
            // On a thread of its own, so that Ctrl-C is heard meanwhile.
            let reading = tokio::task::spawn_blocking(|| bounded(io::stdin().lock()));
            let read = tokio::select! {
                read = reading => read.map_err(io::Error::other).and_then(|read| read),
                _ = tokio::signal::ctrl_c() => std::process::exit(130), // Nothing has begun, and the read does not end.
            };
            read.map_err(|error| failed("standard input", error))?
        }
        Some(text) => match text.strip_prefix('@') {
            Some(path) => {
                let file = std::fs::File::open(path).map_err(|error| failed(path, error))?;
                bounded(file).map_err(|error| failed(path, error))?
            }
            None => text.as_bytes().to_vec(),
        },
    };
    if whole.len() as u64 > BODY_BYTES_LIMIT {
        return Err(CallError::Data(format!("it has more than {BODY_BYTES_LIMIT} bytes, which no call takes")));
    }
    Ok(whole)
}

fn bounded(from: impl Read) -> io::Result<Vec<u8>> {
    let mut whole = Vec::new();
    from.take(BODY_BYTES_LIMIT + 1).read_to_end(&mut whole)?;
    Ok(whole)
}

fn guessed(body: &[u8]) -> &'static str {
    match body {
        json if serde_json::from_slice::<&serde_json::value::RawValue>(json).is_ok() => "application/json",
        text if std::str::from_utf8(text).is_ok() => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_a_name_with_what_is_behind_it() {
        let requests = Requests::new(Server::open("http://host").unwrap(), None);
        for good in ["report", "report/2026/11?lang=de", "a?x=1", "a/%20b"] {
            assert_eq!(requests.url(good).unwrap(), format!("http://host/v1/call/{good}"));
        }
        for bad in ["", "/report", "a b", "a/../../calls", "a/.", "a#b", "ü", "..", "a/b c"] {
            assert!(matches!(requests.url(bad), Err(CallError::Name { .. })), "{bad}");
        }
    }

    #[test]
    fn the_type_of_a_body_is_told_from_it() {
        assert_eq!(guessed(b" {\"a\": 1}\n"), "application/json");
        assert_eq!(guessed(b"{\"a\": 1}\n{}"), "text/plain; charset=utf-8");
        assert_eq!(guessed(b"\xff"), "application/octet-stream");
    }
}
