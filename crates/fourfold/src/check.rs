//! `fourfold check`: what a configuration means, without starting anything; with `--live` or `--ready` how the server is that runs with it.

use std::{
    fs,
    io::{self, IsTerminal, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::Path,
    time::{Duration, SystemTime},
};

use clap::Args;
use fourfold_server::Tls;

use crate::{
    client::reachable,
    config::{AdminListen, ConfigError, Durability, Engine, Flags, Given, LIMIT_KEYS, ServeConfig},
    serve,
};

/// The arguments of `check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    flags: Flags,
    /// Ask the running server whether its shards turn; says nothing if so
    #[arg(long, conflicts_with = "ready")]
    live: bool,
    /// Ask the running server whether an append becomes durable; says nothing if so
    #[arg(long)]
    ready: bool,
}

/// Why a check ended otherwise than well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The server would not start, or nobody would speak to it.
    #[error("tls-cert, tls-key: {0}")]
    Tls(String),
    #[error("there is nobody to ask: admin-listen is off")]
    Nobody,
    #[error("nobody answers at {0}: {1}")]
    NotThere(SocketAddr, io::Error),
    #[error("{0}")]
    Unwell(String),
}

/// A probe has an answer by then, see the server's own deadlines.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// An answer of a probe is a few lines, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Explains, or asks.
pub(crate) fn check(args: &CheckArgs) -> Result<(), CheckError> {
    let (config, given) = ServeConfig::explained(&args.flags)?;
    if args.live || args.ready {
        return ask(&config, if args.live { "/health/live" } else { "/health/ready" });
    }
    let bold = io::stdout().is_terminal();
    let shown = Shown::read(&config);
    // Whoever closes the pipe has read enough.
    let _ = io::stdout().write_all(explain(&config, &given, &shown, bold).as_bytes());
    shown.fault().map_or(Ok(()), |why| Err(CheckError::Tls(why)))
}

/// What clients would be shown to trust.
enum Shown {
    /// There is no TLS.
    Nothing,
    Certificate(Tls),
    /// The files are of no use, in words.
    Fault(String),
}

impl Shown {
    /// Reads the files as the server does, which finds out as well whether key and certificate belong together.
    fn read(config: &ServeConfig) -> Self {
        match config.tls.as_ref().map(|files| Tls::load(&files.cert, &files.key)) {
            None => Self::Nothing,
            Some(Ok(tls)) => Self::Certificate(tls),
            Some(Err(error)) => Self::Fault(serve::said(&error)),
        }
    }

    /// Why nobody would speak to the server.
    fn fault(self) -> Option<String> {
        match self {
            Self::Nothing => None,
            Self::Fault(why) => Some(why),
            Self::Certificate(tls) => {
                let now = SystemTime::now();
                let certificate = tls.certificate().filter(|certificate| !certificate.holds(now));
                certificate.and_then(|certificate| certificate.trouble(now))
            }
        }
    }
}

/// The whole explanation.
fn explain(config: &ServeConfig, given: &[Given], shown: &Shown, bold: bool) -> String {
    let heading = |text: &str| if bold { format!("\x1b[1m{text}\x1b[0m\n") } else { format!("{text}\n") };
    let mut page = heading("Settings");
    let wide = |of: fn(&Given) -> usize| given.iter().map(of).max().unwrap_or(0).min(40);
    let (keys, texts) = (wide(|given| given.key.len()), wide(|given| given.text.chars().count()));
    for Given { key, text, origin } in given {
        page += &format!("  {key:keys$}  {text:texts$}  {origin}\n");
    }
    for name in config.calls.keys() {
        page += &format!("  calls.{name}: a call that clients can begin\n");
    }
    page += "\n";
    page += &heading("Limits in force");
    limits(config, given).iter().for_each(|(key, limit)| page += &format!("  {key:keys$}  {limit}\n"));
    page += "\n";
    page += &heading("What follows from it");
    facts(config, shown).iter().for_each(|fact| page += &format!("  - {fact}\n"));
    let risks = risks(config, shown);
    if !risks.is_empty() {
        page += "\n";
        page += &heading("What to look at");
        risks.iter().for_each(|risk| page += &format!("  ! {risk}\n"));
    }
    page
}

