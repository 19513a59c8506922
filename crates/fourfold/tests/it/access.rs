//! Rules and tokens as an operator meets them: the configuration file, `serve`, and `fourfold token`.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::harness::{Finished, Running, fourfold};

const RULES: &str = r#"
engine = "memory"
[access]
audience = "fourfold"
[[access.keys]]
algorithm = "HS256"
kid = "dev"
secret-file = "dev.secret"
[access.anonymous]
read = ["public/**"]
[access.authenticated]
append = ["users/{sub}/**"]
"#;

/// A folder with a configuration file and the secret that it names.
struct Folder(TempDir);

impl Folder {
    fn new(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("fourfold.toml"), config).unwrap();
        let made = fourfold(&["token", "new-secret"]).finish();
        assert!(made.stderr.contains("secret-file = \"fourfold.secret\""), "{}", made.stderr);
        let [secret] = made.lines.as_slice() else { panic!("one line: {:?}", made.lines) };
        assert_eq!(secret.len(), 43, "32 bytes in base64url");
        fs::write(dir.path().join("dev.secret"), format!("{secret}\n")).unwrap();
        Self(dir)
    }

    fn config(&self) -> String {
        self.file("fourfold.toml")
    }

    fn file(&self, name: &str) -> String {
        Path::new(self.0.path()).join(name).to_str().unwrap().to_owned()
    }

    fn token(&self, arguments: &[&str]) -> Finished {
        fourfold(&[&["token", "--config", &self.config()], arguments].concat()).finish()
    }

    fn check(&self, token: &str, arguments: &[&str]) -> (Option<i32>, String) {
        let checked = fourfold(&[&["token", "check", token, "--config", &self.config()], arguments].concat()).finish();
        (checked.code, checked.lines.join("\n"))
    }
}

fn made(finished: Finished) -> String {
    assert_eq!((finished.code, finished.lines.len()), (Some(0), 1), "{}", finished.stderr);
    finished.lines.into_iter().next().unwrap()
}

fn listening(server: &Running) -> String {
    server.line().strip_prefix("listening on http://").expect("the address").to_owned()
}

/// The status and the whole answer.
fn ask(address: &str, method: &str, path: &str, token: Option<&str>) -> (u16, String) {
    let mut socket = TcpStream::connect(address).unwrap();
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let head = format!(
        "{method} /v1/stream/{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n{authorization}\r\n"
    );
    socket.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    (answer[9..12].parse().unwrap(), answer)
}

#[test]
fn a_server_asks_for_the_tokens_that_the_command_makes() {
    let folder = Folder::new(RULES);
    let server = fourfold(&["serve", "--config", &folder.config(), "--listen", "0.0.0.0:0"]);
    let address = listening(&server).replace("0.0.0.0", "127.0.0.1");
    let token = made(folder.token(&["--sub", "ann", "--create", "users/{sub}/*"]));
    let (status, answer) = ask(&address, "PUT", "users/ann/x", None);
    assert_eq!(status, 401, "{answer}");
    assert!(answer.to_lowercase().contains("www-authenticate: bearer realm=\"fourfold\""), "{answer}");
    assert!(answer.contains("missing-token"), "{answer}");
    assert_eq!(ask(&address, "PUT", "users/bob/x", Some(&token)).0, 403);
    assert_eq!(ask(&address, "PUT", "users/ann/x", Some(&token)).0, 201);
    assert_eq!(ask(&address, "GET", "users/ann/x", Some(&token)).0, 403);
    assert_eq!(ask(&address, "GET", "public/x", None).0, 404, "everybody may look, and there is nothing");
    assert_eq!(ask(&address, "GET", "public/x", Some("x")).0, 401, "a token that is none is not passed over");
    server.signal(Signal::TERM);
    assert!(!server.finish().stderr.contains(&token), "no log shows a token");
}

#[test]
fn an_address_for_all_needs_rules_or_a_word() {
    for command in ["serve", "demo"] {
        let refused = fourfold(&[command, "--engine", "memory", "--listen", "0.0.0.0:0"]).finish();
        assert_eq!(refused.code, Some(2), "{}", refused.stderr);
        for part in ["without rules", "[access.anonymous]", "--insecure-open"] {
            assert!(refused.stderr.contains(part), "{part} in {}", refused.stderr);
        }
    }
    let server = fourfold(&["serve", "--engine", "memory", "--listen", "0.0.0.0:0", "--insecure-open"]);
    let address = listening(&server).replace("0.0.0.0", "127.0.0.1");
    assert_eq!(ask(&address, "PUT", "x", None).0, 201);
    server.signal(Signal::TERM);
    assert!(server.finish().stderr.contains("insecure-open: whoever reaches the server"));
    let folder = Folder::new(RULES);
    let both = fourfold(&["serve", "--config", &folder.config(), "--insecure-open"]).finish();
    assert_eq!(both.code, Some(2));
    assert!(both.stderr.contains("there are [access] rules"), "{}", both.stderr);
}

