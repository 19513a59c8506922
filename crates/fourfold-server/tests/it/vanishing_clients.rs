//! Clients that vanish by the hundred, and too many at once.

use fourfold_server::limits::NEXT_REQUEST_BYTES_MAX;

use crate::{
    harness::{Harness, url},
    http::Client,
    live::Live,
    websocket::WebSocket,
};

#[test]
fn the_seats_of_those_who_vanish_come_back() {
    let harness = Harness::start();
    harness.create("s", "application/json");
    let ndjson = [("accept", "application/x-ndjson")];
    for round in 0..3 {
        let mut clients: Vec<Client> = Vec::new();
        for n in 0..120 {
            let mut client = harness.connect();
            match n % 6 {
                0 => {}
                1 => client.send("POST /v1/stream/s HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhalf"),
                2 => client.request("GET", "/v1/stream/s?offset=now&live=long-poll", &[], b""),
                3 => client = Live::on(client, "/v1/stream/s?offset=now&live=long-poll", &ndjson).client,
                4 => client = Live::on(client, "/v1/stream/s?offset=now&live=sse", &[]).client,
                _ => client = WebSocket::on(client, "s", "now", false).client,
            }
            clients.push(client);
        }
        harness.wait_for_connections(121);
        harness.still_serves();
        for (n, client) in clients.into_iter().enumerate() {
            if (n + round) % 2 == 0 { client.vanish() } else { drop(client) }
        }
        harness.wait_for_connections(1);
    }
    assert_eq!(harness.get(&url("s")).text(), "[]");
    harness.still_serves();
}

#[test]
fn a_long_poll_whose_client_goes_behind_its_next_request_frees_its_seat() {
    let harness = Harness::start();
    harness.create("s", "application/json");
    let goes: [fn(Client); 2] = [drop, Client::vanish];
    for (behind, goes) in [("x", goes[0]), ("GET / HTTP/1.1\r\nhost: x\r\n\r\n", goes[1])] {
        let mut client = harness.connect();
        client.request("GET", "/v1/stream/s?offset=now&live=long-poll&timeout=60", &[], b"");
        harness.wait_for_followers("s", 1);
        client.send(behind);
        goes(client);
        harness.wait_for_followers("s", 0);
        harness.wait_for_connections(1);
    }
    // What came meanwhile is answered when the poll is.
    let mut client = harness.connect();
    client.request("GET", "/v1/stream/s?offset=now&live=long-poll&timeout=60", &[], b"");
    harness.wait_for_followers("s", 1);
    for name in ["s", "witness"] {
        let header = ("x", "y".repeat(4_000));
        client.request("GET", &url(name), &[(header.0, &header.1)], b"");
    }
    harness.append("s", "application/json", b"1");
    assert_eq!(client.answer().expect(200).text(), "[1]");
    assert_eq!(client.answer().expect(200).text(), "[1]");
    client.answer().expect(200);
    harness.still_serves();
}

#[test]
fn a_long_poll_whose_client_vanishes_behind_much_more_frees_its_seat_at_its_timeout() {
    let harness = Harness::start();
    harness.create("s", "application/json");
    for (accept, bytes) in [("*/*", NEXT_REQUEST_BYTES_MAX + 1), ("application/x-ndjson", 1)] {
        let mut client = harness.connect();
        client.request("GET", "/v1/stream/s?offset=now&live=long-poll&timeout=0.2", &[("accept", accept)], b"");
        harness.wait_for_followers("s", 1);
        client.send(vec![b'x'; bytes]);
        client.vanish();
        harness.wait_for_connections(1);
    }
    harness.still_serves();
}

#[test]
fn readers_that_vanish_while_records_come_free_their_seats() {
    let harness = Harness::start();
    harness.create("s", "text/plain");
    let clients: Vec<_> = (0..60)
        .map(|n| {
            let client = Client::connect_narrow(harness.address);
            match n % 2 {
                0 => Live::on(client, "/v1/stream/s?offset=now&live=sse", &[]).client,
                _ => WebSocket::on(client, "s", "now", false).client,
            }
        })
        .collect();
    for _ in 0..8 {
        harness.append("s", "text/plain", &[b'x'; 512 * 1024]); // More than they take: the server's writes stall.
    }
    clients.into_iter().for_each(Client::vanish);
    harness.wait_for_connections(1);
    harness.still_serves();
}

#[test]
fn connections_over_the_limit_are_told_to_come_back_and_the_others_go_on() {
    let harness = Harness::with(|settings| settings.limits.connections_max = 4);
    harness.create("s", "application/json");
    harness.wait_for_connections(1);
    let mut sse = Live::sse(&harness, "s", "now");
    let mut socket = WebSocket::greeted(&harness, "s");
    let mut idle = harness.connect();
    idle.request("GET", &url("s"), &[], b"");
    idle.answer().expect(200);
    for n in 0..20 {
        let mut late = harness.connect();
        if n % 2 == 0 {
            late.request("GET", &url("s"), &[], b"");
        }
        let answer = late.answer();
        answer.problem(503, "overloaded");
        assert!((5..=10).contains(&answer.header("retry-after").parse().unwrap()));
        assert_eq!(answer.header("connection"), "close");
        assert_eq!(late.ended(), b"");
    }
    harness.still_serves();
    socket.send(r#"{"append":[1],"id":1}"#);
    assert_eq!(socket.answer()["id"], 1);
    assert_eq!(sse.event_named("data").data, "[1]");
    idle.request("GET", &url("s"), &[], b"");
    assert_eq!(idle.answer().expect(200).text(), "[1]");
    drop(idle);
    harness.wait_for_connections(3);
    assert_eq!(harness.get(&url("s")).expect(200).text(), "[1]");
}