/// How much there may be of what, by the settings that say so; last those that set no limit.
fn limits<'g>(config: &ServeConfig, given: &'g [Given]) -> Vec<(&'g str, String)> {
    const NO_LIMITS: [&str; 3] = ["trusted-proxies", "forwarded-header", "proxy-protocol"];
    const FURTHER: [&str; 3] = ["body-max", "calls-max", "calls-per-caller"];
    let counts = |key: &str| FURTHER.contains(&key) || (LIMIT_KEYS.contains(&key) && !NO_LIMITS.contains(&key));
    let (none, set): (Vec<_>, Vec<_>) = given.iter().filter(|given| counts(given.key)).partition(|g| g.text == "none");
    let mut limits: Vec<_> = set
        .into_iter()
        .map(|Given { key, text, .. }| match *key {
            "connections-max" => (*key, config.limits.connections_max.to_string()),
            key => (key, text.trim_start_matches('(').trim_end_matches(')').replace('\'', "")),
        })
        .collect();
    if !none.is_empty() {
        let names: Vec<&str> = none.iter().map(|given| given.key).collect();
        limits.push(("none", format!("for {}", names.join(", "))));
    }
    limits
}

/// What the settings mean, in words.
fn facts(config: &ServeConfig, shown: &Shown) -> Vec<String> {
    let mut facts = Vec::new();
    let who = match config.listen.ip() {
        ip if ip.is_loopback() => "only this machine reaches it",
        ip if ip.is_unspecified() => "whoever reaches any address of this machine reaches it",
        _ => "whoever reaches that address reaches it",
    };
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    facts.push(format!("Streams are served on {scheme}://{}: {who}.", config.listen));
    match shown {
        Shown::Nothing => {}
        Shown::Fault(why) => facts.push(format!("The server does not start with these files: {why}.")),
        Shown::Certificate(tls) => facts.push(match tls.certificate() {
            Some(certificate) => format!("Clients are shown a certificate {certificate}; its key belongs to it."),
            None => {
                "Clients are shown a certificate that this command does not understand; its key belongs to it.".into()
            }
        }),
    }
    facts.extend(access(config));
    facts.push(match config.admin_listen {
        AdminListen::Off => "Metrics and health are not told.".into(),
        AdminListen::At(address) => format!("Metrics and health are told on {address}, to whoever reaches it."),
        AdminListen::Preferably(address) if address.port() == 0 => {
            "Metrics and health are told on a free port of this machine, which the server says when it starts.".into()
        }
        AdminListen::Preferably(address) => {
            format!("Metrics and health are told on {address}, or on a free port if that one is taken, to this machine only.")
        }
    });
    facts.push(match &config.engine {
        Engine::Memory => "Streams are in memory: they are gone when the process ends.".into(),
        Engine::Embedded { data_dir, durability } => {
            let survives = match durability {
                Durability::Synced => "an append that was acknowledged survives a power loss".to_owned(),
                Durability::Interval(every) => {
                    format!("an append that was acknowledged survives a crash of the process; a power loss takes back at most the last {every:?}")
                }
                Durability::Os => "an append that was acknowledged survives a crash of the process, not one of the machine".into(),
            };
            format!("Streams are in {}: {survives}.", data_dir.display())
        }
    });
    let kept = &config.retention;
    let mut keeps = Vec::new();
    keeps.extend(kept.age.map(|age| format!("what is younger than {age:?}")));
    keeps.extend(kept.bytes.map(|bytes| format!("at most {bytes} bytes")));
    keeps.extend(kept.records.map(|records| format!("at most {records} records")));
    facts.push(match keeps.as_slice() {
        [] => "A stream that does not say what it keeps, keeps everything.".into(),
        keeps => format!("A stream that does not say what it keeps, keeps {}.", keeps.join(" and ")),
    });
    facts.push(format!(
        "Up to {} connections, on {} threads; an append has at most {} bytes.",
        config.limits.connections_max, config.threads, config.body_bytes_max
    ));
    facts.push(format!(
        "After SIGTERM readers are asked to come back within {:?}, and whoever is still there after {:?} is cut.",
        config.drain_spread, config.drain_deadline
    ));
    facts
}

