//! What is typed, and what it means.

use super::*;

const FILES_MAX: u64 = 4096;

fn flags(pairs: &[(&'static str, &str)]) -> Flags {
    Flags { values: pairs.iter().map(|(key, value)| (*key, (*value).to_owned())).collect(), file: None }
}

fn understood(flags: &Flags, variables: &[(&str, &str)]) -> Result<ServeConfig, ConfigError> {
    let variable = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    ServeConfig::understand(&Typed::gather(flags, variable)?, FILES_MAX)
}

fn file(text: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fourfold.toml");
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (dir, path)
}

#[test]
fn the_defaults_are_a_whole_configuration() {
    let config = understood(&Flags::default(), &[]).unwrap();
    assert_eq!(config.listen, "127.0.0.1:4437".parse().unwrap());
    assert_eq!(config.engine, Engine::Embedded { data_dir: "./fourfold-data".into(), durability: Durability::Synced });
    assert_eq!(config.body_bytes_max, 16 << 20);
    assert_eq!(config.retention, Retention::default());
    assert_eq!(config.limits, LimitOptions { connections_max: 4096 - 512, ..LimitOptions::default() });
}

#[test]
fn a_flag_outranks_a_variable_and_a_variable_the_file() {
    let (_dir, path) = file("long-poll-timeout = '3s'\ndrain-deadline = '3s'\ndrain-spread = '3s'\nthreads = 3\n");
    let mut flags = flags(&[("long-poll-timeout", "1s")]);
    flags.file = Some(path);
    let variables = [("FOURFOLD_LONG_POLL_TIMEOUT", "2s"), ("FOURFOLD_DRAIN_DEADLINE", "2s"), ("FOURFOLD_THREADS", "")];
    let config = understood(&flags, &variables).unwrap();
    assert_eq!(config.long_poll_timeout, Duration::from_secs(1));
    assert_eq!(config.drain_deadline, Duration::from_secs(2));
    assert_eq!(config.drain_spread, Duration::from_secs(3));
    assert_eq!(config.threads.get(), 3, "an empty variable is not set");
}

#[test]
fn the_control_socket_is_in_the_data_directory_unless_told_otherwise() {
    let of = |pairs: &[(&'static str, &str)]| understood(&flags(pairs), &[]).unwrap().control_socket;
    assert_eq!(of(&[("data-dir", "/d")]), Some("/d/control.sock".into()));
    assert_eq!(of(&[("control-socket", "/run/x")]), Some("/run/x".into()));
    assert_eq!(of(&[("control-socket", "off")]), None);
    assert_eq!(of(&[("engine", "memory")]), None);
}

#[test]
fn the_operator_is_told_on_loopback_a_thousand_ports_further_unless_it_is_said() {
    let of = |listen: &str, admin: &[(&'static str, &str)]| {
        understood(&flags(&[&[("listen", listen)], admin].concat()), &[]).unwrap().admin_listen
    };
    assert_eq!(of("127.0.0.1:4437", &[]), AdminListen::Preferably("127.0.0.1:5437".parse().unwrap()));
    for free in ["127.0.0.1:0", "127.0.0.1:65000"] {
        assert_eq!(of(free, &[]), AdminListen::Preferably("127.0.0.1:0".parse().unwrap()), "{free}");
    }
    assert_eq!(of("127.0.0.1:1", &[("admin-listen", "off")]), AdminListen::Off);
    let given = AdminListen::At("0.0.0.0:9".parse().unwrap());
    assert_eq!(of("127.0.0.1:1", &[("admin-listen", "0.0.0.0:9")]), given);
}

#[test]
fn a_variable_can_name_the_file() {
    let (_dir, path) = file("engine = 'memory'");
    assert_eq!(understood(&Flags::default(), &[("FOURFOLD_CONFIG", &path)]).unwrap().engine, Engine::Memory);
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_known_ones() {
    let (_dir, path) = file("# a comment\nengine = 'memory'\nlisten-on = '0.0.0.0:1'\n");
    let error = understood(&flags(&[]), &[("FOURFOLD_CONFIG", &path)]).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("{path} line 3: unknown key 'listen-on'; the keys are listen, tls-cert, tls-key, ")),
        "{error}"
    );
}

#[test]
fn a_broken_file_is_refused_with_its_line() {
    let (_dir, path) = file("engine = 'memory'\nlisten = \n");
    let error = understood(&Flags::default(), &[("FOURFOLD_CONFIG", &path)]).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{path} line 2: not TOML")), "{error}");
    let (_dir, path) = file("[serve]\nlisten = '127.0.0.1:1'\n");
    let error = understood(&Flags::default(), &[("FOURFOLD_CONFIG", &path)]).unwrap_err().to_string();
    assert!(error.contains("line 1: unknown key 'serve'"), "{error}");
    let error = understood(&Flags::default(), &[("FOURFOLD_CONFIG", "/no/such/file")]).unwrap_err().to_string();
    assert!(error.contains("/no/such/file cannot be read"), "{error}");
}

#[test]
fn calls_are_tables_of_the_file() {
    let (_dir, path) = file(
        "calls-max = 7\n[calls.report]\nurl = 'http://127.0.0.1:9000/'\n\n[calls.build]\ncommand = ['make']\nkeep = '1h'\n",
    );
    let config = understood(&flags(&[("calls-per-caller", "3")]), &[("FOURFOLD_CONFIG", &path)]).unwrap();
    let kinds: Vec<_> = config.calls.iter().map(|(name, call)| (name.as_str(), call.kind())).collect();
    assert_eq!(kinds, [("build", "command"), ("report", "url")]);
    assert_eq!(config.calls["build"].keep, Duration::from_secs(3600));
    assert_eq!((config.calls_max, config.calls_per_caller), (7, 3));
    assert_eq!(understood(&Flags::default(), &[]).unwrap().calls_max, 1_000);
}

#[test]
fn a_call_that_cannot_be_meant_is_refused_by_its_key_and_line() {
    for (text, why) in [
        ("[calls.x]\nurl = 'http://a/'\nidle-timeout = '0s'\n", "line 3: calls.x: idle-timeout: 0ns is too short"),
        ("[calls.x]\nurl = 'http://a/'\nfollow = true\n", "line 3: calls.x: unknown field `follow`, expected one of"),
        ("[calls.x]\nurl = 'http://a/'\n\ngrace = '1s'\n", "line 4: calls.x: grace belongs to a command"),
        ("engine = 'memory'\n[calls.x]\nkeep = '1h'\n", "line 2: calls.x: give url ="),
        ("[calls.x]\nurl = 'http://a/'\nrest = 'yes'\n", "line 3: calls.x: invalid type: string"),
        ("[calls.x]\nurl = 'http://a/'\n[calls.'a/b']\nurl = 'http://a/'\n", "line 3: calls: 'a/b' is no name"),
        ("calls = 3\n", "line 1: calls: write [calls.NAME]"),
        ("calls.x = 'make'\n", "line 1: calls.x: write it as a table"),
    ] {
        let (_dir, path) = file(text);
        let error = understood(&Flags::default(), &[("FOURFOLD_CONFIG", &path)]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{path} {why}")), "{text}: {error}");
    }
}

#[test]
fn a_bad_value_is_named_by_where_it_was_typed() {
    let of = |flags: &Flags, variables: &[(&str, &str)]| understood(flags, variables).unwrap_err().to_string();
    let error = of(&flags(&[("long-poll-timeout", "20")]), &[]);
    assert!(error.starts_with("--long-poll-timeout: '20' is not a duration"), "{error}");
    let error = of(&Flags::default(), &[("FOURFOLD_BODY_MAX", "16MB")]);
    assert!(error.starts_with("FOURFOLD_BODY_MAX: '16MB' is not a size"), "{error}");
    let (_dir, path) = file("\nthreads = 0\n");
    let error = of(&Flags::default(), &[("FOURFOLD_CONFIG", &path)]);
    assert!(error.starts_with(&format!("{path} line 2: threads: '0' is not a whole number")), "{error}");
}

#[test]
fn values_out_of_bounds_are_refused() {
    for (key, value) in [
        ("listen", "localhost"),
        ("admin-listen", "on"),
        ("engine", "disk"),
        ("durability", "fast"),
        ("long-poll-timeout", "61s"),
        ("long-poll-timeout", "0s"),
        ("body-max", "1B"),
        ("body-max", "2GiB"),
        ("threads", "1025"),
        ("connections-max", "-1"),
        ("connections-per-address", "many"),
        ("requests-per-address", "100"),
        ("appends-per-token", "0/s"),
        ("record-max", "16MB"),
        ("batch-max", "0"),
        ("bodies-max", "1KiB"),
        ("trusted-proxies", "localhost"),
        ("forwarded-header", "x-real-ip"),
        ("proxy-protocol", "yes"),
        ("retention-age", "500ms"),
        ("retention-records", "0"),
        ("data-dir", ""),
        ("control-socket", ""),
        ("origins", "app.example"),
        ("origins", "https://app.example/"),
        ("log", "fourfold=loud"),
        ("log-format", "xml"),
    ] {
        let error = understood(&flags(&[(key, value)]), &[]).expect_err(key).to_string();
        assert!(error.starts_with(&format!("--{key}: ")), "{error}");
    }
}

#[test]
fn tls_has_a_certificate_and_a_key_or_neither() {
    let both = understood(&flags(&[("tls-cert", "a.pem")]), &[("FOURFOLD_TLS_KEY", "b.pem")]).unwrap();
    assert_eq!(both.tls, Some(TlsFiles { cert: "a.pem".into(), key: "b.pem".into() }));
    assert_eq!(understood(&Flags::default(), &[]).unwrap().tls, None);
    let error = understood(&flags(&[("tls-key", "b.pem")]), &[]).unwrap_err().to_string();
    assert_eq!(error, "--tls-key: give tls-cert as well, or neither: TLS needs both");
}

#[test]
fn durability_interval_carries_its_interval() {
    let config = understood(&flags(&[("durability", "interval"), ("sync-interval", "250ms")]), &[]).unwrap();
    let Engine::Embedded { durability, .. } = config.engine else { panic!("the default engine is embedded") };
    assert_eq!(durability, Durability::Interval(Duration::from_millis(250)));
}
