# Everything that CI checks.
check:
    .ci/run

# All tests, with the command of the README.
test *arguments:
    cargo test --workspace {{arguments}}

# All stages in one process, on ./millstream-data.
up *arguments:
    cargo run --release -- up {{arguments}}

# Real Kafka, MinIO and mosquitto on loopback, in ./millstream-services.
services *arguments:
    deploy/local/up {{arguments}}

# Stops them; their data stays.
services-down *arguments:
    deploy/local/down {{arguments}}
