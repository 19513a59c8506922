# `just` lists; everything here is one command that can be typed without it.

_list:
    @just --list

# The main job: this machine's vitals in a page, by four transports.
demo:
    cargo run --release -- demo

# All tests; or one part: lint, rust, sdk, conformance, guides, autobahn, browser.
test *PARTS:
    bash tests/run {{PARTS}}

# What hosted CI runs.
ci:
    bash .ci/run

# What an idle connection costs, by transport.
idle CONNECTIONS="5000":
    cargo build --release
    cargo run --release --example idle_connections -- target/release/fourfold {{CONNECTIONS}}

# Every Autobahn case, also the slow ones.
autobahn-all:
    tests/autobahn/run --all
