//! The server: one acceptor deals sockets out to shards, each a runtime on a thread of its own.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock},
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::Bytes;
use fourfold_calls::Calls;
use fourfold_protocol::{Code, Refusal};
use fourfold_stream::{Engine, RelayTask};
use fourfold_subscriptions::Subscriptions;
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::Handle,
    sync::{mpsc, watch},
    time::{sleep, timeout},
};

use crate::{
    Operator, Settings, answer,
    bookmark::Bookmarks,
    connection,
    context::{Context, Drain, Seat},
    health::{Readiness, Turn},
    known_polls::KnownPolls,
    limits::{BACKLOG, HANDOVER_MAX, LET_IN_A_TURN, Limits, PACED_CONNECTIONS_MIN, UNSENT_BYTES_MAX},
    metrics::{Metrics, Served},
    operator::{Answering, Watched},
    proxy_protocol,
    quota::{Quota, RoomForCalls},
    tls_connection,
};

/// A listening server.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    settings: Settings,
    watched: Arc<Watched>,
    limits: Arc<Limits>,
    answering: Option<Answering>,
}

/// How many connections a server has; goes on to tell while it runs.
#[derive(Clone, Debug)]
pub struct Connections(Arc<Drain>);

/// Sockets on their way to a shard.
type Handover = mpsc::Sender<(std::net::TcpStream, Seat)>;

impl Server {
    /// Listens. Must be called on a tokio runtime, on which [`run`](Self::run) then accepts.
    ///
    /// Errors: the address is taken, or not ours.
    pub async fn bind(address: SocketAddr, settings: Settings) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?; // A restart must not wait for the connections of the last life.
        socket.bind(address)?;
        let limits = Arc::new(Limits::new(settings.limits.clone()));
        let drain = Arc::<Drain>::default();
        let watched = Watched {
            metrics: Arc::new(Metrics::new(Arc::clone(&drain), settings.tls.clone())),
            drain,
            readiness: Readiness::default(),
            shards: OnceLock::new(),
        };
        Ok(Self { listener: socket.listen(BACKLOG)?, settings, watched: Arc::new(watched), limits, answering: None })
    }

    /// Tells the operator how it is, from now on until it has drained. Errors: there is no thread to be had.
    pub fn tell(&mut self, operator: Operator) -> io::Result<()> {
        self.answering = Some(operator.start(Arc::clone(&self.watched))?);
        Ok(())
    }

    /// The address that it listens on, with the port that was given if the port was 0.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Whether it is alive, to ask while it runs.
    #[must_use]
    pub fn liveness(&self) -> Liveness {
        Liveness(Arc::clone(&self.watched))
    }

    /// A count of the connections, to keep while the server runs.
    #[must_use]
    pub fn connections(&self) -> Connections {
        Connections(Arc::clone(&self.watched.drain))
    }

    /// The limits in force, to put others in force while the server runs.
    #[must_use]
    pub fn limits(&self) -> Arc<Limits> {
        Arc::clone(&self.limits)
    }

    /// Serves until `stop` completes, and then drains: no new connection is accepted, every reader is told goodbye with a time after which to come
    /// back, appends under way are answered. Connections that are still there at the drain deadline are cut.
    ///
    /// There is one shard for each of `shards`; make as many as there are threads to use.
    pub async fn run(
        self,
        engine: Arc<dyn Engine>,
        shards: Vec<RelayTask>,
        stop: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let settings = Arc::new(self.settings);
        let (watched, metrics, drain) = (&self.watched, &self.watched.metrics, Arc::clone(&self.watched.drain));
        let subscriptions = Subscriptions::start(Arc::clone(&engine), settings.subscriptions.clone()).await?;
        let quota = Arc::<Quota>::default();
        let room = RoomForCalls::new(&quota, &engine, &self.limits);
        let calls = Calls::start(Arc::clone(&engine), settings.calls.clone(), Arc::new(room)).await?;
        let bookmarks = Arc::new(Bookmarks::new()?);
        let (ended, ending) = watch::channel(false);
        metrics.serves(Some(Served {
            engine: Arc::clone(&engine),
            subscriptions: subscriptions.clone(),
            calls: calls.clone(),
        }));
        let (mut threads, mut turns) = (Vec::new(), Vec::new());
        let mut handovers: Vec<Handover> = Vec::new();
        for relay in shards {
            let context = Arc::new(Context {
                engine: Arc::clone(&engine),
                shard: relay.shard(),
                settings: Arc::clone(&settings),
                drain: Arc::clone(&drain),
                subscriptions: subscriptions.clone(),
                calls: calls.clone(),
                polls: KnownPolls::default(),
                limits: Arc::clone(&self.limits),
                tally: metrics.shard(),
                quota: Arc::clone(&quota),
                bookmarks: Arc::clone(&bookmarks),
            });
            let (handover, sockets) = mpsc::channel(HANDOVER_MAX);
            let (thread, runtime) = start_shard(relay, context, sockets, ending.clone())?;
            threads.push(thread);
            turns.push(Turn::new(runtime));
            handovers.push(handover);
        }
        // There is one run.
        let _ = watched.shards.set(turns);
        tokio::select! {
            () = accept(&self.listener, &handovers, watched, &settings, &self.limits) => {}
            () = quota.keep(&*engine, &self.limits) => {}
            () = stop => {}
        }
        drop(self.listener);
        drop(handovers);
        tracing::info!(connections = drain.connections(), "draining");
        tokio::join!(
            goodbye(&*engine, &drain, &settings),
            calls.drain(settings.drain_deadline), // Their readers are told goodbye meanwhile, and find the end when they are back.
        );
        calls.stop();
        subscriptions.stop(); // Last, as those who are still here may claim and ack.
        drop(self.answering);
        metrics.serves(None); // Nobody holds the engine any more but its owner.
        ended.send_replace(true);
        for thread in threads {
            // A shard ends at once: its connections are gone, or are cut with its runtime.
            thread.join().map_err(|_| io::Error::other("a shard has panicked"))?;
        }
        Ok(())
    }
}

