//! Pollers that send the same bytes again and again: whatever they could miss, they do not.

use std::collections::HashSet;

use crate::{
    harness::{Harness, eventually, url},
    http::{Answer, Client},
};

/// Often enough to be known.
const AGAIN: usize = 5;

/// One who polls, always with the same bytes.
struct Poller {
    client: Client,
    bytes: String,
}

impl Poller {
    /// Has read this target, and asks for what is new.
    fn of(harness: &Harness, target: &str, headers: &str) -> Self {
        let mut client = harness.connect();
        client.send(format!("GET {target} HTTP/1.1\r\nhost: x\r\n{headers}\r\n"));
        let first = client.answer().expect(200);
        let tag = first.header("etag");
        Self { bytes: format!("GET {target} HTTP/1.1\r\nhost: x\r\n{headers}if-none-match: {tag}\r\n\r\n"), client }
    }

    fn poll(&mut self) -> Answer {
        self.client.send(&self.bytes);
        self.client.answer()
    }

    #[track_caller]
    fn finds_nothing(&mut self) {
        for _ in 0..AGAIN {
            assert_eq!(self.poll().expect(304).body, b"");
        }
    }
}

fn stream(harness: &Harness, name: &str) -> String {
    harness.create(name, "text/plain");
    harness.append(name, "text/plain", b"one")
}

#[test]
fn a_record_between_two_equal_polls_is_seen_at_once() {
    let harness = Harness::start();
    let mut tail = stream(&harness, "s");
    let mut from_the_start = Poller::of(&harness, &url("s"), "");
    for n in 0..50 {
        let mut at_the_tail = Poller::of(&harness, &format!("{}?offset={tail}", url("s")), "");
        at_the_tail.finds_nothing();
        from_the_start.finds_nothing();
        let record = n.to_string();
        tail = harness.append("s", "text/plain", record.as_bytes());
        assert_eq!(at_the_tail.poll().expect(200).text(), record);
        let all = from_the_start.poll().expect(200);
        assert!(all.text().ends_with(&record), "{}", all.text());
        from_the_start = Poller::of(&harness, &url("s"), "");
    }
}

#[test]
fn every_answer_has_the_headers_of_the_first_and_its_own_advice() {
    let harness = Harness::start();
    let tail = stream(&harness, "s");
    let mut poller = Poller::of(&harness, &format!("{}?offset={tail}", url("s")), "");
    let answers: Vec<Answer> = (0..50).map(|_| poller.poll().expect(304)).collect();
    for name in ["etag", "stream-next-offset", "stream-up-to-date", "cache-control", "vary", "content-security-policy"]
    {
        assert!(answers.iter().all(|answer| answer.header(name) == answers[0].header(name)), "{name}");
    }
    assert!(answers.iter().all(|answer| answer.get("connection").is_none() && answer.get("date").is_some()));
    let advice: HashSet<_> = answers.iter().map(|answer| answer.header("stream-poll-after").to_owned()).collect();
    assert!(advice.len() > 5, "pollers would come in herds: {advice:?}");
}

#[test]
fn the_end_of_a_stream_is_seen_at_once() {
    let harness = Harness::start();
    let tail = stream(&harness, "s");
    let target = format!("{}?offset={tail}", url("s"));
    let mut poller = Poller::of(&harness, &target, "");
    poller.finds_nothing();
    harness.close("s");
    assert_eq!(poller.poll().expect(200).header("stream-closed"), "true");
    let mut poller = Poller::of(&harness, &target, "");
    for _ in 0..AGAIN {
        let answer = poller.poll().expect(304);
        assert_eq!((answer.header("stream-closed"), answer.get("stream-poll-after")), ("true", None));
    }
}

#[test]
fn another_life_of_a_stream_is_seen_at_once() {
    let harness = Harness::start();
    stream(&harness, "s");
    let mut poller = Poller::of(&harness, &url("s"), "");
    poller.finds_nothing();
    harness.ask("DELETE", &url("s"), &[], b"").expect(204);
    poller.poll().problem(404, "stream-not-found");
    stream(&harness, "s");
    assert_eq!(poller.poll().expect(200).text(), "one");
}

