//! Bytes of a target's output into records, by their content type. Pure; each gives a record with the push that completes it, and holds no more than one
//! record that is not whole.
//!
//! To add one: a file with `push` and `finish`, a line in [`Splitter::of`].

mod events;
mod json;
mod lines;
mod text;

use bytes::Bytes;
use fourfold_protocol::record::is_content_type;

use self::{events::Events, json::Values, lines::Lines, text::Text};
use crate::{
    config::{CallConfig, Portions, Target},
    limits::PORTION_BYTES,
};

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
///
/// Records of one push share its allocation. How the output was cut into pushes shows only where its type has no records of its own (text and bytes).
#[derive(Debug)]
pub(crate) enum Splitter {
    /// Each JSON value at the top is a record.
    Json(Values),
    /// Each event is a record: a JSON object.
    Events(Events),
    /// Each line is a record.
    Lines(Lines),
    /// What came at once is a record, between two characters.
    Text(Text),
    /// What came at once is a record.
    Bytes,
}

impl Splitter {
    /// The content type of the stream, and what cuts an output of `content_type` into its records.
    ///
    /// A text in another charset than UTF-8 becomes `application/octet-stream`: every reader takes the records of a `text/*` stream for UTF-8.
    pub(crate) fn of(content_type: &str, config: &CallConfig) -> (String, Self) {
        let max = config.portion_bytes_max;
        let bytes_type = "application/octet-stream";
        let content_type = if is_content_type(content_type) { content_type } else { bytes_type };
        let json = |splitter| ("application/json".to_owned(), splitter);
        let by_lines = matches!(&config.target, Target::Command(program) if program.portions == Portions::Lines);
        let lines = |is_text| Self::Lines(Lines::new(is_text, max));
        match Form::of(content_type) {
            Form::Json { in_sequence } => json(Self::Json(Values::new(in_sequence, max))),
            Form::Events => json(Self::Events(Events::new(max))),
            Form::Text => (content_type.to_owned(), if by_lines { lines(true) } else { Self::Text(Text::default()) }),
            Form::Bytes => {
                let kept = if is_texts_name(content_type) { bytes_type } else { content_type };
                (kept.to_owned(), if by_lines { lines(false) } else { Self::Bytes })
            }
        }
    }

    /// Takes the next bytes and adds the records that they complete.
    ///
    /// Errors: [`Malformed`]; the records before the broken place have been added. Nothing can be pushed after it.
    pub(crate) fn push(&mut self, bytes: Bytes, records: &mut Vec<Bytes>) -> Result<(), Malformed> {
        match self {
            Self::Json(values) => values.push(&bytes, records),
            Self::Events(events) => events.push(&bytes, records),
            Self::Lines(lines) => lines.push(&bytes, records),
            Self::Text(text) => text.push(&bytes, records),
            Self::Bytes => {
                in_portions(&bytes, |_| true, records);
                Ok(())
            }
        }
    }

    /// The output came whole: adds what it leaves.
    ///
    /// Errors: [`Malformed`] if it ends within a record that has an end of its own.
    pub(crate) fn finish(&mut self, records: &mut Vec<Bytes>) -> Result<(), Malformed> {
        match self {
            Self::Json(values) => values.finish(records),
            Self::Lines(lines) => lines.finish(records),
            Self::Text(text) => text.finish(),
            // An event without the empty line at its end is none: no reader of event streams would tell it.
            Self::Events(_) | Self::Bytes => Ok(()),
        }
    }

    /// The output broke off: adds what can be told of it all the same, the beginning of a line. Part of a value or of an event says nothing.
    pub(crate) fn cut(&mut self, records: &mut Vec<Bytes>) {
        if let Self::Lines(lines) = self {
            let _ = lines.finish(records); // A line that is no text cannot be told; that the output broke off is.
        }
    }
}

/// What a content type means for the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json {
        in_sequence: bool,
    },
    Events,
    /// UTF-8.
    Text,
    Bytes,
}

