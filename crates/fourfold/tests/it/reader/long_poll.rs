//! Long poll.

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
        let next = header(&answer, "Stream-Next-Offset").expect("every answer says where to go on").to_owned();
        let closed = header(&answer, "Stream-Closed") == Some("true");
        let advice = header(&answer, "Stream-Poll-After").map(str::to_owned);
        let leaves = header(&answer, "Connection") == Some("close");
        let (records, goodbye) = match answer.status().as_u16() {
            // Only who is sent away is told when to come back: a long poller comes at once.
            204 => (Vec::new(), advice.filter(|_| leaves)),
            _ => (reader.target.kind.split(&answer.text().await.map_err(cut)?), None),
        };
        reader.take(records, &next, closed);
        if goodbye.is_some() {
            reader.goodbye = goodbye;
            return Ok(());
        }
    }
    Ok(())
}
