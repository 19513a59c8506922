//! Short poll with a limit, and with the tag of the last answer.

use std::time::Duration;

use super::{Cut, Reader, answer, cut, header};

/// The server's advice is for those who have time.
const WAIT_MAX: Duration = Duration::from_millis(40);

pub(super) async fn leg(reader: &mut Reader) -> Result<(), Cut> {
    let mut etag = None::<String>;
    while !reader.done() {
        let mut request = reader.http.get(format!("{}?offset={}&limit=100", reader.target.url(), reader.offset));
        if let Some(etag) = &etag {
            request = request.header("If-None-Match", etag);
        }
        let answer = answer(request, if etag.is_some() { &[200, 304] } else { &[200] }).await?;
        let next = header(&answer, "Stream-Next-Offset").expect("every answer says where to go on").to_owned();
        let closed = header(&answer, "Stream-Closed") == Some("true");
        let wait = header(&answer, "Stream-Poll-After").map(|ms| ms.parse().expect("milliseconds"));
        etag = Some(header(&answer, "ETag").expect("every answer has a tag").to_owned());
        let records = match answer.status().as_u16() {
            304 => Vec::new(),
            // Of a call whose type nobody knows yet.
            _ if header(&answer, "Content-Type") == Some("application/octet-stream") => Vec::new(),
            _ => reader.target.kind.split(&answer.text().await.map_err(cut)?),
        };
        reader.take(records, &next, closed);
        if let Some(ms) = wait {
            tokio::time::sleep(Duration::from_millis(ms).min(WAIT_MAX)).await;
        }
    }
    Ok(())
}
