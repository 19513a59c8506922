//! Starts the command and waits for what it says, never without a deadline; kills by its own pid what still runs.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::SocketAddr,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Nothing here takes so long; a test that waits for it has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(240);

/// The transports, as `--transport` names them.
pub(crate) const TRANSPORTS: [&str; 4] = ["websocket", "sse", "long-poll", "short-poll"];

/// A command under way.
pub(crate) struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    stderr: Receiver<String>,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    /// What had not been taken by [`Running::line`].
    pub(crate) lines: Vec<String>,
    pub(crate) stderr: String,
}

/// Starts `fourfold` with these arguments.
pub(crate) fn fourfold(arguments: &[&str]) -> Running {
    fourfold_with(arguments, &[])
}

/// The same with these variables.
pub(crate) fn fourfold_with(arguments: &[&str], variables: &[(&str, &str)]) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fourfold"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let is_ours = |name: &str| name.starts_with("FOURFOLD_") || name.starts_with("OTEL_");
    for (name, _) in std::env::vars().filter(|(name, _)| is_ours(name)) {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied());
    let mut child = command.spawn().expect("the command was built for this test");
    let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
    let mut errors = child.stderr.take().expect("stderr is piped");
    let (line, lines) = channel();
    thread::spawn(move || {
        for text in stdout.lines() {
            // Dropping the receiver closes the pipe, as `head` does.
            if text.is_err() || line.send(text.unwrap_or_default()).is_err() {
                return;
            }
        }
    });
    let (error, stderr) = channel();
    thread::spawn(move || {
        let mut text = Vec::new();
        let _ = errors.read_to_end(&mut text);
        let _ = error.send(String::from_utf8_lossy(&text).into_owned());
    });
    let stdin = child.stdin.take();
    Running { child, stdin, lines, stderr }
}

impl Running {
    /// The next line of standard output.
    pub(crate) fn line(&self) -> String {
        self.lines.recv_timeout(DEADLINE).expect("a line before the deadline")
    }

    /// What is typed into it from now on.
    pub(crate) fn stdin(&mut self) -> ChildStdin {
        self.stdin.take().expect("standard input is taken once")
    }

