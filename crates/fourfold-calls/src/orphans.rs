//! Programs that outlived the server which started them: after a kill nobody ended them, and nobody takes their output any more.
//!
//! They are known by what they have in their environment, the id of their call, which nobody can guess: so also by what they
//! have started in turn, in whatever process group. What has cleared its environment is not found.

use std::collections::HashSet;

/// So often `/proc` is looked through: a program may have started another one between two looks.
const LOOKS_MAX: usize = 5;

/// Kills the programs of these calls; tells how many processes that were. On systems without `/proc` none is found.
pub(crate) fn end(calls: &HashSet<String>) -> usize {
    let mut ended = 0;
    for _ in 0..LOOKS_MAX {
        match look(calls) {
            0 => break,
            found => ended += found,
        }
    }
    ended
}

#[cfg(target_os = "linux")]
fn look(calls: &HashSet<String>) -> usize {
    use std::fs;

    use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};

    if calls.is_empty() {
        return 0;
    }
    let Ok(processes) = fs::read_dir("/proc") else { return 0 };
    let ids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok().and_then(Pid::from_raw));
    let killed = ids.filter(|id| *id != getpid()).filter(|id| {
        // The handle before the look: it goes on to mean the process that was looked at, whoever has its number by then.
        let Ok(handle) = pidfd_open(*id, PidfdFlags::empty()) else { return false };
        let path = format!("/proc/{}", id.as_raw_nonzero());
        let is_one = fs::read(format!("{path}/environ")).is_ok_and(|environment| is_of(&environment, calls));
        // One that has ended already has an empty environment, also while its parent has not asked for its status.
        is_one && pidfd_send_signal(handle, Signal::KILL).is_ok()
    });
    killed.count()
}

#[cfg(not(target_os = "linux"))]
fn look(_calls: &HashSet<String>) -> usize {
    0
}

#[cfg(any(target_os = "linux", test))]
fn is_of(environment: &[u8], calls: &HashSet<String>) -> bool {
    let mut variables = environment.split(|byte| *byte == 0);
    variables.any(|variable| {
        let id = variable.strip_prefix(ID.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
        id.and_then(|id| str::from_utf8(id).ok()).is_some_and(|id| calls.contains(id))
    })
}

/// The variable that a program has the id of its call in.
pub(crate) const ID: &str = "FOURFOLD_CALL_ID";

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::{
        io::Read,
        os::unix::process::ExitStatusExt,
        process::{Child, Command, Stdio},
    };

    /// A shell that waits for a child of its own in another process group; it has said that it runs.
    fn program(id: &str) -> Child {
        let script = "setsid sleep 600 & echo on; wait";
        let mut shell = Command::new("sh")
            .args(["-c", script])
            .env(ID, id)
            .stdout(Stdio::piped())
            .spawn()
            .expect("there is a shell");
        let mut said = [0; 3];
        shell.stdout.as_mut().expect("it is piped").read_exact(&mut said).expect("it says so");
        shell
    }

    #[test]
    fn what_a_call_has_started_is_ended_and_nothing_else() {
        let [ours, others] = ["ours", "others"].map(|name| format!("orphans-{name}-{}", std::process::id()));
        let (mut one, mut other) = (program(&ours), program(&others));
        assert!(end(&HashSet::from([ours])) >= 2, "the shell and its child");
        assert_eq!(one.wait().expect("it has ended").signal(), Some(9));
        // At its end once the child, which holds the pipe too, has ended.
        one.stdout.take().expect("it is piped").read_to_end(&mut Vec::new()).expect("the pipe ends");
        assert_eq!(other.try_wait().expect("it can be asked"), None, "the other one goes on");
        assert!(end(&HashSet::from([others])) >= 2);
        other.wait().expect("it has ended");
    }

    #[test]
    fn an_id_counts_only_whole_and_by_its_name() {
        let calls = HashSet::from(["abc".to_owned()]);
        assert!(is_of(b"A=1\0FOURFOLD_CALL_ID=abc\0", &calls));
        for environment in ["", "FOURFOLD_CALL_ID=abcd\0", "X=abc\0", "XFOURFOLD_CALL_ID=abc\0", "FOURFOLD_CALL_ID=\0"]
        {
            assert!(!is_of(environment.as_bytes(), &calls), "{environment}");
        }
    }
}