/// Whether a server is alive; goes on to tell while it runs.
#[derive(Clone, Debug)]
pub struct Liveness(Arc<Watched>);

impl Liveness {
    /// Whether every shard takes a turn when it is asked to, within [`TURN_WAIT_MAX`](crate::limits::TURN_WAIT_MAX). True before there are any.
    pub async fn is_alive(&self) -> bool {
        self.0.stuck().await.is_empty()
    }
}

impl Connections {
    /// Those that are accepted and not yet over.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.connections()
    }
}

/// Tells everybody, and waits until they have gone.
async fn goodbye(engine: &dyn Engine, drain: &Drain, settings: &Settings) {
    let mut emptied = std::pin::pin!(drain.emptied.notified());
    emptied.as_mut().enable();
    drain.begin(pace(drain.connections(), settings));
    for stream in engine.streams().all() {
        stream.rouse();
    }
    if drain.connections() > 0 && timeout(settings.drain_deadline, emptied).await.is_err() {
        tracing::warn!(connections = drain.connections(), "cut at the drain deadline");
    }
}

/// Over how long goodbyes are said. Few leave at once; when there are many, also those should not come back all at once who do not heed when they are told to.
fn pace(connections: usize, settings: &Settings) -> Duration {
    if connections < PACED_CONNECTIONS_MIN {
        return Duration::ZERO;
    }
    settings.drain_spread.min(settings.drain_deadline / 2)
}

fn start_shard(
    relay: RelayTask,
    context: Arc<Context>,
    sockets: mpsc::Receiver<(std::net::TcpStream, Seat)>,
    mut ending: watch::Receiver<bool>,
) -> io::Result<(JoinHandle<()>, Handle)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let shard = relay.shard().index();
    let thread = thread::Builder::new().name(format!("fourfold-{shard}")).spawn(move || {
        context.limits.budgets.enter();
        runtime.block_on(async move {
            tokio::spawn(relay.run());
            // As a task among the others, so that it has its turn when each of them has had one.
            let letting_in = tokio::spawn(let_in(sockets, context));
            tokio::select! {
                // It ends with the acceptor; without it nobody would be served any more.
                Err(panicked) = letting_in => std::panic::resume_unwind(panicked.into_panic()),
                _ = ending.wait_for(|ended| *ended) => {}
            }
        });
        runtime.shutdown_background();
    })?;
    Ok((thread, handle))
}

