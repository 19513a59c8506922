//! `fourfold demo`: the server, four scenarios at `/demo`, and clients of its own that feed them.
//!
//! ```text
//! vitals, replay ── feed ──┐
//! calls ── pack ───────────┼─► the server, over the public wire ─┬─► the page at /demo, straight
//! rooms ── notices ────────┘                                     └─► the page, through weather/ (faults on request)
//! ```
//!
//! Everything goes over the public wire like anybody else's, so that what the demo shows is what a client gets.

mod assets;
mod feed;
mod notices;
mod replay;
mod site;
mod tasks;
mod vitals;
mod weather;
mod work;

use std::{
    future::Future,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    thread,
    time::Duration,
};

use tokio::{net::TcpListener, sync::mpsc};

use crate::{
    client::reachable,
    retry::tell,
    serve::{ServeError, Source, announce, say, serve},
};
use feed::{FeedError, Kept};
use site::{Open, Site};
pub(crate) use work::{PackError, pack};

/// A day, and about seven hours at least if the disk is small.
const VITALS: Kept = Kept { stream: "demo/vitals", age: Duration::from_secs(86_400), records: 100_000 };

/// Four records a second: a chart moves smoothly, and a day is 345,600 records of about 110 bytes.
const VITALS_EVERY: Duration = Duration::from_millis(250);

/// A quarter of an hour of the replay.
const REPLAY: Kept = Kept { stream: replay::STREAM, age: Duration::from_secs(3_600), records: 20_000 };

/// Notices on their way into their stream; then whoever has one waits.
const NOTICES_MAX: usize = 64;

/// Runs the command: the server on this thread, until it ends; the rest on another.
pub(crate) fn demo(source: Source) -> Result<(), ServeError> {
    if source.config.access.is_some() {
        return Err(ServeError::DemoAccess);
    }
    let source = source.with(|config| {
        if config.access.take().is_some() {
            tell("the demo is open to everybody: [access] is left aside until it is started as 'fourfold serve'"); // It came by a reload.
        }
        match tasks::call() {
            Ok(call) => drop(config.calls.insert(tasks::CALL.to_owned(), call)),
            Err(error) => tell(&format!("the demo has no tasks: {error}")),
        }
        if config.tls.take().is_some() {
            tell("the demo does not speak TLS: tls-cert and tls-key are left aside"); // Its own parts are clients of it.
        }
    });
    let site = Arc::new(Site::default());
    let extra = Arc::clone(&site);
    serve(source, Some(extra), move |address, operator| {
        announce(address, None);
        let server = reachable(address.socket);
        say(format_args!(
            "open http://{server}/ in a browser to see this machine's vitals and /demo for four scenarios, or: fourfold tail {}",
            VITALS.stream
        ));
        if let Some(operator) = operator {
            say(format_args!("metrics and health on http://{operator}"));
        }
        // Ends with the process: what it would still send is lost to nobody.
        thread::spawn(move || {
            if let Err(error) = run(server, &site) {
                tell(&format!("the demo does not run: {error}"));
            }
        });
    })
}

fn run(server: SocketAddr, site: &Site) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let url = format!("http://{server}");
        // Loopback only, wherever the server listens: it is a toy for whoever sits at this machine.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let weather_port = listener.local_addr()?.port();
        let (notices, noticed) = mpsc::channel(NOTICES_MAX);
        // All streams are there before the site is: its page begins to read at once.
        for kept in [VITALS, REPLAY, notices::STREAM] {
            told("a stream is not there", async { feed::ensured(&url, kept).await.map(drop) }).await;
        }
        let mut rooms = Vec::new();
        for room in notices::ROOMS {
            match notices::open_room(&url, room).await {
                Ok(opened) => rooms.push((room, opened)),
                Err(error) => tell(&format!("the room {room} is not open: {error}")),
            }
        }
        // It is set once, here.
        let _ = site.open.set(Open { weather_port });
        for (room, opened) in rooms {
            tokio::spawn(told("a room is not listened to", notices::listen(room, opened, notices.clone())));
        }
        let (of_replay, of_tasks, of_notices) = (url.clone(), url.clone(), url.clone());
        tokio::join!(
            weather::serve(listener, server, Arc::clone(&site.visitors)),
            told("the stream demo/vitals is not fed", vitals(&url)),
            told("the stream demo/seattle is not fed", replay(&of_replay)),
            told("the ends of tasks are not told", tasks::listen(&of_tasks, notices)),
            told("the stream demo/notices is not fed", notices::publish(&of_notices, noticed)),
        );
        Ok(())
    })
}

/// Says what failed; the rest goes on without.
async fn told(what: &str, done: impl Future<Output = Result<(), FeedError>>) {
    if let Err(error) = done.await {
        tell(&format!("{what}: {error}"));
    }
}

async fn vitals(url: &str) -> Result<(), FeedError> {
    let mut earlier = vitals::Sample::take()?;
    tokio::time::sleep(VITALS_EVERY).await; // The first record, too, tells of some time.
    feed::feed(url, VITALS, VITALS_EVERY, move |n, at| {
        let now = vitals::Sample::take()?;
        let vitals = now.since(&earlier, n, at);
        earlier = now;
        Ok(serde_json::to_string(&vitals).expect("numbers are always JSON"))
    })
    .await
}

async fn replay(url: &str) -> Result<(), FeedError> {
    let series = replay::Replay::new();
    feed::feed(url, REPLAY, replay::EVERY, move |n, at| Ok(series.record(n, at))).await
}
