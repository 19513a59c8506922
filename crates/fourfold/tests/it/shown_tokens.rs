//! The commands show the token that they are given.

use std::fs;

use crate::harness::{Server, TRANSPORTS, fourfold, fourfold_with, numbered};

#[test]
fn commands_with_a_token_append_and_read_by_every_transport() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("fourfold.toml");
    let secret = fourfold(&["token", "new-secret"]).finish().succeeded().lines[0].clone();
    fs::write(dir.path().join("secret"), secret).unwrap();
    let rules = "[access]\naudience = 'fourfold'\n[[access.keys]]\nalgorithm = 'HS256'\nsecret-file = 'secret'\n";
    fs::write(&config, format!("{rules}[access.authenticated]\nread = ['a']\nappend = ['a']\ncreate = ['a']\n"))
        .unwrap();
    let config = config.to_str().unwrap();
    let server = Server::start_with(&["--config", config]);
    let token = fourfold(&["token", "--config", config, "--sub", "ann"]).finish().succeeded().lines[0].clone();
    let file = dir.path().join("lines");
    fs::write(&file, numbered(0..10).join("\n")).unwrap();
    let append = |stream: &str, token: &str| {
        let arguments = ["append", stream, "--url", &server.url(), "--json", "--close", file.to_str().unwrap()];
        fourfold_with(&arguments, &[("FOURFOLD_TOKEN", token)]).finish()
    };
    append("a", &token).succeeded();
    append("b", &token).failed();
    for transport in TRANSPORTS {
        let tail = ["tail", "a", "--url", &server.url(), "--offset", "-1", "--transport", transport];
        let shown = fourfold(&[&tail[..], &["--token", &token]].concat()).finish().succeeded();
        assert_eq!(shown.lines, numbered(0..10), "{transport}");
        let hidden = fourfold(&tail).finish();
        assert!(hidden.failed().contains("token"), "{transport}: {}", hidden.failed());
    }
}