    /// Asks it to end.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("it has not been waited for, so the pid is still its own");
    }

    /// Closes its standard output, as `head` does when it has enough.
    pub(crate) fn hang_up(&mut self) {
        let (_, nothing) = channel();
        self.lines = nothing;
    }

    /// The next line of standard output; `None` if it ends without one.
    pub(crate) fn line_or_end(&self) -> Option<String> {
        match self.lines.recv_timeout(DEADLINE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("neither a line nor the end before the deadline"),
        }
    }

    /// Of the process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_some()
    }

    /// Waits for its end. Its input ends now, unless it was taken.
    pub(crate) fn finish(mut self) -> Finished {
        drop(self.stdin.take());
        let stderr = self.stderr.recv_timeout(DEADLINE).expect("the end before the deadline");
        let lines = self.lines.iter().collect();
        let code = self.child.wait().expect("it is our child").code();
        Finished { code, lines, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail if it has ended by itself, which is what most do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Finished {
    /// It did what it was for.
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self
    }

    /// It said in exactly one line why it did not; the line.
    pub(crate) fn failed(&self) -> &str {
        assert!(self.code.is_some_and(|code| code != 0), "code {:?}: {}", self.code, self.stderr);
        let line = self.stderr.trim_end();
        assert!(line.starts_with("fourfold: ") && line.lines().count() == 1, "not one line: {line}");
        line
    }
}

/// A server over a data directory of its own.
pub(crate) struct Server {
    running: Option<Running>,
    scheme: String,
    address: SocketAddr,
    operator: String,
    dir: TempDir,
    /// Further ones, also after a restart.
    settings: Vec<String>,
}

impl Server {
    /// On a free port.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// With further settings, which hold until it is restarted.
    pub(crate) fn start_with(settings: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        Self { settings: Vec::new(), ..Self::start_in(dir, "127.0.0.1:0", settings) }
    }

    /// Where, and with further settings for good.
    pub(crate) fn start_in(dir: TempDir, listen: &str, settings: &[&str]) -> Self {
        let (running, scheme, address, operator) = serve(listen, dir.path(), settings);
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        Self { running: Some(running), scheme, address, operator, dir, settings }
    }

    /// As `--url` takes it.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Where it tells metrics and health.
    pub(crate) fn operator(&self) -> &str {
        &self.operator
    }

    pub(crate) fn data_dir(&self) -> String {
        self.dir.path().join("data").to_str().expect("temporary paths are UTF-8").to_owned()
    }

    /// Of the process that runs now.
    pub(crate) fn pid(&self) -> u32 {
        self.running.as_ref().expect("it runs").pid()
    }

    /// `kill -9`: nothing is said to anybody, nothing is written.
    pub(crate) fn kill(&mut self) {
        self.running = None;
    }

    /// Whether it has ended without having been asked to.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.running.as_mut().is_some_and(Running::has_ended)
    }

    /// Starts it again and kills it so soon that it may not have come to listen.
    pub(crate) fn stumble(&mut self, after: Duration) {
        let running = start_serving(&self.address(), self.dir.path(), &self.settings());
        thread::sleep(after);
        drop(running);
    }

    /// SIGTERM: it drains, and ends by itself with [`finish`](Self::finish).
    pub(crate) fn ask_to_end(&self) {
        self.running.as_ref().expect("it runs").signal(Signal::TERM);
    }

    /// Waits for the end that it was asked for.
    pub(crate) fn finish(&mut self) -> Finished {
        self.running.take().expect("it runs").finish()
    }

    /// SIGTERM, and the end.
    pub(crate) fn terminate(&mut self) -> Finished {
        self.ask_to_end();
        self.finish()
    }

    /// Again on the same port and data.
    pub(crate) fn restart(&mut self) {
        let (running, _, address, operator) = serve(&self.address(), self.dir.path(), &self.settings());
        self.operator = operator;
        assert_eq!(address, self.address);
        self.running = Some(running);
    }

    /// As it was started with for good.
    pub(crate) fn settings(&self) -> Vec<&str> {
        self.settings.iter().map(String::as_str).collect()
    }

    /// Starts `append` to `stream`.
    pub(crate) fn append(&self, stream: &str, arguments: &[&str]) -> Running {
        fourfold(&[&["append", stream, "--url", &self.url()], arguments].concat())
    }

    /// Appends the lines and waits for it.
    pub(crate) fn append_lines(&self, stream: &str, arguments: &[&str], lines: &[String]) -> Finished {
        let mut append = self.append(stream, arguments);
        let mut stdin = append.stdin();
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        // Beside the wait for its end: the pipe holds less than the lines.
        let writer = thread::spawn(move || stdin.write_all(text.as_bytes()));
        let finished = append.finish();
        // It may have ended before it read everything, which is for the caller to judge.
        let _ = writer.join().expect("the writer does not panic");
        finished
    }

    /// Starts `tail` of `stream`.
    pub(crate) fn tail(&self, stream: &str, arguments: &[&str]) -> Running {
        fourfold(&[&["tail", stream, "--url", &self.url()], arguments].concat())
    }
}

fn serve(listen: &str, dir: &Path, settings: &[&str]) -> (Running, String, SocketAddr, String) {
    let running = start_serving(listen, dir, settings);
    let line = running.line();
    let url = line.strip_prefix("listening on ").and_then(|url| url.split_once("://"));
    let (scheme, address) = url.unwrap_or_else(|| panic!("not the line of the contract: {line}"));
    let address = address.parse().expect("an address");
    let operator = running.line().strip_prefix("metrics and health on http://").expect("the second line").to_owned();
    (running, scheme.to_owned(), address, operator)
}

fn start_serving(listen: &str, dir: &Path, settings: &[&str]) -> Running {
    let data = dir.join("data");
    let data = data.to_str().expect("temporary paths are UTF-8");
    let fixed = ["serve", "--listen", listen, "--data-dir", data, "--log", "off"];
    // A variable, so that a test may say otherwise.
    fourfold_with(&[&fixed, settings].concat(), &[("FOURFOLD_DRAIN_SPREAD", "100ms")])
}

/// Runs what waits for sockets.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

/// Numbered lines of JSON.
pub(crate) fn numbered(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|n| format!(r#"{{"n":{n},"text":"zwölf \"Boxkämpfer\""}}"#)).collect()
}