impl Form {
    fn of(content_type: &str) -> Self {
        let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            "application/json-seq" => Self::Json { in_sequence: true },
            "application/json" | "application/x-ndjson" | "application/ndjson" | "application/jsonl" => {
                Self::Json { in_sequence: false }
            }
            json if json.ends_with("+json") => Self::Json { in_sequence: false },
            "text/event-stream" => Self::Events, // Always UTF-8, whatever it says.
            text if text.starts_with("text/") && is_utf8(content_type) => Self::Text,
            _ => Self::Bytes,
        }
    }
}

fn is_texts_name(content_type: &str) -> bool {
    content_type.trim_start().get(..5).is_some_and(|kind| kind.eq_ignore_ascii_case("text/"))
}

/// Whether a text's charset is UTF-8, a part of it, or not said.
fn is_utf8(content_type: &str) -> bool {
    content_type
        .split(';')
        .skip(1)
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))
        .is_none_or(|(_, charset)| {
            let charset = charset.trim().trim_matches('"');
            ["utf-8", "utf8", "us-ascii", "ascii"].iter().any(|known| known.eq_ignore_ascii_case(charset))
        })
}

/// Adds `bytes` in portions of at most [`PORTION_BYTES`], cut before a byte that `may_begin` one.
fn in_portions(bytes: &Bytes, may_begin: impl Fn(u8) -> bool, records: &mut Vec<Bytes>) {
    let mut rest = bytes.clone();
    while rest.len() > PORTION_BYTES {
        let cut = (1..=PORTION_BYTES).rev().find(|&at| may_begin(rest[at])).unwrap_or(PORTION_BYTES);
        records.push(rest.split_to(cut));
    }
    if !rest.is_empty() {
        records.push(rest);
    }
}

fn malformed(text: String) -> Malformed {
    Malformed { code: "malformed", text }
}

fn too_large(what: &str, begun_at: u64, max: usize) -> Malformed {
    Malformed {
        code: "too-large",
        text: format!("the {what} that begins at byte {begun_at} has more than {max} bytes"),
    }
}

/// What the splitters' tests ask of all of them.
#[cfg(test)]
mod proof {
    use super::*;
    use proptest::{prelude::*, sample::Index};

    pub(super) type Outcome = (Vec<Bytes>, Result<(), Malformed>);

    /// Pushes the pieces and finishes.
    pub(super) fn all(mut splitter: Splitter, pieces: &[&[u8]]) -> Outcome {
        let mut records = Vec::new();
        for piece in pieces {
            if let Err(broken) = splitter.push(Bytes::copy_from_slice(piece), &mut records) {
                return (records, Err(broken));
            }
        }
        let end = splitter.finish(&mut records);
        (records, end)
    }

    /// The records as text, for the eye.
    pub(super) fn texts(outcome: &Outcome) -> Vec<&str> {
        outcome.0.iter().map(|record| std::str::from_utf8(record).unwrap()).collect()
    }

    pub(super) fn cuts() -> impl Strategy<Value = Vec<Index>> {
        prop::collection::vec(any::<Index>(), 0..20)
    }

    pub(super) fn pieces<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        at.extend([0, bytes.len()]);
        at.sort_unstable();
        at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
    }

    /// Bytes of which every splitter makes something.
    pub(super) fn noise() -> impl Strategy<Value = Vec<u8>> {
        let words: [&[u8]; 24] = [
            b"{",
            b"}",
            b"[",
            b"]",
            b"\"",
            b"\\",
            b",",
            b":",
            b" ",
            b"\n",
            b"\r",
            b"\x1e",
            b"1",
            b"-",
            b"true",
            b"data: x",
            b"id: 7",
            b"event: e",
            "ü😀".as_bytes(),
            b"\xff",
            b"\xc3",
            b"\xef\xbb\xbf",
            b"{\"a\":[1,\"}\"]}",
            b"\"\\\"\"",
        ];
        prop::collection::vec(prop::sample::select(words.to_vec()), 0..40).prop_map(|words| words.concat())
    }
}

#[cfg(test)]
mod tests {
    use super::{proof::*, *};
    use proptest::prelude::*;

    fn config(text: &str) -> CallConfig {
        toml::from_str(text).unwrap()
    }

