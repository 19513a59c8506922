//! A server in this process, and a well-behaved client that must not notice what the others do.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use fourfold_engines::memory::MemoryEngine;
use fourfold_protocol::StreamName;
use fourfold_server::{Connections, Limits, Operator, Server, Settings};
use fourfold_stream::{Engine, Relay, Retention};
use tokio::sync::oneshot;

use crate::{
    http::{Answer, Client},
    secured,
};

/// Nothing here takes so long unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn memory(relay: Relay) -> Arc<dyn Engine> {
    Arc::new(MemoryEngine::new(relay, Retention::default()))
}

/// A running server. Dropping it stops it.
pub(crate) struct Harness {
    /// Where a client without TLS reaches it.
    pub(crate) address: SocketAddr,
    pub(crate) listens: SocketAddr,
    /// Where metrics and health are.
    pub(crate) operator: SocketAddr,
    pub(crate) connections: Connections,
    pub(crate) limits: Arc<Limits>,
    engine: Arc<dyn Engine>,
    stop: Option<oneshot::Sender<()>>,
    running: Option<JoinHandle<std::io::Result<()>>>,
    witness: Mutex<Witness>,
}

/// A client on a connection of its own that appends and reads.
struct Witness {
    client: Option<Client>,
    appended: usize,
}

impl Harness {
    pub(crate) fn start() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(set: impl FnOnce(&mut Settings)) -> Self {
        Self::on(memory, set)
    }

    pub(crate) fn on(
        engine: impl FnOnce(Relay) -> Arc<dyn Engine> + Send + 'static,
        set: impl FnOnce(&mut Settings),
    ) -> Self {
        let mut settings = Settings::default();
        set(&mut settings);
        // By hand, to see what TLS breaks. The few tests that are about plain sockets and http:// in a Location fail then.
        if settings.tls.is_none() && std::env::var_os("FOURFOLD_TESTS_OVER_TLS").is_some() {
            settings.tls = Some(secured::Certificate::new().tls());
        }
        let secured = settings.tls.is_some();
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = mpsc::channel();
        let running = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let any = "127.0.0.1:0".parse().expect("an address");
                let mut server = Server::bind(any, settings).await?;
                let operator = Operator::bind(any)?;
                let operator_address = operator.address();
                server.tell(operator)?;
                let (relay, shards) = Relay::new(2);
                let engine = engine(relay);
                let watching = (server.connections(), server.limits());
                let told = (server.address()?, operator_address, watching, Arc::clone(&engine));
                tell.send(told).expect("the test waits for it");
                server.run(engine, shards, async { drop(stopped.await) }).await
            })
        });
        let (listens, operator, (connections, limits), engine) =
            told.recv_timeout(PATIENCE).expect("the server listens");
        // Clients here speak no TLS themselves.
        let address = if secured { secured::tunnel(listens) } else { listens };
        let witness = Mutex::new(Witness { client: None, appended: 0 });
        let (stop, running) = (Some(stop), Some(running));
        let harness = Self { address, listens, operator, connections, limits, engine, stop, running, witness };
        harness.ask("DELETE", &url("witness"), &[], b""); // Of an earlier life of the same directory.
        harness.create("witness", "application/json");
        harness.still_serves();
        harness
    }

    /// What only the server's own code may ask for.
    pub(crate) fn engine(&self) -> &dyn Engine {
        &*self.engine
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// One request on a connection of its own.
    pub(crate) fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut client = self.connect();
        client.request(method, target, headers, body);
        client.answer_to(method)
    }

    pub(crate) fn get(&self, target: &str) -> Answer {
        self.ask("GET", target, &[], b"")
    }

    pub(crate) fn create(&self, name: &str, content_type: &str) {
        self.create_with(name, content_type, &[]);
    }

    pub(crate) fn create_with(&self, name: &str, content_type: &str, headers: &[(&str, &str)]) {
        let headers = [&[("content-type", content_type)], headers].concat();
        self.ask("PUT", &url(name), &headers, b"").expect(201);
    }

    /// Appends, and tells the offset behind it.
    pub(crate) fn append(&self, name: &str, content_type: &str, body: &[u8]) -> String {
        let answer = self.ask("POST", &url(name), &[("content-type", content_type)], body);
        answer.expect(204).header("stream-next-offset").to_owned()
    }

    pub(crate) fn close(&self, name: &str) {
        self.ask("POST", &url(name), &[("stream-closed", "true")], b"").expect(204);
    }

    /// The well-behaved client appends, and reads all that it ever appended.
    pub(crate) fn still_serves(&self) {
        let mut witness = self.witness.lock().expect("one at a time");
        let mut client = witness.client.take().unwrap_or_else(|| self.connect());
        let record = witness.appended.to_string();
        let json = [("content-type", "application/json")];
        client.request("POST", &url("witness"), &json, record.as_bytes());
        client.answer().expect(204);
        witness.appended += 1;
        client.request("GET", &(url("witness") + "?offset=-1"), &[], b"");
        let all: Vec<String> = (0..witness.appended).map(|n| n.to_string()).collect();
        assert_eq!(client.answer().expect(200).text(), format!("[{}]", all.join(",")));
        witness.client = Some(client);
    }

    /// The well-behaved client leaves.
    pub(crate) fn dismiss_witness(&self) {
        self.witness.lock().expect("one at a time").client = None;
    }

    /// Waits until so many connections are left, the well-behaved client's among them.
    pub(crate) fn wait_for_connections(&self, count: usize) {
        eventually(&format!("{count} connections are left"), || self.connections.count() == count);
    }

    /// Waits until so many readers have taken their place in the stream: what is appended from now on is news to them.
    pub(crate) fn wait_for_followers(&self, name: &str, count: usize) {
        let name = StreamName::parse(name).expect("a name");
        eventually(&format!("{count} readers follow {name}"), || {
            self.engine.streams().get(&name).is_some_and(|stream| stream.cursors() == count)
        });
    }

    /// Asks the server to stop, without waiting.
    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
    }

    /// Waits until `run` has returned.
    pub(crate) fn wait_until_stopped(&mut self) {
        self.stop();
        self.dismiss_witness();
        let running = self.running.take().expect("it is waited for once");
        eventually("the server has stopped", || running.is_finished());
        running.join().expect("the server does not panic").expect("the server ends well");
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        // Not waited for: connections that a test left open would cost the drain's deadline.
        self.stop();
    }
}

pub(crate) fn url(name: &str) -> String {
    format!("/v1/stream/{name}")
}

/// Waits for something that the server does by itself.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
