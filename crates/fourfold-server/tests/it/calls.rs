//! Calls: requests that the server executes, against real upstreams and real programs.

mod cancelling;
mod endings;
mod keys;
mod limits;
mod names;
mod origins;
mod reading;
mod restarts;

use std::{
    net::{SocketAddr, TcpListener},
    sync::mpsc,
    thread,
};

use fourfold_server::CallOptions;
use serde_json::{Value, json};

use crate::{
    harness::{Harness, PATIENCE, eventually},
    http::{Answer, Client},
};

/// An upstream that says what the test tells it to, byte by byte.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    arrived: mpsc::Receiver<Exchange>,
}

/// A request that the upstream has got, and where its answer goes.
pub(crate) struct Exchange {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    pub(crate) client: Client,
}

impl Upstream {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it listens");
        let (tell, arrived) = mpsc::channel();
        // Ends with the test's process; whoever is not asked for waits in the channel.
        thread::spawn(move || {
            for socket in listener.incoming() {
                let mut client = Client::over(socket.expect("a connection"));
                let Some(head) = client.until(b"\r\n\r\n") else { continue };
                let head = String::from_utf8(head).expect("a head is ASCII").to_ascii_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let body = client.take(length.map_or(0, |length| length.parse().expect("a length")));
                if tell.send(Exchange { head, body, client }).is_err() {
                    return;
                }
            }
        });
        Self { address, arrived }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/task", self.address)
    }

    /// The next request.
    pub(crate) fn next(&self) -> Exchange {
        self.arrived.recv_timeout(PATIENCE).expect("the upstream is asked")
    }

    /// Nothing was asked but what was looked at. Say so only when what could have asked is over.
    pub(crate) fn was_left_alone(&self) {
        assert!(self.arrived.try_recv().is_err(), "the upstream was asked");
    }
}

impl Exchange {
    pub(crate) fn say(&mut self, text: &str) {
        self.client.send(text);
    }

    /// Waits until the server has closed the connection.
    pub(crate) fn sees_the_end(mut self) {
        self.client.ended();
    }
}

/// The head of an answer that ends with its connection.
pub(crate) const OPEN_HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n";

/// A server with these calls.
pub(crate) fn serving(calls: Value) -> Harness {
    Harness::with(|settings| settings.calls = options(calls))
}

pub(crate) fn options(calls: Value) -> CallOptions {
    let options =
        CallOptions { calls: serde_json::from_value(calls).expect("calls as configured"), ..CallOptions::default() };
    options.check().expect("they can be used");
    options
}

/// One call, `work`, of this upstream.
pub(crate) fn serving_url(upstream: &Upstream) -> Harness {
    serving(json!({ "work": { "url": upstream.url() } }))
}

/// One call, `work`, of the shell.
pub(crate) fn serving_shell(script: &str) -> Harness {
    serving(json!({ "work": shell(script) }))
}

pub(crate) fn shell(script: &str) -> Value {
    json!({ "command": ["/bin/sh", "-c", script], "grace": "100ms" })
}

impl Harness {
    /// Begins a call; its id.
    pub(crate) fn call(&self, target: &str) -> String {
        let answer = self.ask("POST", &format!("/v1/call/{target}"), &[], b"").expect(201);
        answer.header("call-id").to_owned()
    }

    pub(crate) fn state(&self, id: &str) -> Value {
        self.get(&format!("/v1/calls/{id}")).expect(200).json()
    }

    /// How a call ends.
    pub(crate) fn ending(&self, id: &str) -> Value {
        eventually("the call has ended", || self.state(id)["state"] == "ended");
        self.state(id)["ending"].clone()
    }

    /// Waits until a call's stream has so many records.
    pub(crate) fn has_records(&self, id: &str, count: u64) {
        eventually("the records are there", || {
            let next = self.state(id)["streamNextOffset"].as_str().expect("an offset").to_owned();
            next.split('_').nth(1).expect("a position").parse::<u64>().expect("a number") >= count
        });
    }

    pub(crate) fn read(&self, id: &str) -> Answer {
        self.get(&format!("/v1/stream/calls/{id}")).expect(200)
    }
}