/// Who may do what.
fn access(config: &ServeConfig) -> Vec<String> {
    let Some(access) = &config.access else {
        return vec![
            "Whoever reaches it may read, append, create and delete everything: there is no [access] section.".into(),
        ];
    };
    let mut facts = Vec::new();
    facts.push(match access.anonymous.is_empty() {
        true => "Without a token nobody may do anything.".to_owned(),
        false => "Without a token everybody may do what [access.anonymous] says.".to_owned(),
    });
    if !access.keys.is_empty() {
        let audience = access.audience.join("' or '");
        let authenticated = match access.authenticated.is_empty() {
            true => "what the token's own claims say",
            false => "what [access.authenticated] and the token's own claims say",
        };
        facts.push(format!(
            "A token that one of {} keys verifies and that is for '{audience}' allows {authenticated}.",
            access.keys.len()
        ));
    }
    let cookie = access.cookie.as_ref().map(|name| format!(", in the cookie '{name}'"));
    let query = access.query.then_some(", in the query as access_token");
    facts.push(format!(
        "A token comes in the header Authorization, in a WebSocket subprotocol{}{}.",
        cookie.unwrap_or_default(),
        query.unwrap_or_default()
    ));
    if access.hook.is_some() {
        facts.push(
            "Whatever that leaves open is asked of [access.hook]; if it does not answer, the answer is no.".into(),
        );
    }
    facts
}

/// What may not be meant so.
fn risks(config: &ServeConfig, shown: &Shown) -> Vec<String> {
    let mut risks = Vec::new();
    if let Shown::Certificate(tls) = shown
        && let Some(trouble) = tls.certificate().and_then(|certificate| certificate.trouble(SystemTime::now()))
    {
        risks.push(format!("The certificate: {trouble}. Renew it, then 'fourfold reload'."));
    }
    risks.extend(config.secret_files.iter().filter_map(|path| readable_by_others(path)));
    if let Engine::Embedded { data_dir, .. } = &config.engine {
        risks.extend(open_to_others(data_dir));
    }
    if config.access.is_none() && !config.listen.ip().is_loopback() {
        risks.push(format!(
            "{} is open to everybody: write an [access] section, or keep it behind a firewall.",
            config.listen
        ));
    }
    if config.tls.is_none() && config.access.is_some() && !config.listen.ip().is_loopback() {
        risks.push(format!("{} does not speak TLS: tokens and records can be read on the way, unless a proxy on this machine speaks it.", config.listen));
    }
    if config.access.as_ref().is_some_and(|access| access.query) && !config.listen.ip().is_loopback() {
        risks.push("A token may come in the query, where proxies and histories keep it: only with TLS, and only where headers cannot be set.".into());
    }
    if config.access.as_ref().is_some_and(|access| access.allow_no_expiry) {
        risks.push("Tokens that never expire are taken: one that is stolen is good for ever.".into());
    }
    if let AdminListen::At(address) = config.admin_listen
        && !address.ip().is_loopback()
    {
        risks.push(format!("{address} tells metrics to whoever reaches it: keep it behind a firewall."));
    }
    if config.retention == crate::config::Retention::default() {
        risks.push("There is no retention: streams that do not say what they keep grow until the disk is full.".into());
    }
    let files = crate::config::files_max();
    let connections = u64::try_from(config.limits.connections_max).unwrap_or(u64::MAX);
    if connections > files {
        risks.push(format!("{connections} connections are allowed, but only {files} files can be open: raise the limit (ulimit -n, LimitNOFILE)."));
    }
    if config.drain_spread > config.drain_deadline {
        risks.push("drain-spread is longer than drain-deadline: readers come back after the server was to be gone, which is well, but later than they need.".into());
    }
    risks
}

/// Who else can read a file with a secret in it, in words; `None` if nobody can.
fn readable_by_others(path: &Path) -> Option<String> {
    let who = others(path, 0o4)?;
    let path = path.display();
    Some(format!(
        "{path} holds a secret and can be read by {who}: chmod 600 {path}, owned by the user that the server runs as."
    ))
}

/// Who else gets into the data directory, in words; `None` if nobody does.
fn open_to_others(dir: &Path) -> Option<String> {
    let who = others(dir, 0o1)?;
    let dir = dir.display();
    Some(format!("{dir} holds all streams and their keys and can be read by {who}: chmod 700 {dir}."))
}