#[test]
fn a_token_is_explained() {
    let folder = Folder::new(RULES);
    let good = made(folder.token(&["--sub", "ann", "--read", "news/**", "--list", "--for", "2h"]));
    let (code, page) = folder.check(&good, &[]);
    assert_eq!(code, Some(0), "{page}");
    for part in [
        "header    HS256, kid 'dev'",
        "signed by the key 'dev' of HS256",
        "subject   ann",
        "audience  fourfold",
        "UTC, in ",
        "read      news/** (its claim)",
        "list      ** (its claim)",
        "append    users/ann/** (the rules for every good token)",
        "good      the server takes it",
    ] {
        assert!(page.contains(part), "{part} in\n{page}");
    }
    let (code, page) = folder.check(&good, &["--verb", "read", "--path", "news/x"]);
    assert!(code == Some(0) && page.contains("granted   read news/x: the token's own claim"), "{page}");
    let (code, page) = folder.check(&good, &["--verb", "append", "--path", "users/ann/x"]);
    assert!(code == Some(0) && page.contains("the rule for every good token"), "{page}");
    let (code, page) = folder.check(&good, &["--verb", "append", "--path", "users/bob/x"]);
    assert!(code == Some(1) && page.contains("refused   append users/bob/x"), "{page}");
    let secret = fs::read_to_string(folder.file("dev.secret")).unwrap();
    assert!(!page.contains(secret.trim()));
}

#[test]
fn what_is_wrong_with_a_token_is_told_all_at_once() {
    let folder = Folder::new(RULES);
    fs::write(folder.file("other.secret"), "another secret, which nobody here knows").unwrap();
    let foreign =
        made(folder.token(&["--key", &folder.file("other.secret"), "--audience", "them", "--sub", "a\u{1b}[2J"]));
    let (code, page) = folder.check(&foreign, &[]);
    assert_eq!(code, Some(1));
    for part in [
        "signed by nobody who is known here: believe nothing below",
        "the token's signature is not that of a configured key",
        "the token's 'aud' does not name this server's audience",
        "The server says 401 invalid-token.",
    ] {
        assert!(page.contains(part), "{part} in\n{page}");
    }
    assert!(!page.contains('\u{1b}'), "a terminal obeys nothing of it");
    let (code, page) = folder.check("x", &[]);
    assert!(code == Some(1) && page.contains("it is not three parts"), "{page}");
    let (code, page) = folder.check(&foreign, &["--verb", "read", "--path", "public/x"]);
    let told = "refused   read public/x: the token is no good; without one, or with this one in a cookie, it would be granted by the rule for everybody";
    assert!(code == Some(1) && page.contains(told), "{page}");
    let mut checked = fourfold(&["token", "check", "-", "--config", &folder.config()]);
    writeln!(checked.stdin(), "{foreign}").unwrap();
    assert_eq!(checked.finish().code, Some(1), "also from standard input");
}

#[test]
fn a_token_that_cannot_be_made_says_what_to_give() {
    let folder = Folder::new(RULES);
    for (arguments, part) in [
        (vec!["--read", "a//b"], "--read: the pattern has a segment that is empty"),
        (vec!["--kid", "none"], "no configured secret has this kid"),
        (vec!["--key", "/no/such/file"], "/no/such/file cannot be read"),
    ] {
        let finished = folder.token(&arguments);
        assert!(finished.stderr.contains(part), "{arguments:?}: {}", finished.stderr);
        assert!(finished.lines.is_empty() && finished.code != Some(0));
    }
    let finished = fourfold(&["token"]).finish();
    assert!(finished.code == Some(2) && finished.stderr.contains("there is no key"), "{}", finished.stderr);
    let finished = fourfold(&["token", "check", "x"]).finish();
    assert!(finished.code == Some(2) && finished.stderr.contains("give --config FILE"), "{}", finished.stderr);
}
