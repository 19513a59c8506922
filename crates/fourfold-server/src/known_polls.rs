//! Polls that a shard has answered just now by 304: the same bytes again get the same answer, without being parsed.
//!
//! ```text
//! first time    judged in the long way; only its hash is noted
//! second time   judged in the long way; bytes and answer are kept
//! from then on  equal bytes, the stream stands as it stood: the kept answer, with a fresh Stream-Poll-After
//! after 1 s     as the second time; after 2 s as the first
//! ```
//!
//! Pollers of a stream that stand at its tail send the same bytes, so one of them is judged for all. Nothing is judged here: an answer is given
//! again only while all that it was made of is as it was (the request, the stream's tail, its closing, its end, its oldest record), and for no longer
//! than [`KNOWN_POLL_AGE_MAX`] for the rest (`Date`, what a request may). A request that comes once is never copied.

use std::{
    hash::BuildHasher,
    io::Write,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use fourfold_stream::{Standing, Stream};
use tokio::time::Instant;

use crate::{
    answer::{self, Answer},
    limits::{KNOWN_POLL_AGE_MAX, KNOWN_POLL_BYTES_MAX, KNOWN_POLLS_MAX},
};

/// The polls that a shard knows. Nobody else takes the lock.
#[derive(Debug)]
pub(crate) struct KnownPolls {
    hasher: foldhash::fast::RandomState,
    slots: Mutex<Box<[Slot]>>,
}

/// A read that was not known, on its way to be judged.
#[derive(Debug)]
pub(crate) struct Asking {
    hash: u64,
    /// Its bytes, if it was asked before.
    request: Option<Box<[u8]>>,
}

/// What a 304 was made of, beside the request.
#[derive(Debug)]
pub(crate) struct Grounds {
    pub(crate) stream: Arc<Stream>,
    /// From before it was judged.
    pub(crate) standing: Standing,
}

#[derive(Debug, Default)]
struct Slot {
    hash: u64,
    since: Option<Instant>,
    known: Option<Known>,
}

#[derive(Debug)]
struct Known {
    request: Box<[u8]>,
    /// As it was written last.
    answer: Vec<u8>,
    /// From here on it says when to poll again; nothing does behind the end of a stream.
    advice_at: Option<usize>,
    grounds: Grounds,
}

/// A request has the slots of one row to be in.
const ROW: usize = 4;

/// A poll that comes again within this time is worth keeping; longer than it is kept, so that it is judged but once in between.
const NOTED_AGE_MAX: Duration = KNOWN_POLL_AGE_MAX.saturating_mul(2);

impl Default for KnownPolls {
    fn default() -> Self {
        let slots = (0..KNOWN_POLLS_MAX).map(|_| Slot::default()).collect();
        Self { hasher: foldhash::fast::RandomState::default(), slots: Mutex::new(slots) }
    }
}

impl KnownPolls {
    /// Gives the answer to `write`, and what that returns, if these bytes are a poll that is known; else what to bring to [`learn`](Self::learn),
    /// if they may be one.
    pub(crate) fn answer<T>(&self, request: &[u8], write: impl FnOnce(&[u8]) -> T) -> Result<T, Option<Asking>> {
        if request.len() > KNOWN_POLL_BYTES_MAX || !request.starts_with(b"GET ") {
            return Err(None);
        }
        let hash = self.hasher.hash_one(request);
        let mut slots = self.slots();
        let Some(slot) = row(&mut slots, hash).iter_mut().find(|slot| slot.hash == hash) else {
            return Err(Some(Asking { hash, request: None }));
        };
        let now = Instant::now();
        if slot.is_younger(KNOWN_POLL_AGE_MAX, now)
            && let Some(known) = &mut slot.known
        {
            if *known.request == *request && known.still_holds(now) {
                return Ok(write(&known.answer));
            }
            *slot = Slot::default();
        }
        let again = slot.is_younger(NOTED_AGE_MAX, now);
        Err(Some(Asking { hash, request: again.then(|| request.into()) }))
    }

    /// The request was judged, and this is what it gets; there is no body behind it, and the connection goes on.
    pub(crate) fn learn(&self, asking: Asking, grounds: Grounds, answer: &Answer) {
        let now = Instant::now();
        let mut slots = self.slots();
        let slot = row(&mut slots, asking.hash)
            .iter_mut()
            .min_by_key(|slot| {
                (slot.hash != asking.hash, slot.known.is_some() && slot.is_younger(NOTED_AGE_MAX, now), slot.since)
            })
            .expect("a row has slots");
        let known = asking.request.map(|request| Known::new(request, grounds, answer));
        *slot = Slot { hash: asking.hash, since: Some(now), known };
    }

    fn slots(&self) -> MutexGuard<'_, Box<[Slot]>> {
        self.slots.lock().expect("no code panics while it holds the known polls")
    }
}

