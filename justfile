# Everything that CI checks.
check:
    .ci/run

# All tests, with the command of the README.
test *arguments:
    cargo test --workspace {{arguments}}

# All 311,228 readings of the fleet through the real three, behind a broker and at the gateway; CI takes 100,000.
river:
    MILLSTREAM_RIVER_LINES=311228 cargo test --workspace --test it -- river::a_fleet --nocapture

# What it takes, of a release build: `just bench freshness`, `just bench growth`, `just bench year`. Each says what it measures; their files in benches/ say which options there are.
bench name *arguments:
    cargo build --release --workspace --bin millstream
    cargo bench --profile release --workspace --bench {{name}} -- {{arguments}}

# All stages in one process, on ./millstream-data.
up *arguments:
    cargo run --release -- up {{arguments}}

# Real Kafka, MinIO and mosquitto on loopback, in ./millstream-services.
services *arguments:
    deploy/local/up {{arguments}}

# Stops them; their data stays.
services-down *arguments:
    deploy/local/down {{arguments}}
