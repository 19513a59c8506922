//! The server from outside: real sockets, raw bytes, and clients of every temper.

mod exposition;
mod h2_client;
mod harness;
mod http;
mod in_pieces;
mod live;
mod secured;
mod websocket;

mod access;
mod bad_bodies;
mod bad_heads;
mod bad_offsets;
mod bad_requests;
mod broken_websockets;
mod caching;
mod calls;
mod endings;
mod extra;
mod gaps;
mod h2;
mod h2_hostile;
mod heartbeats;
mod known_polls;
mod lifetime;
mod message_form;
mod operator;
mod pipelining;
mod restless_streams;
mod slow_clients;
mod tls;
mod transports_agree;
mod undecided;
mod vanishing_clients;
mod websocket_appends;
mod writers;
