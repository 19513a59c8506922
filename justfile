# `just` lists; everything here is one command that can be typed without it.

_list:
    @just --list

# The main job: this machine's vitals in a page, by four transports.
demo:
    cargo run --release -- demo

# All tests; or one part: lint, rust, sdk, conformance, guides, gate, autobahn, browser.
test *PARTS:
    bash tests/run {{PARTS}}

# What hosted CI runs.
ci:
    bash .ci/run

# What a delivery costs; takes the arguments of `fourfold bench`.
bench *ARGS:
    cargo run --release -- bench --engine memory {{ARGS}}

# What an idle connection costs, by transport.
idle CONNECTIONS="5000":
    cargo build --release
    for transport in websocket sse long-poll; do target/release/fourfold bench --engine memory --transport $transport --subscribers 0 --writers 0 --seconds 1 --warm-up 0 --idle {{CONNECTIONS}}; done

# Search for bytes that break what a parser promises; fuzz/README.md lists the targets and what cargo-fuzz needs.
fuzz TARGET SECONDS="240":
    RUSTC_BOOTSTRAP=1 cargo fuzz run {{TARGET}} -- -max_total_time={{SECONDS}} -rss_limit_mb=2048

# Every Autobahn case, also the slow ones.
autobahn-all:
    tests/autobahn/run --all

# Fourfold beside its peers, into docs/performance.md; `--quick`, or some parts.
peers *ARGS:
    bench/peers {{ARGS}}
