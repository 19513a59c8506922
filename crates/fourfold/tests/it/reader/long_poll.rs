//! Long poll.

use reqwest::Response;

use super::{Cut, Reader, answer, cut, header};

pub(super) async fn leg(reader: &mut Reader) -> Result<(), Cut> {
    while !reader.done() {
        // Every fourth or so gathers, and some run into their timeout.
        let terms = match reader.records.len() % 4 {
            0 => "timeout=5&linger=20",
            1 => "timeout=0.05",
            _ => "timeout=5",
        };
        let url = format!("{}?offset={}&live=long-poll&{terms}", reader.target.url(), reader.offset);
        let answer = answer(reader.http.get(url), &[200, 204]).await?;
        let advice = header(&answer, "Stream-Poll-After").map(str::to_owned);
        let leaves = header(&answer, "Connection") == Some("close");
        // Only who is sent away is told when to come back: a long poller comes at once.
        let goodbye = advice.filter(|_| leaves && answer.status() == 204);
        read(reader, answer).await?;
        if goodbye.is_some() {
            reader.goodbye = goodbye;
            return Ok(());
        }
    }
    Ok(())
}

/// Reads what an answer carries.
pub(super) async fn read(reader: &mut Reader, answer: Response) -> Result<(), Cut> {
    let next = header(&answer, "Stream-Next-Offset").expect("every answer says where to go on").to_owned();
    let closed = header(&answer, "Stream-Closed") == Some("true");
    let records = match answer.text().await.map_err(cut)? {
        nothing if nothing.is_empty() => Vec::new(),
        body => reader.target.kind.split(&body),
    };
    reader.take(records, &next, closed);
    Ok(())
}
