//! What is said to each kind of server. To add another one: a [`Profile`], its paths and what its requests look like.

use std::io::Write;

use super::{
    args::{Profile, Transport},
    plan::Plan,
};

/// All requests of a run; the streams are numbered, and the one behind the last is that of the idle readers.
#[derive(Debug)]
pub(crate) struct Wire {
    profile: Profile,
    transport: Transport,
    /// `Host`.
    host: String,
    publish: Vec<String>,
    subscribe: Vec<String>,
}

/// Where a polling reader stands; as the server said it.
#[derive(Debug, Default)]
pub(crate) struct Place {
    pub(crate) offset: Vec<u8>,
    pub(crate) etag: Vec<u8>,
    pub(crate) modified: Vec<u8>,
}

const JSON: &str = "content-type: application/json\r\n";

/// The key is one for all: it only shows that the server has understood.
const UPGRADE: &[u8] = b"connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";

impl Wire {
    /// To the server `host`, below `prefix`; `run` sets the streams of this run apart.
    pub(crate) fn new(plan: &Plan, host: &str, prefix: &str, run: &str) -> Self {
        let (publish, subscribe) = match plan.profile {
            Profile::Fourfold => ("/v1/stream/bench/{id}", "/v1/stream/bench/{id}"),
            Profile::DurableStreams => ("/{id}", "/{id}"),
            Profile::Nchan if plan.transport == Transport::ShortPoll => ("/pub?id={id}", "/poll?id={id}"),
            Profile::Nchan => ("/pub?id={id}", "/sub?id={id}"),
            Profile::Socketio => ("/pub?id={id}", "/socket.io/?EIO=4&transport=websocket&id={id}"),
        };
        let paths = |asked: &Option<String>, usual: &str| {
            let template = format!("{prefix}{}", asked.as_deref().unwrap_or(usual));
            (0..=plan.streams).map(|stream| template.replace("{id}", &format!("{run}-{stream}"))).collect()
        };
        Self {
            profile: plan.profile,
            transport: plan.transport,
            host: host.to_owned(),
            publish: paths(&plan.publish_path, publish),
            subscribe: paths(&plan.subscribe_path, subscribe),
        }
    }

    /// Makes the stream, where that is needed.
    pub(crate) fn create(&self, stream: usize) -> Option<Vec<u8>> {
        matches!(self.profile, Profile::Fourfold | Profile::DurableStreams)
            .then(|| self.plain("PUT", &self.publish[stream], JSON))
    }

    /// Ends the stream, where that can be said.
    pub(crate) fn delete(&self, stream: usize) -> Option<Vec<u8>> {
        (self.profile != Profile::Socketio).then(|| self.plain("DELETE", &self.publish[stream], ""))
    }

    /// How many requests append `batch` records in one step; the others know no batch.
    pub(crate) fn requests_a_batch(&self, batch: usize) -> usize {
        match self.profile {
            Profile::Fourfold | Profile::DurableStreams => 1,
            Profile::Nchan | Profile::Socketio => batch,
        }
    }

    /// Appends `records` records, which stand in `body` one behind the other with a comma between: a JSON array without
    /// its brackets.
    pub(crate) fn append(&self, stream: usize, records: usize, body: &[u8], out: &mut Vec<u8>) {
        let brackets: [&[u8]; 2] = if records > 1 { [b"[", b"]"] } else { [b"", b""] };
        let length = body.len() + brackets[0].len() + brackets[1].len();
        let content_type = match self.profile {
            Profile::Fourfold | Profile::DurableStreams => JSON,
            Profile::Nchan | Profile::Socketio => "content-type: text/plain\r\n",
        };
        let (path, host) = (&self.publish[stream], &self.host);
        write!(out, "POST {path} HTTP/1.1\r\nhost: {host}\r\n{content_type}content-length: {length}\r\n\r\n")
            .expect("writing to memory does not fail");
        out.extend_from_slice(brackets[0]);
        out.extend_from_slice(body);
        out.extend_from_slice(brackets[1]);
    }