fn row(slots: &mut [Slot], hash: u64) -> &mut [Slot] {
    let rows = slots.len() / ROW;
    // The remainder is less than the number of rows, which is a usize.
    let first = (hash % rows as u64) as usize * ROW;
    &mut slots[first..first + ROW]
}

impl Slot {
    fn is_younger(&self, age: Duration, now: Instant) -> bool {
        self.since.is_some_and(|since| now.duration_since(since) < age)
    }
}

impl Known {
    fn new(request: Box<[u8]>, grounds: Grounds, answer: &Answer) -> Self {
        let (mut parts, body) = answer.clone().into_parts();
        let advises = parts.headers.remove(answer::STREAM_POLL_AFTER).is_some();
        let mut answer = answer::to_bytes(parts, &body, false);
        let advice_at = advises.then(|| answer.len() - b"\r\n".len());
        answer.shrink_to(answer.len() + 64); // The advice fits behind it.
        Self { request, answer, advice_at, grounds }
    }

    /// Whether the answer can be given again; then it is ready for it.
    fn still_holds(&mut self, now: Instant) -> bool {
        let Grounds { stream, standing } = &self.grounds;
        let Some(after) = stream.poll_after_if(*standing, now.into_std()) else { return false };
        if let Some(at) = self.advice_at {
            self.answer.truncate(at);
            write!(self.answer, "{}: {}\r\n\r\n", answer::STREAM_POLL_AFTER, after.as_millis())
                .expect("writing to a Vec does not fail");
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use bytes::Bytes;
    use fourfold_protocol::{Epoch, Record, StreamName};
    use fourfold_stream::{Relay, StreamConfig, Streams, Tail};
    use http::StatusCode;

    use super::*;

    fn stream() -> Arc<Stream> {
        let config = StreamConfig { content_type: "text/plain".into(), ..StreamConfig::default() };
        let name = StreamName::new("a").unwrap();
        Streams::new(Relay::new(1).0).heat(&name, Epoch(1), &Arc::new(config), 0, Tail::open(0), None)
    }

    /// The answer if it is known, and else it is judged, and learned.
    fn ask(polls: &KnownPolls, stream: &Arc<Stream>, request: &str) -> Option<String> {
        let asking = match polls.answer(request.as_bytes(), |answer| String::from_utf8(answer.to_vec()).unwrap()) {
            Ok(answer) => return Some(answer),
            Err(asking) => asking?,
        };
        let mut parts = answer::head(StatusCode::NOT_MODIFIED);
        answer::put(&mut parts, answer::STREAM_POLL_AFTER, "7");
        answer::put(&mut parts, http::header::ETAG, "\"x\"");
        let grounds = Grounds { stream: Arc::clone(stream), standing: stream.standing()? };
        polls.learn(asking, grounds, &answer::empty(parts));
        None
    }

    fn kept(polls: &KnownPolls) -> usize {
        polls.slots().iter().filter(|slot| slot.known.is_some()).count()
    }

    const POLL: &str = "GET /v1/stream/a HTTP/1.1\r\nif-none-match: \"x\"\r\n\r\n";

    #[tokio::test(start_paused = true)]
    async fn a_poll_is_kept_when_it_comes_again_and_known_from_then_on() {
        let (polls, stream) = (KnownPolls::default(), stream());
        assert_eq!((ask(&polls, &stream, POLL), kept(&polls)), (None, 0));
        assert_eq!((ask(&polls, &stream, POLL), kept(&polls)), (None, 1));
        let answer = ask(&polls, &stream, POLL).expect("it is known");
        assert!(answer.starts_with("HTTP/1.1 304 Not Modified\r\n"), "{answer}");
        assert!(answer.contains("\r\netag: \"x\"\r\n"), "{answer}");
        assert_eq!(ask(&polls, &stream, &POLL.replace("\"x\"", "\"y\"")), None);
    }

    #[tokio::test(start_paused = true)]
    async fn each_time_it_is_told_anew_when_to_poll_again() {
        let (polls, stream) = (KnownPolls::default(), stream());
        let answers: Vec<_> = (0..100).filter_map(|_| ask(&polls, &stream, POLL)).collect();
        let after = |answer: &String| {
            let (_, after) = answer.split_once("\r\nstream-poll-after: ").expect("it is there");
            let digits = after.strip_suffix("\r\n\r\n").expect("and the head ends there");
            digits.parse::<u64>().expect("a number")
        };
        let advice: HashSet<_> = answers.iter().map(after).collect();
        assert_eq!(answers.len(), 98);
        assert!(advice.len() > 10 && advice.iter().all(|ms| (100..=150).contains(ms)), "{advice:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_judged_again_once_in_its_age_and_forgotten_behind_it() {
        let (polls, stream) = (KnownPolls::default(), stream());
        let mut judged = 0;
        for _ in 0..100 {
            judged += usize::from(ask(&polls, &stream, POLL).is_none());
            tokio::time::advance(KNOWN_POLL_AGE_MAX / 10).await;
        }
        assert_eq!(judged, 11, "twice in the beginning, and then once in ten");
        tokio::time::advance(NOTED_AGE_MAX).await;
        assert_eq!(ask(&polls, &stream, POLL), None);
        assert_eq!(kept(&polls), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_not_known_once_the_stream_has_moved() {
        let (polls, stream) = (KnownPolls::default(), stream());
        let record = Record { position: 0, data: Bytes::from_static(b"x") };
        let changes: [&dyn Fn(); 3] =
            [&|| stream.advance(vec![record.clone()], 1, false, 0), &|| stream.trim(1), &|| {
                stream.advance(Vec::new(), 1, true, 1)
            }];
        for change in changes {
            let known = (0..3).filter_map(|_| ask(&polls, &stream, POLL)).count();
            assert!(known > 0);
            change();
            assert_eq!((ask(&polls, &stream, POLL), kept(&polls)), (None, 0));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_that_is_long_or_no_read_is_looked_up() {
        let polls = KnownPolls::default();
        let looked_up = |request: &str| polls.answer(request.as_bytes(), |_| ()).is_err_and(|asking| asking.is_some());
        assert!(looked_up(POLL) && looked_up(&format!("GET {:1$}", "", KNOWN_POLL_BYTES_MAX - 4)));
        assert!(!looked_up(&format!("GET {:1$}", "", KNOWN_POLL_BYTES_MAX - 3)));
        assert!(!looked_up(&POLL.replace("GET", "POST")));
    }

    #[tokio::test(start_paused = true)]
    async fn many_that_come_once_drive_out_none_that_is_kept() {
        let (polls, stream) = (KnownPolls::default(), stream());
        assert_eq!((0..3).filter_map(|_| ask(&polls, &stream, POLL)).count(), 1);
        for n in 0..10_000 {
            assert_eq!(ask(&polls, &stream, &format!("{POLL}{n}")), None);
        }
        assert!(ask(&polls, &stream, POLL).is_some());
        for n in 0..1_000 {
            (0..3).for_each(|_| drop(ask(&polls, &stream, &format!("{POLL}{n}"))));
        }
        assert_eq!(kept(&polls), KNOWN_POLLS_MAX);
    }
}
