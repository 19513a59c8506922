//! The JSON message that WebSocket and NDJSON readers get, and what a WebSocket client may send.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use crate::{
    Code, Kind, Offset, Portion, Refusal,
    record::{Bounded, elements, gather},
};

/// Writes a portion as one JSON object on one line, without the line's end.
pub fn write(portion: &Portion<'_>, out: &mut Vec<u8>) {
    out.push(b'{');
    if let Some((from, to)) = portion.gap {
        out.extend_from_slice(format!(r#""gap":{{"from":"{from}","to":"{to}"}},"#).as_bytes());
    }
    if !portion.records.is_empty() {
        out.extend_from_slice(b"\"records\":[");
        for (n, record) in portion.records.iter().enumerate() {
            if n > 0 {
                out.push(b',');
            }
            write_record(portion.kind, &record.data, out);
        }
        out.extend_from_slice(b"],");
        if portion.kind == Kind::Binary {
            out.extend_from_slice(b"\"encoding\":\"base64\",");
        }
    }
    write_standing(portion, out);
    out.push(b'}');
}

/// Writes the members that say where the reader stands, as they are in a message and in an SSE control event.
pub(crate) fn write_standing(portion: &Portion<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(format!(r#""streamNextOffset":"{}""#, portion.next).as_bytes());
    if let Some(cursor) = portion.cursor {
        out.extend_from_slice(format!(r#","streamCursor":"{cursor}""#).as_bytes());
    }
    if portion.up_to_date {
        out.extend_from_slice(br#","upToDate":true"#);
    }
    if portion.closed {
        out.extend_from_slice(br#","streamClosed":true"#);
        if let Some(ending) = portion.ending {
            out.extend_from_slice(br#","ending":"#);
            out.extend_from_slice(ending.as_bytes());
        }
    }
}

fn write_record(kind: Kind, data: &[u8], out: &mut Vec<u8>) {
    match kind {
        Kind::Json => out.extend_from_slice(data),
        Kind::Text => {
            let text = std::str::from_utf8(data).expect("text was checked at the door");
            serde_json::to_writer(out, text).expect("a string can be written to memory");
        }
        Kind::Binary => {
            out.push(b'"');
            write_base64(data, out);
            out.push(b'"');
        }
    }
}

pub(crate) fn write_base64(data: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + base64::encoded_len(data.len(), true).expect("a record is far smaller than memory"), 0);
    STANDARD.encode_slice(data, &mut out[start..]).expect("the slice was made as long as the text");
}

/// The message that says goodbye. `after_ms` is when to come back, if that makes sense.
#[must_use]
pub fn goodbye(code: &str, after_ms: Option<u64>, next: Offset) -> String {
    let after = after_ms.map(|ms| format!(r#","reconnectAfterMs":{ms}"#)).unwrap_or_default();
    format!(r#"{{"goodbye":{{"code":"{code}"{after}}},"streamNextOffset":"{next}"}}"#)
}

/// The longest `id` of a client's message, as JSON. It is kept until the answer.
pub const MESSAGE_ID_BYTES_MAX: usize = 256;

/// What a client asks for over WebSocket.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The client's own name for it, as JSON; `null` if it gave none.
    pub id: String,
    /// In order; empty in a pure close.
    pub records: Vec<Bytes>,
    /// Whether to close the stream behind them.
    pub close: bool,
    /// Id, epoch, sequence.
    pub producer: Option<(String, u64, u64)>,
    /// Another token, in place of everything else.
    pub token: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish<'a> {
    #[serde(borrow, default)]
    append: Option<&'a RawValue>,
    #[serde(default)]
    close: bool,
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    producer: Option<&'a RawValue>,
    #[serde(default)]
    encoding: Option<String>,
    #[serde(default)]
    token: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Producer {
    id: String,
    epoch: u64,
    seq: u64,
}

/// The greatest integer that every client's JSON keeps exactly. Spec: "Idempotent Producers".
pub const SAFE_INTEGER_MAX: u64 = (1 << 53) - 1;

/// Reads a client's text message for a stream of this kind.
///
/// Errors: the id to answer to (`null` if there was none to be found) and what was wrong.
pub fn read(kind: Kind, text: &str) -> Result<Request, (String, Refusal)> {
    let invalid = |why: String| Refusal::new(Code::InvalidMessage, why);
    if !text.trim_start().starts_with('{') {
        // serde would take an array for the members in their order.
        return Err(("null".into(), invalid("the message is not a JSON object".into())));
    }
    let wish: Wish<'_> = serde_json::from_str(text)
        .map_err(|e| (id_of(text), invalid(format!("the message is not one that is known here: {e}"))))?;
    let id = wish.id.map_or("null", RawValue::get).to_owned();
    let request = || {
        let is_scalar = id == "null" || id.starts_with('"') || id.starts_with(|c: char| c == '-' || c.is_ascii_digit());
        if id.len() > MESSAGE_ID_BYTES_MAX || !is_scalar {
            return Err(invalid("the id is not a number or a short string".into()));
        }
        if let Some(token) = wish.token {
            if wish.append.is_some() || wish.close || wish.producer.is_some() || wish.encoding.is_some() {
                return Err(invalid("a token comes in a message of its own".into()));
            }
            return Ok(Request {
                id: id.clone(),
                records: Vec::new(),
                close: false,
                producer: None,
                token: Some(token),
            });
        }
        let records = match wish.append {
            None => Vec::new(),
            Some(values) if !values.get().starts_with('[') => {
                return Err(invalid("append is not an array of records".into()));
            }
            Some(values) => records(kind, values.get(), wish.encoding.as_deref())?,
        };
        if records.is_empty() && !wish.close {
            return Err(Refusal::new(Code::EmptyAppend, "the message appends no record and does not close the stream"));
        }
        let producer = wish.producer.map(|json| producer(json.get())).transpose()?;
        Ok(Request { id: id.clone(), records, close: wish.close, producer, token: None })
    };
    request().map_err(|refusal| (if id.len() > MESSAGE_ID_BYTES_MAX { "null".into() } else { id.clone() }, refusal))
}

fn producer(json: &str) -> Result<(String, u64, u64), Refusal> {
    let invalid = |why: String| Refusal::new(Code::InvalidMessage, why);
    if !json.starts_with('{') {
        return Err(invalid("the producer is not an object".into())); // As above.
    }
    let Producer { id, epoch, seq } =
        serde_json::from_str(json).map_err(|e| invalid(format!("the producer is not one that is known here: {e}")))?;
    if id.is_empty() || epoch.max(seq) > SAFE_INTEGER_MAX {
        return Err(invalid("the producer has an empty id, or a number past 2^53-1".into()));
    }
    Ok((id, epoch, seq))
}

fn records(kind: Kind, array: &str, encoding: Option<&str>) -> Result<Vec<Bytes>, Refusal> {
    let invalid = |why: &str| Refusal::new(Code::InvalidMessage, why);
    match (kind, encoding) {
        (Kind::Json, None) => elements(array),
        (Kind::Text, None) => {
            let texts: Bounded<String> =
                serde_json::from_str(array).map_err(|_| invalid("the records of a text stream are strings"))?;
            let texts = texts.all()?;
            Ok(gather(texts.iter().map(String::as_bytes)))
        }
        (Kind::Binary, Some("base64")) => {
            let texts: Bounded<String> = serde_json::from_str(array)
                .map_err(|_| invalid("the records of a binary stream are base64 strings"))?;
            let texts = texts.all()?;
            let decode = |text: &String| STANDARD.decode(text).map_err(|_| invalid("a record is not base64"));
            let parts = texts.iter().map(decode).collect::<Result<Vec<_>, _>>()?;
            Ok(gather(parts.iter().map(Vec::as_slice)))
        }
        (Kind::Binary, None) => {
            Err(invalid("the records of this stream are binary: send base64 strings with \"encoding\":\"base64\""))
        }
        _ => Err(invalid("the encoding is \"base64\", and only for binary streams")),
    }
}

/// The id of a message that cannot be read otherwise, so that its sender can tell which one failed.
fn id_of(text: &str) -> String {
    serde_json::from_str::<Value>(text)
        .ok()
        .and_then(|message| message.get("id").filter(|id| id.is_number() || id.is_string()).map(Value::to_string))
        .filter(|id| id.len() <= MESSAGE_ID_BYTES_MAX)
        .unwrap_or_else(|| "null".into())
}

/// The answer to a request that was done.
#[must_use]
pub fn ack(id: &str, next: Offset, closed: bool, duplicate: bool) -> String {
    let closed = if closed { r#","streamClosed":true"# } else { "" };
    let duplicate = if duplicate { r#","duplicate":true"# } else { "" };
    format!(r#"{{"id":{id},"ack":{{"streamNextOffset":"{next}"{closed}{duplicate}}}}}"#)
}

/// The answer to another token: until when it is good, in milliseconds from now, if it ends.
#[must_use]
pub fn renewed(id: &str, expires_in_ms: Option<u64>) -> String {
    let expires = expires_in_ms.map(|ms| format!(r#""tokenExpiresInMs":{ms}"#)).unwrap_or_default();
    format!(r#"{{"id":{id},"ack":{{{expires}}}}}"#)
}

/// The reminder that a token ends in so long, and that another one can be sent here.
#[must_use]
pub fn token_expires(in_ms: u64, next: Offset) -> String {
    format!(r#"{{"tokenExpiresInMs":{in_ms},"streamNextOffset":"{next}"}}"#)
}

/// The answer to a request that was refused.
#[must_use]
pub fn error(id: &str, refusal: &Refusal) -> String {
    format!(r#"{{"id":{id},"error":{}}}"#, json!(refusal.problem()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Epoch, Record};

    fn at(position: u64) -> Offset {
        Offset { epoch: Epoch(1), position }
    }

    fn written(kind: Kind, records: &[&[u8]]) -> String {
        let records: Vec<_> = (0..)
            .zip(records)
            .map(|(position, data)| Record { position, data: Bytes::copy_from_slice(data) })
            .collect();
        let portion = Portion {
            kind,
            records: &records,
            next: at(9),
            chain: &[],
            up_to_date: true,
            closed: false,
            cursor: Some(7),
            gap: None,
            ending: None,
        };
        let mut out = Vec::new();
        write(&portion, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_kind_is_written_its_own_way() {
        let end = r#""streamNextOffset":"000000000001_0000000000000009","streamCursor":"7","upToDate":true}"#;
        assert_eq!(written(Kind::Json, &[b"1.0", b"{}"]), format!(r#"{{"records":[1.0,{{}}],{end}"#));
        assert_eq!(written(Kind::Text, &[b"a\"\n\x00"]), format!(r#"{{"records":["a\"\n\u0000"],{end}"#));
        assert_eq!(written(Kind::Binary, &[b"\xff"]), format!(r#"{{"records":["/w=="],"encoding":"base64",{end}"#));
        assert_eq!(written(Kind::Json, &[]), format!("{{{end}"));
    }

    #[test]
    fn what_is_sent_can_be_appended() {
        let request =
            read(Kind::Json, r#"{"append":[1.0,{"a":[]}],"id":7,"producer":{"id":"p","epoch":1,"seq":2}}"#).unwrap();
        assert_eq!(request.records, [Bytes::from("1.0"), Bytes::from(r#"{"a":[]}"#)]);
        assert_eq!((request.id.as_str(), request.close), ("7", false));
        assert_eq!(request.producer, Some(("p".into(), 1, 2)));
        assert_eq!(read(Kind::Text, r#"{"append":["a\n"],"id":"x"}"#).unwrap().records, [Bytes::from("a\n")]);
        let binary = read(Kind::Binary, r#"{"append":["/w=="],"encoding":"base64"}"#).unwrap();
        assert_eq!((binary.records, binary.id.as_str()), (vec![Bytes::from_static(b"\xff")], "null"));
        assert!(read(Kind::Json, r#"{"close":true,"id":8}"#).unwrap().close);
        assert_eq!(read(Kind::Text, r#"{"token":"x","id":9}"#).unwrap().token.as_deref(), Some("x"));
    }

    #[test]
    fn a_producer_that_is_an_array_of_its_members_is_refused() {
        let (id, refusal) = read(Kind::Json, r#"{"append":[1],"id":7,"producer":["p",1,2]}"#).unwrap_err();
        assert_eq!((id.as_str(), refusal.code), ("7", Code::InvalidMessage));
        assert_eq!(read(Kind::Json, r#"{"append":[1],"producer":null}"#).unwrap().producer, None);
    }

    #[test]
    fn what_is_refused_names_its_message() {
        for (message, id, code) in [
            ("nonsense", "null", Code::InvalidMessage),
            ("[[1],true,7]", "null", Code::InvalidMessage),
            (r#"{"apend":[1],"id":3}"#, "3", Code::InvalidMessage),
            (r#"{"append":1,"id":"a"}"#, "\"a\"", Code::InvalidMessage),
            (r#"{"append":[],"id":4}"#, "4", Code::EmptyAppend),
            (r#"{"id":5}"#, "5", Code::EmptyAppend),
            (r#"{"append":[1],"id":6,"encoding":"base64"}"#, "6", Code::InvalidMessage),
            (r#"{"append":[1],"id":7,"producer":{"id":"","epoch":0,"seq":0}}"#, "7", Code::InvalidMessage),
            (r#"{"append":[1],"id":[8]}"#, "[8]", Code::InvalidMessage),
            (r#"{"token":"x","append":[1],"id":9}"#, "9", Code::InvalidMessage),
            (r#"{"token":1,"id":9}"#, "9", Code::InvalidMessage),
        ] {
            let (told, refusal) = read(Kind::Json, message).expect_err(message);
            assert_eq!((told.as_str(), refusal.code), (id, code), "{message}");
        }
    }
}
