//! A program in a process group of its own, and its pipes.
//!
//! Until [`reap`](Group::reap) its id stays its own, even when it has ended: so a signal to the group never meets somebody else's processes.

use std::{
    future::poll_fn,
    io,
    os::{
        fd::OwnedFd,
        unix::process::{CommandExt, ExitStatusExt},
    },
    process::{Child, Command, ExitStatus, Stdio},
    task::{Context, Poll, ready},
    time::Duration,
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::{
    net::unix::pipe::{Receiver, Sender},
    time::{Interval, MissedTickBehavior, interval},
};

/// A program that was started, with all that it starts in its group. Dropped, all of it is killed.
#[derive(Debug)]
pub(super) struct Group {
    child: Option<Child>,
    id: Pid,
    exit: Exit,
}

/// The ends of its pipes that are ours.
#[derive(Debug)]
pub(super) struct Pipes {
    pub(super) stdin: Option<Sender>,
    pub(super) stdout: Receiver,
    pub(super) stderr: Receiver,
}

/// How its exit is seen without taking its status, which would give its id away.
#[derive(Debug)]
enum Exit {
    #[cfg(target_os = "linux")]
    Handle(tokio::io::unix::AsyncFd<OwnedFd>),
    Looks(Interval),
    Seen,
}

const LOOK_EVERY: Duration = Duration::from_millis(50); // Where the system has no handle of a process.

impl Group {
    /// Starts a program; its standard input is empty if `has_input` is not set.
    pub(super) fn spawn(command: &mut Command, has_input: bool) -> io::Result<(Self, Pipes)> {
        let input = if has_input { Stdio::piped() } else { Stdio::null() };
        let mut child = command.process_group(0).stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let id = Pid::from_child(&child);
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let group = Self { child: Some(child), id, exit: Exit::watch(id) };
        let piped = "the command asks for pipes";
        let pipes = Pipes {
            stdin: stdin.map(|pipe| Sender::from_owned_fd(pipe.into())).transpose()?,
            stdout: Receiver::from_owned_fd(OwnedFd::from(stdout.expect(piped)))?,
            stderr: Receiver::from_owned_fd(OwnedFd::from(stderr.expect(piped)))?,
        };
        Ok((group, pipes))
    }

    /// To the whole group. One that is empty has nothing left to tell.
    pub(super) fn signal(&self, signal: Signal) {
        if self.child.is_some() {
            let _ = kill_process_group(self.id, signal);
        }
    }

    /// Ready when the program itself has exited; those that it started may live on.
    pub(super) fn poll_exit(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.exit {
                #[cfg(target_os = "linux")]
                Exit::Handle(handle) => match ready!(handle.poll_read_ready(cx)) {
                    Ok(_) if has_exited(self.id) => self.exit = Exit::Seen,
                    Ok(mut early) => early.clear_ready(), // The runtime may wake for nothing.
                    Err(_) => self.exit = Exit::looks(),
                },
                Exit::Looks(looks) => {
                    ready!(looks.poll_tick(cx));
                    if has_exited(self.id) {
                        self.exit = Exit::Seen;
                    }
                }
                Exit::Seen => return Poll::Ready(()),
            }
        }
    }

    pub(super) async fn exited(&mut self) {
        poll_fn(|cx| self.poll_exit(cx)).await;
    }

    /// Kills what is left of the group and takes the program's status, if it has exited.
    pub(super) fn reap(&mut self) -> Option<ExitStatus> {
        self.signal(Signal::KILL);
        let child = self.child.as_mut()?;
        let status = child.try_wait().ok().flatten()?;
        self.child = None;
        Some(status)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        if let Some(mut child) = self.child.take()
            && !matches!(child.try_wait(), Ok(Some(_)))
        {
            // It is dying. Somebody must take its status, and nobody can wait here.
            std::thread::spawn(move || child.wait());
        }
    }
}

impl Exit {
    fn watch(id: Pid) -> Self {
        #[cfg(target_os = "linux")]
        {
            use rustix::process::{PidfdFlags, pidfd_open};
            use tokio::io::{Interest, unix::AsyncFd};
            #[expect(deprecated, reason = "the other way is unsafe code; what it asks for, an OwnedFd keeps")]
            let register = |handle| AsyncFd::with_interest(handle, Interest::READABLE);
            if let Ok(handle) = pidfd_open(id, PidfdFlags::NONBLOCK)
                && let Ok(handle) = register(handle)
            {
                return Self::Handle(handle);
            }
        }
        let _ = id;
        Self::looks()
    }

    fn looks() -> Self {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self::Looks(looks)
    }
}

/// Whether a child has exited; its status stays there to be taken.
fn has_exited(id: Pid) -> bool {
    !matches!(waitid(WaitId::Pid(id), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG), Ok(None))
}

/// What ended a program, without `SIG`.
pub(super) fn signal_name(status: ExitStatus) -> Option<&'static str> {
    let number = status.signal()?;
    let names = [
        (Signal::HUP, "HUP"),
        (Signal::INT, "INT"),
        (Signal::QUIT, "QUIT"),
        (Signal::ILL, "ILL"),
        (Signal::TRAP, "TRAP"),
        (Signal::ABORT, "ABRT"),
        (Signal::BUS, "BUS"),
        (Signal::FPE, "FPE"),
        (Signal::KILL, "KILL"),
        (Signal::USR1, "USR1"),
        (Signal::SEGV, "SEGV"),
        (Signal::USR2, "USR2"),
        (Signal::PIPE, "PIPE"),
        (Signal::ALARM, "ALRM"),
        (Signal::TERM, "TERM"),
        (Signal::XCPU, "XCPU"),
        (Signal::XFSZ, "XFSZ"),
        (Signal::SYS, "SYS"),
    ];
    Some(names.iter().find(|(signal, _)| signal.as_raw() == number).map_or("OTHER", |(_, name)| name))
}
