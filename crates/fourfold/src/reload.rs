//! The configuration, read again while the server runs: by SIGHUP, or by `fourfold reload` at the control socket.
//!
//! All of it is read as at the start. With a fault in it nothing changes. What can change in a running server does, without a connection being dropped; what
//! cannot is named, and waits for a restart.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use clap::Args;

use crate::{
    config::{ConfigError, Given, ServeConfig},
    control_socket::{self, AskError},
    retry, supervisor,
};

/// The arguments of `reload`.
#[derive(Debug, Args)]
pub(crate) struct ReloadArgs {
    /// The data directory of the server
    #[arg(long, env = "FOURFOLD_DATA_DIR", default_value = "./fourfold-data", value_name = "DIRECTORY")]
    data_dir: PathBuf,
    /// Its control socket, if it is not in the data directory
    #[arg(long, env = "FOURFOLD_CONTROL_SOCKET", value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// Asks the running server to read its configuration again, and says what it answers.
pub(crate) fn reload(args: &ReloadArgs) -> Result<(), AskError> {
    let socket = args.socket.clone().unwrap_or_else(|| args.data_dir.join(control_socket::NAME));
    let (told, _) = control_socket::ask(&socket, "reload")?;
    retry::tell(&told);
    Ok(())
}

/// A part of the server that can change while it runs.
pub(crate) struct Part {
    /// The settings that it is made of.
    pub(crate) keys: &'static [&'static str],
    /// Makes the new one, and gives what puts it into force. An error changes nothing, in no part.
    pub(crate) prepare: Box<Prepare>,
}

type Prepare = dyn Fn(&ServeConfig) -> Result<Box<dyn FnOnce()>, String> + Send + Sync;
type Read = dyn Fn() -> Result<(ServeConfig, Vec<Given>), ConfigError> + Send + Sync;

/// What a reload needs.
pub(crate) struct Reloads {
    read: Box<Read>,
    parts: Vec<Part>,
    /// What is in force.
    present: Mutex<Present>,
}

struct Present {
    given: Vec<Given>,
    calls: String,
}

impl Reloads {
    /// `config` and `given` are in force; `read` reads them again.
    pub(crate) fn new(config: &ServeConfig, given: Vec<Given>, read: Box<Read>, parts: Vec<Part>) -> Self {
        Self { read, parts, present: Mutex::new(Present { given, calls: calls(config) }) }
    }

    /// Reads the configuration again, and says what came of it, in the log as well. One at a time.
    pub(crate) fn reload(&self) -> Result<String, String> {
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        supervisor::reloading();
        let result = self.apply(&mut present);
        supervisor::ready();
        match &result {
            Ok(told) => tracing::info!("{told}"),
            Err(why) => tracing::error!("the configuration was not reloaded, the one before stays in force: {why}"),
        }
        result
    }

    fn apply(&self, present: &mut Present) -> Result<String, String> {
        let (config, given) = (self.read)().map_err(|error| error.to_string())?;
        let mut ready = Vec::new();
        for part in &self.parts {
            // Also if no setting has changed: the files that it names may have.
            ready.push((part.prepare)(&config)?);
        }
        ready.into_iter().for_each(|put| put());
        let (mut changed, mut waiting) = (Vec::new(), Vec::new());
        for (old, new) in present.given.iter_mut().zip(given) {
            if old.text == new.text {
                continue;
            }
            if self.parts.iter().any(|part| part.keys.contains(&new.key)) {
                changed.push(new.key);
                *old = new;
            } else {
                waiting.push(new.key);
            }
        }
        if calls(&config) != present.calls {
            waiting.push("calls");
        }
        let mut told = match changed.as_slice() {
            [] => "the configuration was reloaded: rules and keys are read again, no setting has changed".to_owned(),
            changed => {
                format!("the configuration was reloaded: rules and keys are read again, {} changed", changed.join(", "))
            }
        };
        if !waiting.is_empty() {
            told += &format!("; a restart is needed for {}", waiting.join(", "));
        }
        Ok(told)
    }
}

/// The tables of calls, to tell whether they have changed.
fn calls(config: &ServeConfig) -> String {
    format!("{:?}", config.calls)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::SeqCst},
        },
    };

    use super::*;
    use crate::config::Flags;

    #[test]
    fn what_can_change_does_and_what_cannot_is_named_and_a_fault_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fourfold.toml");
        let write = |text: &str| fs::write(&path, text).unwrap();
        write("log = 'info'\n");
        let flags = Flags { file: path.to_str().map(str::to_owned), ..Flags::default() };
        let (config, given) = ServeConfig::explained(&flags).unwrap();
        let put = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&put);
        let prepare = move |config: &ServeConfig| -> Result<Box<dyn FnOnce()>, String> {
            if config.log == "error" {
                return Err("not this one".to_owned());
            }
            let counted = Arc::clone(&counted);
            Ok(Box::new(move || {
                counted.fetch_add(1, SeqCst);
            }))
        };
        let part = Part { keys: &["log"], prepare: Box::new(prepare) };
        let reloads = Reloads::new(&config, given, Box::new(move || ServeConfig::explained(&flags)), vec![part]);

        assert_eq!(
            reloads.reload().unwrap(),
            "the configuration was reloaded: rules and keys are read again, no setting has changed"
        );
        write("log = 'warn'\nthreads = 3\n[calls.x]\ncommand = ['make']\n");
        let told = "the configuration was reloaded: rules and keys are read again, log changed; a restart is needed for threads, calls";
        assert_eq!(reloads.reload().unwrap(), told);
        let told = "the configuration was reloaded: rules and keys are read again, no setting has changed; a restart is needed for threads, calls";
        assert_eq!(reloads.reload().unwrap(), told, "it still waits");
        assert_eq!(put.load(SeqCst), 3);
        write("log = 'warn'\nlisten = 'nowhere'\n");
        assert!(reloads.reload().unwrap_err().contains("line 2: listen: 'nowhere' is not an address"));
        write("log = 'error'\n");
        assert_eq!(reloads.reload().unwrap_err(), "not this one");
        assert_eq!(put.load(SeqCst), 3, "nothing was put into force");
    }
}