    /// Reads on from `place`.
    pub(crate) fn subscribe(&self, stream: usize, place: &Place, out: &mut Vec<u8>) {
        let path = &self.subscribe[stream];
        out.extend_from_slice(b"GET ");
        out.extend_from_slice(path.as_bytes());
        let knows_offsets = matches!(self.profile, Profile::Fourfold | Profile::DurableStreams);
        if knows_offsets {
            out.extend_from_slice(if path.contains('?') { b"&offset=" } else { b"?offset=" });
            // A new stream from its start: nothing can slip in between.
            out.extend_from_slice(if place.offset.is_empty() { b"-1" } else { &place.offset });
            out.extend_from_slice(match self.transport {
                Transport::Websocket | Transport::ShortPoll => b"",
                Transport::Sse => b"&live=sse",
                // As long as it may be, so that those that wait ask seldom.
                Transport::LongPoll | Transport::Portions if self.profile == Profile::Fourfold => {
                    b"&live=long-poll&timeout=60"
                }
                Transport::LongPoll | Transport::Portions => b"&live=long-poll",
            });
        }
        out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
        out.extend_from_slice(self.host.as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(match self.transport {
            Transport::Websocket => UPGRADE,
            Transport::Sse => b"accept: text/event-stream\r\n",
            Transport::Portions => b"accept: application/x-ndjson\r\n",
            Transport::LongPoll | Transport::ShortPoll => b"",
        });
        let validates = !knows_offsets || self.transport == Transport::ShortPoll;
        for (name, value) in [(&b"if-none-match: "[..], &place.etag), (b"if-modified-since: ", &place.modified)] {
            if validates && !value.is_empty() {
                out.extend_from_slice(name);
                out.extend_from_slice(value);
                out.extend_from_slice(b"\r\n");
            }
        }
        out.extend_from_slice(b"\r\n");
    }

    fn plain(&self, method: &str, path: &str, headers: &str) -> Vec<u8> {
        let host = &self.host;
        format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n{headers}content-length: 0\r\n\r\n").into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn wire(line: &str) -> Wire {
        let Ok(Cli { command: Command::Bench(args) }) =
            Cli::try_parse_from(["fourfold", "bench"].into_iter().chain(line.split(' ')))
        else {
            panic!("{line} can be typed");
        };
        Wire::new(&Plan::new(&args).unwrap(), "h:1", "/p", "r")
    }

    fn subscribed(line: &str, place: &Place) -> String {
        let mut out = Vec::new();
        wire(line).subscribe(0, place, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_reader_goes_on_where_the_server_said() {
        let place = Place { offset: b"7".to_vec(), etag: b"\"e\"".to_vec(), modified: b"Sun".to_vec() };
        for (line, request) in [
            (
                "http://h --transport long-poll",
                "GET /p/v1/stream/bench/r-0?offset=7&live=long-poll&timeout=60 HTTP/1.1\r\nhost: h:1\r\n\r\n",
            ),
            (
                "http://h --transport short-poll --profile durable-streams",
                "GET /p/r-0?offset=7 HTTP/1.1\r\nhost: h:1\r\nif-none-match: \"e\"\r\nif-modified-since: Sun\r\n\r\n",
            ),
            (
                "http://h --transport long-poll --profile nchan",
                "GET /p/sub?id=r-0 HTTP/1.1\r\nhost: h:1\r\nif-none-match: \"e\"\r\nif-modified-since: Sun\r\n\r\n",
            ),
            (
                "http://h --transport sse --profile nchan --subscribe-path /x/{id}/y",
                "GET /p/x/r-0/y HTTP/1.1\r\nhost: h:1\r\naccept: text/event-stream\r\nif-none-match: \"e\"\r\nif-modified-since: Sun\r\n\r\n",
            ),
        ] {
            assert_eq!(subscribed(line, &place), request, "{line}");
        }
    }

    #[test]
    fn a_batch_is_one_array_where_the_server_knows_arrays() {
        let wire = wire("http://h --batch 2");
        assert_eq!(wire.requests_a_batch(2), 1);
        let mut out = Vec::new();
        wire.append(0, 2, b"1,2", &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.ends_with("content-type: application/json\r\ncontent-length: 5\r\n\r\n[1,2]"), "{text}");
    }
}
