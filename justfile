# Everything that CI checks.
check:
    .ci/run

# All tests, with the command of the README.
test *arguments:
    cargo test --workspace {{arguments}}

# All stages in one process, on ./millstream-data.
up *arguments:
    cargo run --release -- up {{arguments}}
