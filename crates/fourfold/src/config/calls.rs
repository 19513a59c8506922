//! The file's `[calls.NAME]` tables: what each means is said by `fourfold-calls`; here it is found, and a fault is given its line.

use std::collections::BTreeMap;

use fourfold_calls::{CallConfig, Options, config::is_call_name};
use serde::Deserialize;
use toml::{
    Spanned,
    de::{DeString, DeTable, DeValue, ValueDeserializer},
};

use super::{ConfigError, typed::Origin};

/// The file's key.
pub(super) const KEY: &str = "calls";

/// Behind the help of the commands that serve.
pub(super) const HELP: &str = "\
Calls, in the configuration file only: POST /v1/call/NAME makes the server run what a table names.
    [calls.report]
    url = \"http://127.0.0.1:9000/report\"     # or: command = [\"program\", \"argument\"]
Of an upstream:  method, pass-headers, headers, keep-headers, connect-timeout, head-timeout
Of a program:    environment, directory, grace, portions, content-type
Of both:         rest, origins, idle-timeout, total-timeout, body-bytes-max, portion-bytes-max, bytes-max, at-once, per-caller, keep, cancel-unwatched";

/// Understands all of them. `key_line` is where they begin, `line_of` the line of a place in the file.
pub(super) fn read(
    path: &str,
    calls: &Spanned<DeValue<'_>>,
    key_line: usize,
    line_of: &impl Fn(usize) -> usize,
) -> Result<BTreeMap<String, CallConfig>, ConfigError> {
    let fault =
        |line, key: String, why| ConfigError::Value { origin: Origin::File { path: path.to_owned(), line, key }, why };
    let DeValue::Table(tables) = calls.get_ref() else {
        return Err(fault(key_line, KEY.into(), "write [calls.NAME] and its keys below it".into()));
    };
    let mut read = BTreeMap::new();
    for (name, call) in tables {
        let line = line_of(name.span().start);
        let name = name.get_ref().to_string();
        if !is_call_name(&name) {
            let why = format!("'{}' is no name; write 1 to 64 of a-z, A-Z, 0-9, '.', '_' and '-'", name.escape_debug());
            return Err(fault(line, KEY.into(), why));
        }
        let key = format!("{KEY}.{name}");
        let DeValue::Table(keys) = call.get_ref() else {
            return Err(fault(line, key, format!("write it as a table: [{KEY}.{name}] and its keys below it")));
        };
        let config = CallConfig::deserialize(ValueDeserializer::from(call.clone())).map_err(|error| {
            let at = blamed(keys, error.message()).or(error.span().map(|span| span.start));
            fault(at.map_or(line, line_of).max(line), key, error.message().to_owned())
        })?;
        read.insert(name, config);
    }
    // What is left to find is about all of them.
    let options = Options { calls: read, ..Options::default() };
    options.check().map_err(|error| fault(key_line, KEY.into(), error.to_string()))?;
    Ok(options.calls)
}

/// Where the key stands that a fault begins with.
fn blamed(keys: &DeTable<'_>, why: &str) -> Option<usize> {
    let first = why.split([':', ' ', ',']).next()?;
    keys.iter()
        .map(|(key, _)| key)
        .find(|key: &&Spanned<DeString<'_>>| key.get_ref() == first)
        .map(|key| key.span().start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_names_every_key() {
        let error = toml::from_str::<CallConfig>("none = 1").unwrap_err();
        let known: Vec<_> = error.message().split('`').skip(3).step_by(2).collect();
        assert!(known.len() > 20, "{error}");
        for key in known {
            assert!(HELP.contains(key), "{key}");
        }
    }
}