#[test]
fn an_expiry_is_seen_by_who_polls_all_the_time_and_a_used_stream_does_not_expire() {
    let harness = Harness::start();
    for name in ["used", "left"] {
        harness.create_with(name, "text/plain", &[("stream-ttl", "1")]);
        harness.append(name, "text/plain", b"one");
    }
    let mut poller = Poller::of(&harness, &url("used"), "");
    let mut watcher = harness.connect();
    eventually("the other stream expires", || {
        poller.poll().expect(304);
        watcher.request("HEAD", &url("left"), &[], b"");
        watcher.answer_to("HEAD").head.status == 404
    });
    poller.poll().expect(304);
}

#[test]
fn what_differs_in_a_header_is_another_poll() {
    let harness = Harness::start();
    stream(&harness, "s");
    let mut poller = Poller::of(&harness, &url("s"), "");
    poller.finds_nothing();
    let form = "accept: application/vnd.fourfold.message+json\r\n";
    let tagged = poller.bytes.clone();
    poller.bytes = tagged.replace("if-none-match", &format!("{form}if-none-match"));
    assert_eq!(poller.poll().expect(200).header("content-type"), "application/vnd.fourfold.message+json");
    let mut message = Poller::of(&harness, &url("s"), form);
    for _ in 0..AGAIN {
        assert_ne!(
            message.poll().expect(304).header("etag"),
            Poller::of(&harness, &url("s"), "").poll().header("etag")
        );
    }
    // The same tag, and the last request of its connection: each is told so.
    for _ in 0..2 * AGAIN {
        let mut last =
            Poller { client: harness.connect(), bytes: tagged.replace("host: x", "host: x\r\nconnection: close") };
        assert_eq!(last.poll().expect(304).header("connection"), "close");
        assert_eq!(last.client.ended(), b"");
    }
    poller.bytes = tagged;
    poller.finds_nothing();
}

#[test]
fn two_streams_are_told_apart() {
    let harness = Harness::start();
    stream(&harness, "a");
    stream(&harness, "b");
    let (mut a, b) = (Poller::of(&harness, &url("a"), ""), Poller::of(&harness, &url("b"), ""));
    let (to_a, to_b) = (a.bytes.clone(), b.bytes);
    let mut polled = |bytes: &str| {
        a.bytes = bytes.to_owned();
        a.poll()
    };
    let (of_a, of_b) = (polled(&to_a).header("etag").to_owned(), polled(&to_b).header("etag").to_owned());
    assert_ne!(of_a, of_b);
    for _ in 0..AGAIN {
        assert_eq!(polled(&to_a).expect(304).header("etag"), of_a);
        assert_eq!(polled(&to_b).expect(304).header("etag"), of_b);
    }
    harness.append("a", "text/plain", b"two");
    assert_eq!(polled(&to_b).expect(304).header("etag"), of_b);
    assert_eq!(polled(&to_a).expect(200).text(), "onetwo");
}

#[test]
fn polls_in_one_write_are_each_answered_and_what_is_behind_them_too() {
    let harness = Harness::start();
    stream(&harness, "s");
    let mut poller = Poller::of(&harness, &url("s"), "");
    poller.finds_nothing();
    for _ in 0..AGAIN {
        poller.client.send(poller.bytes.repeat(3) + "GET /v1/stream/s HTTP/1.1\r\nhost: x\r\n\r\n");
        for _ in 0..3 {
            poller.client.answer().expect(304);
        }
        assert_eq!(poller.client.answer().expect(200).text(), "one");
    }
    let (head, rest) = poller.bytes.split_at(20);
    poller.client.send(head);
    poller.client.send(rest);
    poller.client.answer().expect(304);
}

#[test]
fn who_reads_late_gets_every_answer_whole() {
    let harness = Harness::start();
    stream(&harness, "s");
    let mut poller = Poller::of(&harness, &url("s"), "");
    poller.finds_nothing();
    poller.client = Client::connect_narrow(harness.address);
    for _ in 0..1_000 {
        poller.client.send(&poller.bytes);
    }
    for _ in 0..1_000 {
        poller.client.answer().expect(304);
    }
    poller.finds_nothing();
}

#[test]
fn who_polls_all_the_time_is_let_go_when_the_server_drains() {
    let mut harness = Harness::start();
    stream(&harness, "s");
    let mut poller = Poller::of(&harness, &url("s"), "");
    poller.finds_nothing();
    harness.stop();
    eventually("the connection ends", || {
        poller.client.send(&poller.bytes);
        if poller.client.unread.is_empty() && poller.client.fill() == 0 {
            return true;
        }
        let answer = poller.client.answer().expect(304);
        answer.get("connection").is_some_and(|word| word == "close")
    });
    harness.wait_until_stopped();
}
