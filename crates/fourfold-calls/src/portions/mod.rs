//! Bytes of a target's output into records, by their content type. Pure.

use bytes::Bytes;

use crate::config::CallConfig;

/// Why an output cannot go on as records: it broke the rules of its own content type, or one record of it is too large.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Malformed {
    /// `malformed` or `too-large`, as the ending tells it.
    pub(crate) code: &'static str,
    /// One clause that names the place.
    pub(crate) text: String,
}

/// Cuts one output into records.
#[derive(Debug)]
pub(crate) struct Splitter {}

impl Splitter {
    /// The content type of the stream, and what cuts an output of `content_type` into its records.
    pub(crate) fn of(content_type: &str, config: &CallConfig) -> (String, Self) {
        let _ = config;
        (content_type.to_owned(), Self {})
    }

    /// Takes the next bytes and adds the records that they complete.
    ///
    /// Errors: [`Malformed`]; the records before the broken place have been added. Nothing can be pushed after it.
    pub(crate) fn push(&mut self, bytes: Bytes, records: &mut Vec<Bytes>) -> Result<(), Malformed> {
        records.push(bytes);
        Ok(())
    }

    /// The output came whole: adds what it leaves.
    ///
    /// Errors: [`Malformed`] if it ends within a record that has an end of its own.
    pub(crate) fn finish(&mut self, _records: &mut Vec<Bytes>) -> Result<(), Malformed> {
        Ok(())
    }
}
