//! A program: the request's body is its standard input, its standard output is what the call gives, its standard error is kept apart, the end of it.
//!
//! Its pipes are served only while somebody waits for the next piece, so a program whose output nobody takes stands still. A program that does not read its
//! input is not waited for. The output ends with the program: what it has started may keep the pipe for `grace`, then it is killed.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    mem::MaybeUninit,
    pin::Pin,
    process::Command,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes};
use rustix::process::Signal;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::unix::pipe::{Receiver, Sender},
    time::{Instant, timeout},
};

use super::{
    Event, Facts, Failure, Head, Order, Piece,
    process::{Group, signal_name},
};
use crate::{
    config::{Program, Target},
    limits::{KILLED_WAIT, PORTION_BYTES, STDERR_BYTES_MAX, STDERR_WAIT},
    orphans,
};

/// A call's program.
#[derive(Debug)]
pub(super) enum Process {
    /// Nothing has been started.
    Ordered(Box<Order>),
    /// It was started.
    Started(Box<Started>),
    /// It could not be started.
    Failed,
}

#[derive(Debug)]
pub(super) struct Started {
    group: Group,
    input: Option<Sender>,
    body: Bytes,
    output: Option<Receiver>,
    errors: Option<Receiver>,
    /// The last bytes of its standard error.
    last_errors: VecDeque<u8>,
    grace: Duration,
    /// Set when the program has exited: when its output ends, whoever holds the pipe.
    output_until: Option<Instant>,
}

/// Where programs are looked for unless the configuration says otherwise.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";
const ERROR_READS_MAX: usize = 16; // At once, before the output has its turn.

impl Process {
    pub(super) fn start(order: Order) -> Self {
        Self::Ordered(Box::new(order))
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Failure>> {
        match self {
            Self::Ordered(order) => {
                let started = Started::spawn(order);
                *self = Self::Failed;
                let (started, head) = started?;
                *self = Self::Started(Box::new(started));
                Poll::Ready(Ok(Event::Piece(Piece::Head(head))))
            }
            Self::Started(started) => started.poll(cx).map(Ok),
            Self::Failed => Poll::Ready(Ok(Event::End)),
        }
    }

    pub(super) fn output_until(&self) -> Option<Instant> {
        match self {
            Self::Started(started) => started.output_until,
            Self::Ordered(_) | Self::Failed => None,
        }
    }

    /// Waits until the program has exited; it goes on reading its input and writing errors.
    pub(super) async fn exit(&mut self) {
        if let Self::Started(started) = self {
            poll_fn(|cx| started.poll_exit(cx)).await;
        }
    }

    /// After [`exit`](Self::exit): what became of it.
    pub(super) async fn end(self) -> Facts {
        let Self::Started(started) = self else { return Facts::default() };
        let mut facts = started.facts().await;
        facts.failure = match (facts.exit_code, facts.signal) {
            (Some(0), _) | (None, None) => None,
            (Some(code), _) => Some(Failure::failed("exit-status", format!("the program exited with {code}"))),
            (None, Some(signal)) => Some(Failure::failed("signal", format!("the program was ended by {signal}"))),
        };
        facts
    }

    /// Ends it: TERM, and KILL after `grace`.
    pub(super) async fn stop(self) -> Facts {
        let Self::Started(mut started) = self else { return Facts::default() };
        started.group.signal(Signal::TERM);
        started.input = None;
        let grace = started.grace;
        if timeout(grace, poll_fn(|cx| started.poll_exit(cx))).await.is_err() {
            started.group.signal(Signal::KILL);
            if timeout(KILLED_WAIT, started.group.exited()).await.is_err() {
                tracing::warn!("a killed program has not ended yet");
            }
        }
        started.facts().await
    }
}

impl Started {
    fn spawn(order: &mut Order) -> Result<(Self, Head), Failure> {
        let config = order.config.clone();
        let Target::Command(program) = &config.target else { unreachable!("a process is begun for a program") };
        let body = std::mem::take(&mut order.body);
        let (group, pipes) = Group::spawn(&mut command(program, order), !body.is_empty()).map_err(|e| {
            let code = if e.kind() == io::ErrorKind::NotFound { "not-found" } else { "not-started" };
            Failure::failed(code, format!("the program '{}' cannot be started: {e}", program.command[0]))
        })?;
        let head = Head { content_type: program.content_type.clone(), status: None, headers: Vec::new() };
        let started = Self {
            group,
            input: pipes.stdin,
            body,
            output: Some(pipes.stdout),
            errors: Some(pipes.stderr),
            last_errors: VecDeque::new(),
            grace: program.grace,
            output_until: None,
        };
        Ok((started, head))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        self.feed(cx);
        let has_errors = self.hear(cx);
        if let Some(output) = &mut self.output {
            match read::<PORTION_BYTES>(output, cx) {
                Poll::Ready(Some(bytes)) => return Poll::Ready(Event::Piece(Piece::Bytes(bytes))),
                Poll::Ready(None) => self.output = None,
                Poll::Pending => {}
            }
        }
        if self.output.is_none() {
            return Poll::Ready(Event::End);
        }
        if self.output_until.is_none() && self.group.poll_exit(cx).is_ready() {
            self.output_until = Some(Instant::now() + self.grace);
            return Poll::Ready(Event::Alive);
        }
        if has_errors { Poll::Ready(Event::Alive) } else { Poll::Pending }
    }

