//! Server-Sent Events: the protocol's `data` and `control`, each with an id, so that a native `EventSource` resumes.
//!
//! Spec: "Read Stream - Live (SSE)". The ids, `gap` and `goodbye` are ours; the base protocol's clients skip them.

use crate::{Kind, Offset, Portion, message};

/// Writes a portion as events: a gap, the data, and a control after each data.
///
/// JSON records come as one array. Other records come as one event each, so that their bounds survive.
pub fn write(portion: &Portion<'_>, out: &mut Vec<u8>) {
    if let Some((from, to)) = portion.gap {
        let gap = format!(r#"{{"gap":{{"from":"{from}","to":"{to}"}},"from":"{from}","to":"{to}"}}"#);
        out.extend_from_slice(format!("event: gap\ndata:{gap}\nid: {to}\n\n").as_bytes());
    }
    match (portion.kind, portion.records) {
        (_, []) => {}
        (Kind::Json, records) => {
            out.extend_from_slice(b"event: data\ndata:[");
            for (n, record) in records.iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(&record.data);
            }
            out.push(b']');
            write_end(portion.next, out);
        }
        (kind, records) => {
            let (last, before) = records.split_last().expect("the empty slice was matched above");
            for record in before {
                let next = portion.offset(record.position + 1);
                write_data(kind, &record.data, next, out);
                write_control(&Portion { next, up_to_date: false, closed: false, ..*portion }, out);
            }
            write_data(kind, &last.data, portion.next, out);
        }
    }
    write_control(portion, out);
}

/// The first line of an answer: how long to wait before a reconnect.
#[must_use]
pub fn retry(after_ms: u64) -> String {
    format!("retry: {after_ms}\n\n")
}

/// A comment, so that proxies and dead connections are noticed.
pub const HEARTBEAT: &[u8] = b":\n\n";

/// The last event of an answer that ends before the stream does.
#[must_use]
pub fn goodbye(code: &str, after_ms: Option<u64>, next: Offset) -> String {
    let retry = after_ms.map(|ms| format!("retry: {ms}\n")).unwrap_or_default();
    format!("{retry}event: goodbye\ndata:{}\nid: {next}\n\n", message::goodbye(code, after_ms, next))
}

fn write_control(portion: &Portion<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: control\ndata:{");
    message::write_standing(portion, out);
    out.push(b'}');
    write_end(portion.next, out);
}

fn write_data(kind: Kind, data: &[u8], next: Offset, out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: data\n");
    if kind == Kind::Binary {
        out.extend_from_slice(b"data:");
        message::write_base64(data, out);
    } else {
        write_lines(data, out);
    }
    write_end(next, out);
}

/// CR LF, CR and LF all end a line of an event stream: whatever stands in the text, each line begins with `data:`, so that a
/// text can forge no field and no event.
fn write_lines(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    loop {
        let end = rest.iter().position(|b| matches!(b, b'\r' | b'\n')).unwrap_or(rest.len());
        // A reader takes one space behind the colon away, so a line that begins with one needs another.
        out.extend_from_slice(if rest.first() == Some(&b' ') { b"data: " } else { b"data:" });
        out.extend_from_slice(&rest[..end]);
        match &rest[end..] {
            [] => return,
            [b'\r', b'\n', behind @ ..] | [_, behind @ ..] => rest = behind,
        }
        out.push(b'\n');
    }
}

fn write_end(next: Offset, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("\nid: {next}\n\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Epoch, Record};
    use bytes::Bytes;
    use proptest::prelude::*;

    fn written(kind: Kind, records: &[&str], closed: bool) -> String {
        let records: Vec<_> = (0..)
            .zip(records)
            .map(|(position, data)| Record { position, data: Bytes::copy_from_slice(data.as_bytes()) })
            .collect();
        let next = Offset { epoch: Epoch(1), position: records.len() as u64 };
        let cursor = (!closed).then_some(5);
        let mut out = Vec::new();
        let chain = &[];
        write(
            &Portion {
                kind,
                records: &records,
                next,
                chain,
                up_to_date: true,
                closed,
                cursor,
                gap: None,
                ending: None,
            },
            &mut out,
        );
        String::from_utf8(out).unwrap()
    }

    /// As the HTML standard says to read an event stream: (event, data, id).
    fn read(text: &str) -> Vec<(String, String, String)> {
        let (mut events, mut event, mut data, mut id) = (vec![], String::new(), String::new(), String::new());
        for line in text.replace("\r\n", "\n").replace('\r', "\n").split('\n') {
            match line.split_once(':').map(|(field, value)| (field, value.strip_prefix(' ').unwrap_or(value))) {
                Some(("event", value)) => event = value.into(),
                Some(("data", value)) => data += &format!("{value}\n"),
                Some(("id", value)) => id = value.into(),
                _ if line.is_empty() && !data.is_empty() => {
                    data.pop();
                    events.push((std::mem::take(&mut event), std::mem::take(&mut data), id.clone()));
                }
                _ => {}
            }
        }
        events
    }

    #[test]
    fn a_control_follows_each_data_and_both_have_the_id() {
        let events = read(&written(Kind::Json, &["1", "{}"], false));
        let id = "000000000001_0000000000000002";
        assert_eq!(events[0], ("data".into(), "[1,{}]".into(), id.into()));
        assert_eq!(events[1].0, "control");
        assert_eq!(events[1].2, id);
        assert_eq!(
            read(&written(Kind::Text, &["a", "b"], false)).iter().map(|e| e.0.as_str()).collect::<Vec<_>>(),
            ["data", "control", "data", "control"]
        );
    }

    #[test]
    fn the_last_record_and_the_end_come_with_one_control() {
        let text = written(Kind::Text, &["a", "b"], true);
        assert_eq!(text.matches("streamClosed").count(), 1);
        assert!(!text.contains("streamCursor"));
    }

    proptest! {
        #[test]
        fn no_text_can_forge_an_event(texts in prop::collection::vec("(data|event|id|:| |\r|\n|x|é){0,12}", 1..4)) {
            let records: Vec<&str> = texts.iter().map(String::as_str).collect();
            let events = read(&written(Kind::Text, &records, false));
            let data: Vec<_> = events.iter().filter(|e| e.0 == "data").map(|e| e.1.clone()).collect();
            let expected: Vec<_> = records.iter().map(|t| t.replace("\r\n", "\n").replace('\r', "\n")).collect();
            prop_assert_eq!(data, expected);
            prop_assert_eq!(events.len(), 2 * records.len());
        }
    }
}
