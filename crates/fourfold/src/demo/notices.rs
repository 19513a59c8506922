//! Notifications out of what happens in the demo: a task has ended, somebody wrote in a room.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::feed::{FeedError, Kept, ensured, last_number, now_ms, read_on, record};
use crate::{
    client::{Client, Server},
    message::Format,
    producer::Producer,
    retry::Retry,
};

/// The stream of notifications; each visitor has a read position of its own, which is a stream, too.
pub(super) const STREAM: Kept = Kept { stream: "demo/notices", age: Duration::from_secs(86_400), records: 500 };

/// The rooms of the chat, as streams.
pub(super) const ROOMS: [&str; 3] = ["lobby", "workshop", "garden"];

/// What a room keeps for those who come later.
const ROOM_AGE: Duration = Duration::from_secs(7 * 86_400);
const ROOM_RECORDS: u32 = 500;

/// The longest text that a notification repeats, in characters.
const EXCERPT_MAX: usize = 120;

/// Something that happened.
#[derive(Debug)]
pub(super) enum Notice {
    /// A task has ended.
    Task { task: String, text: String },
    /// Somebody wrote.
    Chat { room: &'static str, said: Said },
}

/// A record of a room, as far as it matters here. Anybody may append anything.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Said {
    /// Which visitor, so that nobody is told of his own words.
    by: String,
    from: String,
    text: String,
}

/// The stream of a room.
pub(super) fn room_stream(room: &str) -> String {
    format!("demo/chat/{room}")
}

/// Creates a room; where its notices begin.
pub(super) async fn open_room(url: &str, room: &'static str) -> Result<(Client, String, Retry), FeedError> {
    let client = Client::new(Server::open(url)?, &room_stream(room))?;
    let mut retry = Retry::new(client.server(), None);
    let retention = [
        ("stream-retention-age", ROOM_AGE.as_secs().to_string()),
        ("stream-retention-records", ROOM_RECORDS.to_string()),
    ];
    let metadata = client.ensure(Some("application/json"), &retention, &mut retry).await?;
    Ok((client, metadata.next_offset, retry))
}

/// Tells of everything that is said in a room, for ever.
pub(super) async fn listen(
    room: &'static str,
    (client, mut offset, mut retry): (Client, String, Retry),
    notices: mpsc::Sender<Notice>,
) -> Result<(), FeedError> {
    loop {
        let message = read_on(&client, &offset, "&live=long-poll", &mut retry).await?;
        for text in &message.records {
            let said = serde_json::from_str(text.get()).unwrap_or_default();
            let _ = notices.send(Notice::Chat { room, said }).await;
        }
        if let Some(next) = message.stream_next_offset {
            offset = next;
        }
    }
}

/// Appends the notices, numbered, for ever.
pub(super) async fn publish(url: &str, mut notices: mpsc::Receiver<Notice>) -> Result<(), FeedError> {
    let (client, mut retry) = ensured(url, STREAM).await?;
    let mut n = last_number(&client, &mut retry).await?;
    let (sender, mut records) = mpsc::channel(16);
    let mut producer = Producer::new(client, Format::Json, retry);
    let numbered = async {
        while let Some(notice) = notices.recv().await {
            n += 1;
            let mut value = described(notice);
            value["n"] = n.into();
            value["at"] = now_ms().into();
            if sender.send(record(value.to_string())).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = numbered => Ok(()),
        produced = producer.run(&mut records, |_| {}) => Ok(produced?),
    }
}

fn described(notice: Notice) -> Value {
    match notice {
        Notice::Task { task, text } => json!({"kind": "task", "task": task, "text": text}),
        Notice::Chat { room, said } => {
            let cut = |text: &str| text.chars().take(EXCERPT_MAX).collect::<String>();
            json!({"kind": "chat", "room": room, "by": cut(&said.by), "from": cut(&said.from), "text": cut(&said.text)})
        }
    }
}