/// Starts with each socket that is handed over, a few in a turn: those who come in a rush wait, and not those who are here. Ends with the acceptor.
async fn let_in(mut sockets: mpsc::Receiver<(std::net::TcpStream, Seat)>, context: Arc<Context>) {
    let mut in_this_turn = 0;
    while let Some((socket, seat)) = sockets.recv().await {
        match TcpStream::from_std(socket) {
            Ok(socket) if seat.peer().is_proxy() && context.limits.options().proxy_protocol => {
                drop(tokio::spawn(announced(socket, Arc::clone(&context), seat)));
            }
            Ok(socket) => begin(socket, Arc::clone(&context), seat),
            Err(error) => tracing::warn!(%error, "a socket could not be registered"),
        }
        in_this_turn += 1;
        if in_this_turn == LET_IN_A_TURN {
            in_this_turn = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// From here on whoever is connected speaks.
fn begin(socket: TcpStream, context: Arc<Context>, seat: Seat) {
    match &context.settings.tls {
        None => connection::spawn(socket.into(), Bytes::new(), context, seat),
        Some(tls) => tls_connection::spawn(socket, tls.config(), Arc::clone(&context), seat),
    }
}

/// A proxy that we trust has connected, and says for whom before anything else.
async fn announced(mut socket: TcpStream, context: Arc<Context>, seat: Seat) {
    let limits = &context.limits;
    let peer = match proxy_protocol::read(&mut socket).await {
        Ok(Some(client)) => limits.connect(&limits.peer(client)),
        Ok(None) => return begin(socket, context, seat),
        Err(error) => return tracing::info!(%error, "a proxy did not say for whom it connects"),
    };
    match peer {
        Ok(peer) => begin(socket, context, seat.announced(peer)),
        // A word about being turned away would cost a handshake.
        Err(_) if context.settings.tls.is_some() => {}
        Err(refusal) => turn_away(&socket, &refusal),
    }
}

async fn accept(
    listener: &TcpListener,
    handovers: &[Handover],
    watched: &Watched,
    settings: &Settings,
    limits: &Limits,
) {
    let (metrics, drain) = (&watched.metrics, &watched.drain);
    // A word about being turned away would cost a handshake.
    let speaks_tls = settings.tls.is_some();
    let mut next = 0;
    loop {
        let (socket, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: those who are here go on, and leave.
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let seat = match seat(address.ip(), drain, limits) {
            Ok(seat) => seat,
            Err(refusal) => {
                metrics.turned_away.one();
                if !speaks_tls {
                    turn_away(&socket, &refusal);
                }
                continue;
            }
        };
        metrics.accepted.one();
        if let Err(error) = prepare(&socket) {
            tracing::debug!(%error, "a socket was gone before it could be prepared");
            continue;
        }
        match socket.into_std() {
            Ok(socket) => {
                next = (next + 1) % handovers.len();
                if handovers[next].send((socket, seat)).await.is_err() {
                    return; // A shard has ended, and so does the server.
                }
            }
            Err(error) => tracing::warn!(%error, "a socket could not be handed over"),
        }
    }
}

/// After a failed accept: long enough not to spin, short enough not to be noticed.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

fn prepare(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?; // Each write is a portion that should go at once.
    SockRef::from(socket).set_tcp_notsent_lowat(UNSENT_BYTES_MAX)
}

/// A place for a connection from this address. Errors: all are taken, or all that one address may have.
fn seat(address: IpAddr, drain: &Arc<Drain>, limits: &Limits) -> Result<Seat, Refusal> {
    let max = limits.options().connections_max;
    let place = drain.place(max).ok_or_else(|| {
        Refusal::new(Code::Overloaded, format!("all {max} connections are taken: come back later"))
            .with("limit", "connections-max")
            .with("max", max)
            .with("retryAfter", fastrand::u64(5..=10))
    })?;
    Ok(Seat::new(place, limits.connect(&limits.peer(address))?))
}

fn turn_away(socket: &TcpStream, refusal: &Refusal) {
    // As much as fits at once; whoever is turned away is not waited for.
    let _ = socket.try_write(&answer::last_words(refusal));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_leave_at_once_and_many_over_a_time_that_leaves_some_to_end_in() {
        let settings = Settings {
            drain_spread: Duration::from_secs(5),
            drain_deadline: Duration::from_secs(8),
            ..Settings::default()
        };
        assert_eq!(pace(PACED_CONNECTIONS_MIN - 1, &settings), Duration::ZERO);
        assert_eq!(pace(PACED_CONNECTIONS_MIN, &settings), Duration::from_secs(4));
        let settings = Settings { drain_deadline: Duration::from_secs(60), ..settings };
        assert_eq!(pace(100_000, &settings), Duration::from_secs(5));
    }

    #[tokio::test]
    async fn a_herd_that_comes_at_once_is_let_in() {
        let address = "127.0.0.1:0".parse().unwrap();
        let server = Server::bind(address, Settings::default()).await.unwrap();
        let mut herd = Vec::new();
        for _ in 0..600 {
            // Nobody accepts yet. One too many is not refused but silently dropped, and comes again after a second.
            let connect = std::net::TcpStream::connect_timeout(&server.address().unwrap(), Duration::from_millis(900));
            herd.push(connect.expect("there is room for it"));
        }
    }
}