/// Who but the owner has this bit of `rwx`.
fn others(path: &Path, bit: u32) -> Option<&'static str> {
    // What is not there, or hidden from us, is a fault elsewhere.
    let mode = fs::metadata(path).ok()?.permissions().mode();
    match (mode & (bit << 3) != 0, mode & bit != 0) {
        (_, true) => Some("everybody on this machine"),
        (true, false) => Some("its group"),
        (false, false) => None,
    }
}

/// Asks the running server.
fn ask(config: &ServeConfig, path: &str) -> Result<(), CheckError> {
    let address = match config.admin_listen {
        AdminListen::Off => return Err(CheckError::Nobody),
        AdminListen::At(address) | AdminListen::Preferably(address) => reachable(address),
    };
    let answer = (|| {
        let mut socket = TcpStream::connect_timeout(&address, ANSWER_WITHIN)?;
        socket.set_read_timeout(Some(ANSWER_WITHIN))?;
        socket.set_write_timeout(Some(ANSWER_WITHIN))?;
        socket.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        socket.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
        Ok::<_, io::Error>(answer)
    })()
    .map_err(|error| CheckError::NotThere(address, error))?;
    if answer.starts_with("HTTP/1.1 200") {
        return Ok(());
    }
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let problem: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    Err(CheckError::Unwell(problem["detail"].as_str().unwrap_or("it does not answer as a server does").to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(pairs: &[(&'static str, &str)]) -> String {
        let flags =
            Flags { values: pairs.iter().map(|(key, value)| (*key, (*value).to_owned())).collect(), file: None };
        let (config, given) = ServeConfig::explained(&flags).unwrap();
        explain(&config, &given, &Shown::read(&config), false)
    }

    #[test]
    fn each_setting_is_shown_with_where_it_came_from() {
        let page = explained(&[("listen", "127.0.0.1:80"), ("durability", "os")]);
        let line = |key: &str| page.lines().find(|line| line.trim_start().starts_with(key)).expect(key);
        assert!(line("listen").contains("127.0.0.1:80") && line("listen").ends_with("--listen"), "{page}");
        assert!(line("body-max").contains("16MiB") && line("body-max").ends_with("default"), "{page}");
        assert!(line("retention-age").contains("kept for ever"), "{page}");
        assert!(page.contains("only this machine reaches it"), "{page}");
        assert!(page.contains("not one of the machine"), "{page}");
        assert!(page.contains("Whoever reaches it may read, append"), "{page}");
    }

    #[test]
    fn each_limit_is_told_by_its_setting_and_so_is_what_has_none() {
        let page =
            explained(&[("connections-max", "77"), ("requests-per-token", "5/s"), ("appends-per-address", "none")]);
        let (_, limits) = page.split_once("Limits in force\n").expect("a heading");
        let (limits, _) = limits.split_once("\n\n").expect("an end");
        let line = |key: &str| {
            let line = limits.lines().find_map(|line| line.trim_start().strip_prefix(key)).expect(key);
            line.trim().to_owned()
        };
        assert_eq!(line("connections-max"), "77");
        assert_eq!(line("requests-per-token"), "5/s");
        assert_eq!(line("connections-per-address"), "1000, but any number from this machine");
        assert_eq!(line("body-max"), "16MiB");
        assert!(line("none").contains("appends-per-address") && line("none").contains("streams-max"), "{limits}");
        assert!(!limits.contains("proxy"), "{limits}");
        for key in LIMIT_KEYS.iter().filter(|key| !key.contains("prox") && !key.contains("forwarded")) {
            assert!(limits.contains(key), "{key}: {limits}");
        }
    }

    #[test]
    fn what_is_risky_is_said_and_nothing_else() {
        let quiet = explained(&[("retention-age", "7d")]);
        assert!(!quiet.contains("What to look at"), "{quiet}");
        let page = explained(&[("admin-listen", "0.0.0.0:5437"), ("connections-max", "9999999")]);
        for risk in ["keep it behind a firewall", "There is no retention", "raise the limit"] {
            assert!(page.contains(risk), "{risk}: {page}");
        }
    }
}
