//! TLS: a certificate and its key, each in a file, or neither.

use std::path::PathBuf;

use super::{
    ConfigError, optional,
    settings::{Setting, TLS_CERT, TLS_KEY},
    typed::Typed,
};

/// Where the certificate and its key are. What is in the files is looked at when the server starts, and at each reload.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TlsFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// Errors: one is there without the other.
pub(super) fn understand(typed: &Typed) -> Result<Option<TlsFiles>, ConfigError> {
    match (file(typed, &TLS_CERT)?, file(typed, &TLS_KEY)?) {
        (Some(cert), Some(key)) => Ok(Some(TlsFiles { cert, key })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(alone(typed, &TLS_CERT, &TLS_KEY)),
        (None, Some(_)) => Err(alone(typed, &TLS_KEY, &TLS_CERT)),
    }
}

fn file(typed: &Typed, setting: &Setting) -> Result<Option<PathBuf>, ConfigError> {
    optional(typed, setting, |text| match text {
        "" => Err("give a file".into()),
        path => Ok(PathBuf::from(path)),
    })
}

fn alone(typed: &Typed, given: &Setting, missing: &Setting) -> ConfigError {
    let origin = typed.get(given).expect("it was given").origin.clone();
    ConfigError::Value { origin, why: format!("give {} as well, or neither: TLS needs both", missing.key) }
}
