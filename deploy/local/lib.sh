# shellcheck shell=bash
# What `up` and `down` share: how a process is known again, where things lie, how a service is stopped.
# A set of services lives in one directory:
#   services.lock   held while something starts or stops; its being there says what this directory is
#   env             addresses and credentials, KEY=value lines
#   ports           NAME PORT lines, kept for good
#   millstream.toml Millstream's configuration for this set; data/ is for what it keeps itself
#   NAME/           data, configuration, log and process id of one service: kafka, minio, mosquitto

readonly all_services="kafka minio mosquitto"
# A status of its own: nothing is broken, something is not installed here (EX_UNAVAILABLE of sysexits.h).
readonly unavailable=69

say() { printf '%s\n' "$*" >&2; }

fail() {
    say "error: $*"
    exit 1
}

# A process id alone does not name a process: it is given anew after a while. With the start time and the boot it does.
identity() {
    local pid="$1" stat
    stat="$(cat "/proc/$pid/stat" 2> /dev/null)" || return 1
    # The name, in brackets, may contain anything.
    # shellcheck disable=SC2086 # fields are to be split
    set -- ${stat##*) }
    # A zombie has ended; its parent has not looked yet.
    [ "$1" != Z ] || return 1
    printf '%s %s %s\n' "$pid" "${20}" "$(cat /proc/sys/kernel/random/boot_id)"
}

# The id of the process that a file names, if it still runs.
running() {
    local file="$1" kept
    kept="$(cat "$file" 2> /dev/null)" && [ -n "$kept" ] || return 1
    [ "$(identity "${kept%% *}")" = "$kept" ] || return 1
    printf '%s\n' "${kept%% *}"
}

# Waits until the process is gone. The limit is in tenths of a second.
gone() {
    local file="$1" limit="$2" tick
    for ((tick = 0; tick < limit; tick++)); do
        running "$file" > /dev/null || return 0
        sleep 0.1
    done
    return 1
}

# Asks a process to end, and ends it when it does not: 20 s are enough for Kafka to close its segments.
stop_process() {
    local file="$1" pid
    if pid="$(running "$file")"; then
        kill -TERM "$pid" 2> /dev/null || true
        # One that was stopped by SIGSTOP hears nothing before it goes on.
        kill -CONT "$pid" 2> /dev/null || true
        if ! gone "$file" 200; then
            kill -KILL "$pid" 2> /dev/null || true
            gone "$file" 50 || fail "process $pid does not end, not even after SIGKILL"
        fi
    fi
    rm -f "$file"
}
