# Not built by our tests: they run where there are no containers. It is kept short, so that reading it is enough.
#   docker build -t fourfold . && docker run -p 4437:4437 -v fourfold:/data -v ./fourfold.toml:/fourfold.toml:ro -e FOURFOLD_CONFIG=/fourfold.toml fourfold

FROM rust:1-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends cmake && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# --build-arg FEATURES=otel for traces of appends.
ARG FEATURES=""
RUN cargo build --release --locked -p fourfold --features "$FEATURES"

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    && useradd --system --home-dir /data --shell /usr/sbin/nologin fourfold && install -d -o fourfold -g fourfold -m 0700 /data
COPY --from=build /src/target/release/fourfold /usr/bin/fourfold
USER fourfold
VOLUME /data
# Without rules about who may do what the server refuses to start on this address: mount a file with an [access] section and name it by FOURFOLD_CONFIG.
# Metrics and health are on loopback inside the container; set FOURFOLD_ADMIN_LISTEN=0.0.0.0:5437 to scrape them from outside.
ENV FOURFOLD_LISTEN=0.0.0.0:4437 FOURFOLD_DATA_DIR=/data FOURFOLD_LOG_FORMAT=json
EXPOSE 4437 5437
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s CMD ["fourfold", "check", "--live"]
# The server drains on SIGTERM, which is what 'docker stop' sends; give it longer than drain-deadline: docker stop --time 30.
ENTRYPOINT ["fourfold"]
CMD ["serve"]
