//! Appends over WebSocket by an idempotent producer that does not wait for one answer before it sends the next.

use std::collections::VecDeque;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::time::sleep;
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Error, Message},
};

use super::{Account, Batch, Enough, Fate, records};
use crate::{
    reader::{AGAIN, Cut, Target},
    seeded::Seeded,
};

/// Appends on their way at once.
const WINDOW: usize = 12;
const RECORDS_MAX: u64 = 6;

/// Repeats after each cut, in order, what was not acknowledged; each record is there once in the end.
pub(crate) async fn pipeline(target: Target, writer: &str, chance: Seeded, enough: Enough) -> Account {
    let mut pipeline = Pipeline { account: Account::new(writer), waiting: VecDeque::new(), target, chance, enough };
    while pipeline.connection().await.is_err() {
        sleep(AGAIN).await;
    }
    pipeline.account
}

struct Pipeline {
    target: Target,
    chance: Seeded,
    enough: Enough,
    account: Account,
    /// Indices into the account's batches, which are the producer's sequence too.
    waiting: VecDeque<usize>,
}

impl Pipeline {
    /// Until all is written and acknowledged.
    async fn connection(&mut self) -> Result<(), Cut> {
        let url = format!("{}?offset=now", self.target.url().replacen("http", "ws", 1));
        let mut socket = match connect_async(url).await {
            Ok((socket, _)) => socket,
            Err(Error::Http(answer)) if answer.status().as_u16() != 503 => panic!("refused: {answer:?}"),
            Err(error) => return Err(Cut(error.to_string())),
        };
        for seq in self.waiting.clone() {
            socket.send(self.append(seq)).await.map_err(cut)?;
        }
        loop {
            while self.waiting.len() < WINDOW && !self.enough.said() {
                let numbers = self.account.next(&mut self.chance, RECORDS_MAX);
                let seq = self.account.batches.len();
                self.account.batches.push(Batch { numbers, fate: Fate::Unknown });
                self.waiting.push_back(seq);
                socket.send(self.append(seq)).await.map_err(cut)?;
                if self.chance.once_in(3) {
                    break;
                }
            }
            if self.waiting.is_empty() {
                return Ok(());
            }
            match socket.next().await {
                Some(Ok(Message::Text(text))) => {
                    if self.answer(text.as_str()) {
                        sleep(self.chance.pause(0..10)).await;
                    }
                }
                Some(Ok(Message::Ping(_))) => {}
                Some(Ok(other)) => return Err(Cut(format!("{other:?}"))),
                Some(Err(error)) => return Err(cut(error)),
                None => return Err(Cut("no more".into())),
            }
        }
    }

    fn append(&self, seq: usize) -> Message {
        let writer = &self.account.writer;
        let records = records(self.target.kind, writer, &self.account.batches[seq].numbers);
        let array = self.target.kind.array(&records);
        Message::text(format!(
            r#"{{"append":{array},"id":{seq},"producer":{{"id":"{writer}","epoch":0,"seq":{seq}}}}}"#
        ))
    }

    /// Whether it was an answer; the stream's records come too.
    fn answer(&mut self, text: &str) -> bool {
        let message: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!(message.get("error").is_none(), "{text}");
        let Some(ack) = message.get("ack") else { return false };
        let seq = self.waiting.pop_front().expect("answers are to appends");
        assert_eq!(message["id"], seq, "answers come in the order of the appends");
        let next = ack["streamNextOffset"].as_str().expect("an ack has an offset").to_owned();
        self.account.batches[seq].fate = if ack["duplicate"] == true { Fate::Before(next) } else { Fate::At(next) };
        true
    }
}

fn cut(error: Error) -> Cut {
    Cut(error.to_string())
}
