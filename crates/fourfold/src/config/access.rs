//! The file's `[access]` section: what it means is said by `fourfold-access`; here it is found, key files are read, and a fault is given its line.

use std::{
    cell::RefCell,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use fourfold_access::{
    AccessError, Algorithm, HookOptions, JwksOptions, KeyOptions, Material, Options, Rules, Secret, Verb,
};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{ConfigError, typed::Origin, units};

/// The file's key.
pub(super) const KEY: &str = "access";

/// Behind the help of the commands that serve.
pub(super) const HELP: &str = "\
Access, in the configuration file only: who may do what. Without this section everybody may do everything, on loopback only.
    [access]
    audience = \"fourfold\"                    # what the 'aud' of tokens says; required where there are keys
    [[access.keys]]
    algorithm = \"HS256\"                      # or HS384, HS512, RS256, ES256, EdDSA
    secret-file = \"fourfold.secret\"          # made by: fourfold token new-secret
    [access.anonymous]
    read = [\"news/**\"]                       # what everybody may do: read, append, create, delete, list, call, control
    [access.authenticated]
    append = [\"users/{sub}/**\"]              # what everybody with a good token may do; {CLAIM} is what the token says
    [access.hook]
    url = \"http://127.0.0.1:9000/may\"        # who is asked what neither rules nor the token's own claims decide
Of [access]:         audience, issuer, leeway, allow-no-expiry, cookie, query
Of [[access.keys]]:  algorithm, kid, and one of secret, secret-file, key, key-file (PEM), jwks (URL; with refresh, refetch, stale)
Of [access.hook]:    url, cache, deadline, forward-token";

const SECTION: &[&str] = &[
    "audience",
    "issuer",
    "leeway",
    "allow-no-expiry",
    "cookie",
    "query",
    "keys",
    "anonymous",
    "authenticated",
    "hook",
];
const OF_A_KEY: &[&str] =
    &["algorithm", "kid", "secret", "secret-file", "key", "key-file", "jwks", "refresh", "refetch", "stale"];
const OF_THE_HOOK: &[&str] = &["url", "cache", "deadline", "forward-token"];

/// The largest file with a key: four times what `fourfold-access` takes.
const KEY_FILE_BYTES_MAX: u64 = 64 << 10;

type Value<'v> = Spanned<DeValue<'v>>;

/// Understands the section; with the files that hold secrets of it.
pub(super) fn read(
    path: &str,
    section: &Value<'_>,
    key_line: usize,
    line_of: &impl Fn(usize) -> usize,
) -> Result<(Options, Vec<PathBuf>), ConfigError> {
    let page = Page { path, line_of, secret_files: RefCell::default() };
    let mut options = Options::default();
    // Where to point when a fault is found later, by the key and its place among several.
    let mut lines = vec![(KEY, None, key_line)];
    for (name, value) in page.table(KEY, section)? {
        let at = name.span().start;
        let line = line_of(at);
        match name.get_ref().as_ref() {
            "audience" => options.audience = page.texts("access.audience", value)?,
            "issuer" => options.issuer = Some(page.text("access.issuer", value)?),
            "leeway" => options.leeway = page.duration("access.leeway", value)?,
            "allow-no-expiry" => options.allow_no_expiry = page.flag("access.allow-no-expiry", value)?,
            "cookie" => options.cookie = Some(page.text("access.cookie", value)?),
            "query" => options.query = page.flag("access.query", value)?,
            "anonymous" => options.anonymous = page.rules("access.anonymous", value)?,
            "authenticated" => options.authenticated = page.rules("access.authenticated", value)?,
            "hook" => options.hook = Some(page.hook(value, at)?),
            "keys" => {
                let DeValue::Array(keys) = value.get_ref() else {
                    return Err(page.fault(at, "access.keys", "write [[access.keys]], once for each key"));
                };
                for (index, key) in keys.iter().enumerate() {
                    options.keys.push(page.key(key)?);
                    lines.push(("keys", Some(index), line_of(key.span().start)));
                }
            }
            other => return Err(page.unknown(at, KEY, other, SECTION)),
        }
        if let Some(key) = SECTION.iter().find(|key| **key == name.get_ref().as_ref()) {
            lines.push((key, None, line));
        }
    }
    options.check().map_err(|AccessError { key, index, why }| {
        let found = lines.iter().find(|(name, nth, _)| *name == key && *nth == index);
        let line = found.map_or(key_line, |(_, _, line)| *line);
        ConfigError::Value { origin: Origin::File { path: path.to_owned(), line, key: format!("{KEY}.{key}") }, why }
    })?;
    Ok((options, page.secret_files.into_inner()))
}

/// The file, as far as faults need it.
struct Page<'p, L> {
    path: &'p str,
    line_of: &'p L,
    /// Whoever can read one of them can make tokens.
    secret_files: RefCell<Vec<PathBuf>>,
}

impl<L: Fn(usize) -> usize> Page<'_, L> {
    fn fault(&self, at: usize, key: &str, why: impl Into<String>) -> ConfigError {
        let origin = Origin::File { path: self.path.to_owned(), line: (self.line_of)(at), key: key.to_owned() };
        ConfigError::Value { origin, why: why.into() }
    }

    fn unknown(&self, at: usize, table: &str, key: &str, known: &[&str]) -> ConfigError {
        let key = key.escape_debug();
        self.fault(at, table, format!("unknown key '{key}'; the keys are {}", known.join(", ")))
    }

    fn table<'v, 't>(&self, key: &str, value: &'t Value<'v>) -> Result<&'t DeTable<'v>, ConfigError> {
        match value.get_ref() {
            DeValue::Table(table) => Ok(table),
            _ => {
                Err(self.fault(value.span().start, key, format!("write it as a table: [{key}] and its keys below it")))
            }
        }
    }

    fn text(&self, key: &str, value: &Value<'_>) -> Result<String, ConfigError> {
        match value.get_ref() {
            DeValue::String(text) => Ok(text.to_string()),
            _ => Err(self.fault(value.span().start, key, "write it as a string in quotes")),
        }
    }

    /// One, or an array of them.
    fn texts(&self, key: &str, value: &Value<'_>) -> Result<Vec<String>, ConfigError> {
        match value.get_ref() {
            DeValue::Array(all) => all.iter().map(|one| self.text(key, one)).collect(),
            _ => Ok(vec![self.text(key, value)?]),
        }
    }

    fn flag(&self, key: &str, value: &Value<'_>) -> Result<bool, ConfigError> {
        match value.get_ref() {
            DeValue::Boolean(flag) => Ok(*flag),
            _ => Err(self.fault(value.span().start, key, "write true or false")),
        }
    }

    fn duration(&self, key: &str, value: &Value<'_>) -> Result<Duration, ConfigError> {
        units::duration(&self.text(key, value)?).map_err(|why| self.fault(value.span().start, key, why))
    }

    fn url<T>(&self, key: &str, value: &Value<'_>, of: impl FnOnce(url::Url) -> T) -> Result<T, ConfigError> {
        let text = self.text(key, value)?;
        let url = url::Url::parse(&text).map_err(|error| {
            self.fault(value.span().start, key, format!("'{}' is not a URL: {error}", text.escape_debug()))
        })?;
        Ok(of(url))
    }

    fn rules(&self, table: &str, value: &Value<'_>) -> Result<Rules, ConfigError> {
        let mut rules = Rules::default();
        for (name, patterns) in self.table(table, value)? {
            let Ok(verb) = name.get_ref().parse::<Verb>() else {
                let known = Verb::ALL.map(Verb::as_str);
                return Err(self.unknown(name.span().start, table, name.get_ref(), &known));
            };
            let key = format!("{table}.{verb}");
            let all: Vec<_> = match patterns.get_ref() {
                DeValue::Array(all) => all.iter().collect(),
                _ => vec![patterns],
            };
            for pattern in all {
                let text = self.text(&key, pattern)?;
                rules.allow(verb, &text).map_err(|why| self.fault(pattern.span().start, &key, why))?;
            }
        }
        Ok(rules)
    }

    fn hook(&self, value: &Value<'_>, at: usize) -> Result<HookOptions, ConfigError> {
        const TABLE: &str = "access.hook";
        let table = self.table(TABLE, value)?;
        let Some(url) = table.get("url") else {
            return Err(self.fault(at, TABLE, "give url = \"https://…\", whom to ask"));
        };
        let mut hook = self.url("access.hook.url", url, HookOptions::new)?;
        for (name, value) in table {
            match name.get_ref().as_ref() {
                "url" => {}
                "cache" => hook.cache = self.duration("access.hook.cache", value)?,
                "deadline" => hook.deadline = self.duration("access.hook.deadline", value)?,
                "forward-token" => hook.forward_token = self.flag("access.hook.forward-token", value)?,
                other => return Err(self.unknown(name.span().start, TABLE, other, OF_THE_HOOK)),
            }
        }
        Ok(hook)
    }

    fn key(&self, value: &Value<'_>) -> Result<KeyOptions, ConfigError> {
        const TABLE: &str = "access.keys";
        let table = self.table(TABLE, value)?;
        let mut materials = Vec::new();
        let (mut algorithms, mut kid, mut times) = (Vec::new(), None, Vec::new());
        for (name, value) in table {
            let at = name.span().start;
            let name = name.get_ref().as_ref();
            let key = format!("{TABLE}.{name}");
            match name {
                "algorithm" => {
                    for text in self.texts(&key, value)? {
                        let algorithm = text.parse::<Algorithm>();
                        algorithms.push(
                            algorithm.map_err(|error| {
                                self.fault(at, &key, format!("'{}' is {error}", text.escape_debug()))
                            })?,
                        );
                    }
                }
                "kid" => kid = Some(self.text(&key, value)?),
                "secret" => {
                    self.is_secret(self.path.into());
                    materials.push(Material::Secret(Secret(self.text(&key, value)?.into_bytes())));
                }
                "secret-file" => {
                    self.is_secret(self.path_of(&self.text(&key, value)?));
                    let mut secret = self.file(&key, value)?;
                    let kept = secret.trim_ascii_end().len(); // Editors end files with a line break.
                    secret.truncate(kept);
                    materials.push(Material::Secret(Secret(secret)));
                }
                "key" => {
                    let pem = self.text(&key, value)?;
                    if is_private(&pem) {
                        self.is_secret(self.path.into());
                    }
                    materials.push(Material::Pem(pem));
                }
                "key-file" => {
                    let pem = String::from_utf8(self.file(&key, value)?);
                    let pem = pem.map_err(|_| self.fault(at, &key, "the file is not PEM"))?;
                    if is_private(&pem) {
                        self.is_secret(self.path_of(&self.text(&key, value)?));
                    }
                    materials.push(Material::Pem(pem));
                }
                "jwks" => materials.push(Material::Jwks(self.url(&key, value, JwksOptions::new)?)),
                "refresh" | "refetch" | "stale" => times.push((name, at, self.duration(&key, value)?)),
                other => return Err(self.unknown(at, TABLE, other, OF_A_KEY)),
            }
        }
        let at = value.span().start;
        if algorithms.is_empty() {
            return Err(self.fault(at, TABLE, "name what its tokens are signed by: algorithm = \"HS256\""));
        }
        let material = match (materials.pop(), materials.pop()) {
            (Some(material), None) => material,
            _ => return Err(self.fault(at, TABLE, "give one of secret, secret-file, key, key-file and jwks")),
        };
        let mut key = KeyOptions { algorithms, kid, material };
        for (name, at, time) in times {
            let Material::Jwks(jwks) = &mut key.material else {
                return Err(self.fault(at, TABLE, format!("{name} belongs to jwks")));
            };
            match name {
                "refresh" => jwks.refresh = time,
                "refetch" => jwks.refetch = time,
                _ => jwks.stale = time,
            }
        }
        Ok(key)
    }

    fn is_secret(&self, path: PathBuf) {
        self.secret_files.borrow_mut().push(path);
    }

    /// Relative to the configuration's.
    fn path_of(&self, name: &str) -> PathBuf {
        Path::new(self.path).parent().unwrap_or(Path::new("")).join(name)
    }

    /// What is in a file.
    fn file(&self, key: &str, value: &Value<'_>) -> Result<Vec<u8>, ConfigError> {
        let name = self.text(key, value)?;
        let path = self.path_of(&name);
        let fault =
            |why: String| self.fault(value.span().start, key, format!("{} cannot be read: {why}", path.display()));
        let size = fs::metadata(&path).map_err(|error| fault(error.to_string()))?.len();
        if size > KEY_FILE_BYTES_MAX {
            return Err(fault(format!("it is larger than {KEY_FILE_BYTES_MAX} bytes")));
        }
        fs::read(&path).map_err(|error| fault(error.to_string()))
    }
}

fn is_private(pem: &str) -> bool {
    pem.contains("PRIVATE KEY-----")
}

#[cfg(test)]
mod tests {
    use super::super::{Flags, ServeConfig, typed::Typed};
    use super::*;

    /// What a configuration file with this text, and these flags, come to; faults without the file's path.
    fn understood(text: &str, flags: &[(&'static str, &str)]) -> Result<ServeConfig, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fourfold.toml").to_str().unwrap().to_owned();
        fs::write(&path, text).unwrap();
        fs::write(dir.path().join("good.secret"), "a secret of 32 bytes, or of more\n").unwrap();
        fs::write(dir.path().join("short.secret"), "short\n").unwrap();
        let flags = Flags {
            values: flags.iter().map(|(key, value)| (*key, (*value).to_owned())).collect(),
            file: Some(path.clone()),
        };
        let config = Typed::gather(&flags, |_| None).and_then(|typed| ServeConfig::understand(&typed, 4096));
        config.map_err(|error| error.to_string().replace(&path, "FILE").replace(dir.path().to_str().unwrap(), "DIR"))
    }

    #[test]
    fn a_whole_section_is_understood() {
        let text = r#"
            [access]
            audience = ["fourfold", "other"]
            issuer = "https://id.example"
            leeway = "10s"
            allow-no-expiry = true
            cookie = "session"
            query = false
            [[access.keys]]
            algorithm = "HS256"
            kid = "a"
            secret-file = "good.secret"
            [[access.keys]]
            algorithm = ["RS256", "ES256"]
            jwks = "https://id.example/keys"
            refresh = "5m"
            [access.anonymous]
            read = ["news/**", "x"]
            [access.authenticated]
            append = "users/{sub}/**"
            [access.hook]
            url = "http://10.0.0.1:9000/may"
            cache = "1s"
            deadline = "500ms"
            forward-token = true
        "#;
        let access = understood(text, &[("listen", "0.0.0.0:0")]).unwrap().access.unwrap();
        assert_eq!((access.audience.len(), access.leeway, access.query), (2, Duration::from_secs(10), false));
        assert_eq!((access.issuer.as_deref(), access.cookie.as_deref()), (Some("https://id.example"), Some("session")));
        assert_eq!(access.keys[0].material, Material::Secret(Secret(b"a secret of 32 bytes, or of more".to_vec())));
        let Material::Jwks(jwks) = &access.keys[1].material else { panic!("the second is a set") };
        assert_eq!((jwks.refresh, access.keys[1].algorithms.len()), (Duration::from_secs(300), 2));
        let hook = access.hook.unwrap();
        assert_eq!((hook.cache, hook.deadline), (Duration::from_secs(1), Duration::from_millis(500)));
        assert!(hook.forward_token && access.allow_no_expiry);
        let mut expected = Rules::default();
        expected.allow(Verb::Read, "news/**").unwrap();
        expected.allow(Verb::Read, "x").unwrap();
        assert_eq!(access.anonymous, expected);
    }

    #[test]
    fn a_fault_is_named_by_its_line_and_what_to_write() {
        for (text, why) in [
            ("access = 1\n", "line 1: access: write it as a table"),
            ("[access]\nanonymus = 1\n", "line 2: access: unknown key 'anonymus'; the keys are audience, issuer"),
            ("[access]\nleeway = '6m'\n", "line 2: access.leeway: 360s is too long"),
            ("[access]\n\nleeway = 30\n", "line 3: access.leeway: write it as a string"),
            ("[access]\nquery = 'no'\n", "line 2: access.query: write true or false"),
            ("[access]\ncookie = 'a b'\n", "line 2: access.cookie: write a name"),
            ("[access.anonymous]\nread = ['ok', 'a//b']\n", "line 2: access.anonymous.read: the pattern has a segment"),
            (
                "[access.anonymous]\nread = [\n'ok',\n'a{'\n]\n",
                "line 4: access.anonymous.read: the pattern 'a{' has a brace",
            ),
            ("[access.anonymous]\nread = ['{sub}']\n", "line 1: access.anonymous: a rule for everybody has no place"),
            (
                "[access.anonymous]\nwrite = ['x']\n",
                "line 2: access.anonymous: unknown key 'write'; the keys are read, append",
            ),
            ("[access.authenticated]\nread = ['x']\n", "line 1: access.authenticated: these rules are for tokens"),
            ("[access.hook]\ncache = '1s'\n", "line 1: access.hook: give url ="),
            ("[access.hook]\nurl = 'nowhere'\n", "line 2: access.hook.url: 'nowhere' is not a URL"),
            ("[access.hook]\nurl = 'http://a/'\nretry = 1\n", "line 3: access.hook: unknown key 'retry'"),
            ("[access.hook]\nurl = 'ftp://a/'\n", "line 1: access.hook: url: write one that begins with https://"),
            ("[access.keys]\nalgorithm = 'HS256'\n", "line 1: access.keys: write [[access.keys]]"),
            ("[[access.keys]]\nalgorithm = 'none'\n", "line 2: access.keys.algorithm: 'none' is not one of HS256"),
            ("[[access.keys]]\nsecret = 'x'\n", "line 1: access.keys: name what its tokens are signed by"),
            ("[[access.keys]]\nalgorithm = 'HS256'\n", "line 1: access.keys: give one of secret"),
            (
                "[[access.keys]]\nalgorithm = 'HS256'\nsecret = 'x'\nkey = 'y'\n",
                "line 1: access.keys: give one of secret",
            ),
            (
                "[[access.keys]]\nalgorithm = 'HS256'\nsecret-file = 'none'\n",
                "line 3: access.keys.secret-file: DIR/none cannot be read",
            ),
            (
                "[[access.keys]]\nalgorithm = 'HS256'\nsecret = 'x'\nstale = '1h'\n",
                "line 4: access.keys: stale belongs to jwks",
            ),
            (
                "[access]\naudience = 'a'\n\n[[access.keys]]\nalgorithm = 'HS256'\nsecret-file = 'short.secret'\n",
                "line 4: access.keys: the secret has 5 bytes",
            ),
            (
                "[[access.keys]]\nalgorithm = 'HS256'\nsecret-file = 'good.secret'\n",
                "line 1: access.audience: name what the 'aud'",
            ),
            (
                "[access]\naudience = 'a'\n[[access.keys]]\nalgorithm = 'RS256'\njwks = 'http://id.example/'\n",
                "line 3: access.keys: jwks: keys that come over the network unprotected",
            ),
        ] {
            let error = understood(text, &[]).expect_err(text);
            assert!(error.starts_with(&format!("FILE {why}")), "{text}: {error}");
            assert!(!error.contains("32 bytes, or"), "no secret is shown: {error}");
        }
    }

    #[test]
    fn beyond_loopback_somebody_has_to_say_who_may() {
        let rules = "[access.anonymous]\nread = ['**']\n";
        for listen in ["0.0.0.0:4437", "[::]:4437", "192.0.2.1:80"] {
            let error = understood("", &[("listen", listen)]).unwrap_err();
            assert!(error.starts_with("--listen: others than this machine reach"), "{error}");
            assert!(error.contains("[access.anonymous]") && error.contains("--insecure-open"), "{error}");
            assert!(understood(rules, &[("listen", listen)]).is_ok());
            assert!(understood("", &[("listen", listen), ("insecure-open", "true")]).unwrap().insecure_open);
            assert!(understood("insecure-open = true\n", &[("listen", listen)]).is_ok());
        }
        for listen in ["127.0.0.1:0", "127.1.2.3:80", "[::1]:0"] {
            assert!(understood("", &[("listen", listen)]).is_ok());
        }
        let both = format!("insecure-open = true\n{rules}");
        let error = understood(&both, &[]).unwrap_err();
        assert!(error.starts_with("FILE line 1: insecure-open: there are [access] rules"), "{error}");
        assert!(understood("insecure-open = 'perhaps'\n", &[]).is_err());
    }

    #[test]
    fn the_help_names_every_key() {
        for key in SECTION.iter().chain(OF_A_KEY).chain(OF_THE_HOOK) {
            assert!(HELP.contains(key), "{key}");
        }
        for verb in Verb::ALL {
            assert!(HELP.contains(verb.as_str()), "{verb}");
        }
    }
}
