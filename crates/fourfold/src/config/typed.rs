//! The first step of the configuration: what was typed, and where. File, then environment, then flags: the later wins.

use std::{collections::BTreeMap, fmt, fs, path::PathBuf};

use fourfold_access::Options as AccessOptions;
use fourfold_calls::CallConfig;
use toml::de::{DeTable, DeValue};

use super::settings::{ALL, Flags, Setting};
use super::{ConfigError, access, calls};

/// The largest configuration file that is read: a hundred times what all settings need.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where a value was typed, as errors name it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Origin {
    /// `--data-dir`
    Flag(&'static str),
    /// `FOURFOLD_DATA_DIR`
    Variable(String),
    /// A line of the configuration file.
    File {
        /// As it was given.
        path: String,
        /// From 1.
        line: usize,
        /// Which key stands there.
        key: String,
    },
    /// Nobody typed it.
    Default(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(key) => write!(f, "--{key}"),
            Self::Variable(name) => f.write_str(name),
            Self::File { path, line, key } => write!(f, "{path} line {line}: {key}"),
            Self::Default(key) => write!(f, "the default of {key}"),
        }
    }
}

/// A value with its origin.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Value {
    pub(crate) text: String,
    pub(crate) origin: Origin,
}

/// Everything that was typed, by key.
#[derive(Debug, Default)]
pub(crate) struct Typed {
    values: BTreeMap<&'static str, Value>,
    /// The file's `[access]`, likewise.
    pub(crate) access: Option<AccessOptions>,
    /// Files that hold secrets of it.
    pub(crate) secret_files: Vec<PathBuf>,
    /// The file's `[calls.NAME]`: nested, so that only a file can have them.
    pub(crate) calls: BTreeMap<String, CallConfig>,
}

impl Typed {
    /// Gathers flags, environment, the file and the defaults. An empty variable counts as not set.
    ///
    /// Errors: the file cannot be read, is not TOML, or has a key that is no setting.
    pub(crate) fn gather(flags: &Flags, variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let mut typed = Self::default();
        for setting in ALL {
            if let Some(text) = setting.default {
                typed.set(setting, text.to_owned(), Origin::Default(setting.key));
            }
        }
        if let Some(path) = flags.file.clone().or_else(|| variable("FOURFOLD_CONFIG")) {
            typed.read_file(&path)?;
        }
        for setting in ALL {
            if let Some(text) = variable(&setting.variable()) {
                typed.set(setting, text, Origin::Variable(setting.variable()));
            }
            if let Some(text) = flags.values.get(setting.key) {
                typed.set(setting, text.clone(), Origin::Flag(setting.key));
            }
        }
        Ok(typed)
    }

    /// What was typed for `setting`, or its default.
    pub(crate) fn get(&self, setting: &Setting) -> Option<&Value> {
        self.values.get(setting.key)
    }

    fn set(&mut self, setting: &Setting, text: String, origin: Origin) {
        self.values.insert(setting.key, Value { text, origin });
    }

    fn read_file(&mut self, path: &str) -> Result<(), ConfigError> {
        let unreadable = |why: String| ConfigError::File { path: path.to_owned(), why };
        let size = fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
        if size > FILE_BYTES_MAX {
            return Err(unreadable(format!("it is larger than {FILE_BYTES_MAX} bytes")));
        }
        let text = fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
        let line_of = |at: usize| 1 + text.bytes().take(at).filter(|&b| b == b'\n').count();
        let table = DeTable::parse(&text).map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            line: error.span().map_or(1, |span| line_of(span.start)),
            why: error.message().to_owned(),
        })?;
        for (key, value) in table.get_ref() {
            let line = line_of(key.span().start);
            if key.get_ref() == calls::KEY {
                self.calls = calls::read(path, value, line, &line_of)?;
                continue;
            }
            if key.get_ref() == access::KEY {
                let (access, secret_files) = access::read(path, value, line, &line_of)?;
                (self.access, self.secret_files) = (Some(access), secret_files);
                continue;
            }
            let Some(setting) = ALL.iter().find(|setting| setting.key == key.get_ref().as_ref()) else {
                return Err(ConfigError::UnknownKey { path: path.to_owned(), line, key: key.get_ref().to_string() });
            };
            let origin = Origin::File { path: path.to_owned(), line, key: setting.key.to_owned() };
            let text = match value.get_ref() {
                DeValue::String(text) => text.to_string(),
                DeValue::Boolean(flag) => flag.to_string(),
                DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_owned(),
                _ => {
                    return Err(ConfigError::Value {
                        origin,
                        why: "write it as a string in quotes or a whole number".into(),
                    });
                }
            };
            self.set(setting, text, origin);
        }
        Ok(())
    }
}