    /// Serves all pipes, and drops what still comes as output.
    fn poll_exit(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.feed(cx);
        if self.hear(cx) {
            cx.waker().wake_by_ref(); // There may be more than was read.
        }
        if let Some(output) = &mut self.output {
            match read::<PORTION_BYTES>(output, cx) {
                Poll::Ready(Some(_)) => cx.waker().wake_by_ref(),
                Poll::Ready(None) => self.output = None,
                Poll::Pending => {}
            }
        }
        self.group.poll_exit(cx)
    }

    /// Writes what the program takes of its input.
    fn feed(&mut self, cx: &mut Context<'_>) {
        while let Some(input) = &mut self.input {
            match Pin::new(input).poll_write(cx, &self.body) {
                Poll::Ready(Ok(written)) if written > 0 => self.body.advance(written),
                Poll::Pending => return,
                Poll::Ready(_) => self.body.clear(), // It does not read: its right.
            }
            if self.body.is_empty() {
                self.body = Bytes::new(); // The memory, too.
                self.input = None;
            }
        }
    }

    /// Reads what the program says on its standard error; whether there was something.
    fn hear(&mut self, cx: &mut Context<'_>) -> bool {
        for nth in 0..ERROR_READS_MAX {
            let Some(errors) = &mut self.errors else { return nth > 0 };
            match read::<STDERR_BYTES_MAX>(errors, cx) {
                Poll::Ready(Some(bytes)) => {
                    let beyond = (self.last_errors.len() + bytes.len()).saturating_sub(STDERR_BYTES_MAX);
                    self.last_errors.drain(..beyond);
                    self.last_errors.extend(bytes);
                }
                Poll::Ready(None) => self.errors = None,
                Poll::Pending => return nth > 0,
            }
        }
        true
    }

    /// Kills what is left of the group, and says how the program ended.
    async fn facts(mut self) -> Facts {
        let status = self.group.reap();
        // With the group its ends of the pipes are gone: what is in there is the last.
        let heard = poll_fn(|cx| {
            while self.hear(cx) {}
            if self.errors.is_none() { Poll::Ready(()) } else { Poll::Pending }
        });
        let _ = timeout(STDERR_WAIT, heard).await; // Somebody who left the group may keep the pipe.
        let bytes: &[u8] = self.last_errors.make_contiguous();
        let whole = bytes.iter().take(3).take_while(|&&byte| byte & 0b1100_0000 == 0b1000_0000).count();
        let stderr = String::from_utf8_lossy(&bytes[whole..]).into_owned();
        Facts {
            exit_code: status.and_then(|status| status.code()),
            signal: status.and_then(signal_name),
            stderr: (!stderr.is_empty()).then_some(stderr),
            failure: None,
        }
    }
}

fn command(program: &Program, order: &Order) -> Command {
    let mut command = Command::new(&program.command[0]);
    command.args(&program.command[1..]).env_clear().env("PATH", PATH);
    command.envs(program.environment.iter().map(|(name, value)| (name, &value.0)));
    command.env(orphans::ID, &order.id);
    command.env("FOURFOLD_CALL_REST", &order.rest);
    command.env("FOURFOLD_CALL_QUERY", order.query.as_deref().unwrap_or_default());
    if let Some(directory) = &program.directory {
        command.current_dir(directory);
    }
    command
}

/// What is there, at most `N` bytes, in memory of just that size: a pipe that is silent holds no buffer. `None` at its end.
fn read<const N: usize>(pipe: &mut Receiver, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
    let mut space = [const { MaybeUninit::uninit() }; N];
    let mut space = ReadBuf::uninit(&mut space);
    Pin::new(pipe).poll_read(cx, &mut space).map(|read| match read {
        Ok(()) if !space.filled().is_empty() => Some(Bytes::copy_from_slice(space.filled())),
        _ => None,
    })
}