    fn of(content_type: &str) -> (String, Splitter) {
        Splitter::of(content_type, &config("url = 'http://a/'"))
    }

    #[test]
    fn the_content_type_says_what_a_record_is() {
        for json in [
            "application/json",
            "application/JSON; charset=utf-8",
            "application/x-ndjson",
            "application/ndjson",
            "application/jsonl",
            "application/problem+json",
            "application/json-seq",
        ] {
            let (stream, splitter) = of(json);
            assert_eq!(stream, "application/json", "{json}");
            assert!(matches!(splitter, Splitter::Json(_)), "{json}");
        }
        let (stream, splitter) = of("text/event-stream; charset=latin1");
        assert_eq!(stream, "application/json");
        assert!(matches!(splitter, Splitter::Events(_)));
        for text in [
            "text/html; charset=utf-8",
            "text/plain",
            "TEXT/csv; header=present; Charset=\"UTF-8\"",
            "text/x; charset=us-ascii",
        ] {
            let (stream, splitter) = of(text);
            assert_eq!(stream, text);
            assert!(matches!(splitter, Splitter::Text(_)), "{text}");
        }
        for bytes in ["application/pdf", "image/png; a=b", "application/xhtml+xml"] {
            let (stream, splitter) = of(bytes);
            assert_eq!(stream, bytes);
            assert!(matches!(splitter, Splitter::Bytes), "{bytes}");
        }
        for other in ["", "nonsense", "text/html; charset=iso-8859-1", "text/plain;charset=Shift_JIS", "text/"] {
            let (stream, splitter) = of(other);
            assert_eq!(stream, "application/octet-stream", "{other}");
            assert!(matches!(splitter, Splitter::Bytes), "{other}");
        }
    }

    #[test]
    fn a_program_s_output_is_cut_by_lines_unless_it_is_json_or_bytes() {
        let program =
            |more: &str, content_type| Splitter::of(content_type, &config(&format!("command = ['a']\n{more}")));
        assert!(matches!(program("", "text/plain; charset=utf-8").1, Splitter::Lines(_)));
        assert!(matches!(program("", "application/pdf").1, Splitter::Lines(_)));
        assert!(matches!(program("", "application/x-ndjson").1, Splitter::Json(_)));
        assert!(matches!(program("portions = 'bytes'", "text/plain").1, Splitter::Text(_)));
        assert!(matches!(program("portions = 'bytes'", "image/png").1, Splitter::Bytes));
    }

    #[test]
    fn a_large_read_is_cut_and_loses_nothing() {
        let bytes = Bytes::from(vec![7; 2 * PORTION_BYTES + 1]);
        let mut records = Vec::new();
        Splitter::Bytes.push(bytes.clone(), &mut records).unwrap();
        assert_eq!(records.iter().map(Bytes::len).collect::<Vec<_>>(), [PORTION_BYTES, PORTION_BYTES, 1]);
        assert_eq!(records.concat(), bytes);
    }

    proptest! {
        #[test]
        fn any_cutting_of_any_bytes_gives_the_same(noise in noise(), cuts in cuts(), max in 4_usize..60) {
            let mut config = config("url = 'http://a/'");
            config.portion_bytes_max = max;
            let mut program = self::config("command = ['a']");
            program.portion_bytes_max = max;
            for (content_type, config) in [
                ("application/json", &config), ("application/json-seq", &config), ("text/event-stream", &config), ("text/plain", &program),
                ("application/pdf", &program),
            ] {
                let splitter = || Splitter::of(content_type, config).1;
                let (whole, cut) = (all(splitter(), &[&noise]), all(splitter(), &pieces(&noise, &cuts)));
                prop_assert_eq!(&whole, &cut, "{}", content_type);
            }
            for (content_type, config) in [("text/plain", &config), ("application/pdf", &config)] {
                let splitter = || Splitter::of(content_type, config).1;
                let (whole, cut) = (all(splitter(), &[&noise]), all(splitter(), &pieces(&noise, &cuts)));
                prop_assert_eq!(whole.0.concat(), cut.0.concat(), "{}", content_type);
                prop_assert_eq!(whole.1, cut.1, "{}", content_type);
            }
        }
    }
}
