//! What the settings of limits mean.

use std::time::Duration;

use fourfold_server::{ForwardedHeader, LimitOptions, Network, PerAddress, Rate};

use super::{
    ConfigError, count, one_of, optional, required,
    settings::{self, Setting},
    to_usize,
    typed::Typed,
    units, within,
};

pub(super) const CONNECTIONS_LIMIT: u64 = 10_000_000; // About 80 GB of kernel and process memory: beyond one machine.
const BUDGET_MIN: u64 = 1 << 20; // With less not even one ordinary body fits.

const STALL_WAIT_MIN: Duration = Duration::from_secs(1); // Less than that is lost on any line.
const STALL_WAIT_LIMIT: Duration = Duration::from_secs(60 * 60);

/// The settings that a running server can take over.
pub(crate) const KEYS: &[&str] = &[
    "connections-max",
    "connections-per-address",
    "connections-per-token",
    "requests-per-address",
    "appends-per-address",
    "requests-per-token",
    "appends-per-token",
    "appends-per-stream",
    "streams-max",
    "streams-per-token",
    "bytes-per-token",
    "storage-max",
    "record-max",
    "batch-max",
    "bodies-max",
    "unsent-max",
    "stall-timeout",
    "trusted-proxies",
    "forwarded-header",
    "proxy-protocol",
];

/// Understands all of them; so many connections fit if that is not said.
pub(super) fn understand(typed: &Typed, connections_default: u64) -> Result<LimitOptions, ConfigError> {
    use settings::*;
    let defaults = LimitOptions::default();
    let connections = |text: &str| or_none(text, |text| count(text, CONNECTIONS_LIMIT).map(to_u32));
    let rate = |text: &str| or_none(text, Rate::parse);
    let budget = |setting| {
        required(typed, setting, |text| match units::size(text)? {
            size if size >= BUDGET_MIN => Ok(to_usize(size)),
            _ => Err(format!("'{text}' is too little; give at least 1MiB")),
        })
    };
    Ok(LimitOptions {
        connections_max: to_usize(
            optional(typed, &CONNECTIONS_MAX, |text| count(text, CONNECTIONS_LIMIT))?.unwrap_or(connections_default),
        ),
        connections_per_address: per_address(
            typed,
            &CONNECTIONS_PER_ADDRESS,
            defaults.connections_per_address,
            connections,
        )?,
        connections_per_token: required(typed, &CONNECTIONS_PER_TOKEN, connections)?,
        requests_per_address: per_address(typed, &REQUESTS_PER_ADDRESS, defaults.requests_per_address, rate)?,
        appends_per_address: per_address(typed, &APPENDS_PER_ADDRESS, defaults.appends_per_address, rate)?,
        requests_per_token: required(typed, &REQUESTS_PER_TOKEN, rate)?,
        appends_per_token: required(typed, &APPENDS_PER_TOKEN, rate)?,
        appends_per_stream: required(typed, &APPENDS_PER_STREAM, rate)?,
        streams_max: required(typed, &STREAMS_MAX, |text| or_none(text, |text| count(text, u64::MAX)))?,
        streams_per_token: required(typed, &STREAMS_PER_TOKEN, |text| or_none(text, |text| count(text, u64::MAX)))?,
        bytes_per_token: required(typed, &BYTES_PER_TOKEN, |text| or_none(text, units::size))?,
        storage_bytes_max: required(typed, &STORAGE_MAX, |text| or_none(text, units::size))?,
        record_bytes_max: required(typed, &RECORD_MAX, |text| or_none(text, units::size))?.map(to_usize),
        batch_records_max: required(typed, &BATCH_MAX, |text| or_none(text, |text| count(text, u64::MAX)))?
            .map(to_usize),
        bodies_bytes_max: budget(&BODIES_MAX)?,
        unsent_bytes_max: budget(&UNSENT_MAX)?,
        stall_wait_max: required(typed, &STALL_TIMEOUT, |text| {
            within(units::duration(text)?, STALL_WAIT_MIN, STALL_WAIT_LIMIT)
        })?,
        trusted_proxies: required(typed, &TRUSTED_PROXIES, Network::parse_all)?,
        forwarded_header: match required(typed, &FORWARDED_HEADER, |text| {
            one_of(text, &["x-forwarded-for", "forwarded"])
        })? {
            "forwarded" => ForwardedHeader::Forwarded,
            _ => ForwardedHeader::XForwardedFor,
        },
        proxy_protocol: required(typed, &PROXY_PROTOCOL, |text| one_of(text, &["on", "off"]))? == "on",
    })
}

fn per_address<T>(
    typed: &Typed,
    setting: &Setting,
    default: PerAddress<T>,
    parse: impl FnOnce(&str) -> Result<Option<T>, String>,
) -> Result<PerAddress<T>, ConfigError> {
    Ok(optional(typed, setting, parse)?.map_or(default, |max| PerAddress { max, also_local: true }))
}

fn or_none<T>(text: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    match text {
        "none" => Ok(None),
        text => parse(text).map(Some).map_err(|why| format!("{why}, or 'none'")),
    }
}

fn to_u32(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
