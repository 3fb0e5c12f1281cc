# Sourced by the steps that start processes: a scratch directory and an end for every process started here.

set -euo pipefail
PATH=$PATH:/usr/sbin
work=$(mktemp -d)
pids=()

finish() {
    local code=$?
    for pid in "${pids[@]}"; do
        kill -TERM "$pid" 2>/dev/null || true
    done
    for pid in "${pids[@]}"; do
        wait "$pid" 2>/dev/null || true
    done
    [ "$code" -eq 0 ] || show_logs
    rm -rf "$work"
}
trap finish EXIT
set -E
trap 'echo "$0, line $LINENO: failed: $BASH_COMMAND" >&2' ERR

show_logs() {
    for log in "$work"/*.log; do
        if [ -s "$log" ]; then
            echo "--- $(basename "$log")"
            tail -n 40 "$log"
        fi
    done
}

# Builds the release binary once and leaves its path in $ringgate.
build() {
    cargo build --release --locked --bin ringgate
    ringgate=${CARGO_TARGET_DIR:-target}/release/ringgate
}

# wait_for FILE PATTERN PID: until a line of FILE matches, at most 20 s, while PID lives.
wait_for() {
    for _ in $(seq 400); do
        grep -q "$2" "$1" 2>/dev/null && return 0
        kill -0 "$3" 2>/dev/null || break
        sleep 0.05
    done
    echo "no '$2' in $(basename "$1")" >&2
    return 1
}

# start_ringgate NAME ARGUMENTS..: runs in the background; $pid is its process, NAME.out.log its standard output.
start_ringgate() {
    local name=$1
    shift
    "$ringgate" "$@" >"$work/$name.out.log" 2>"$work/$name.log" &
    pid=$!
    pids+=("$pid")
}

# stop PID: SIGTERM, and the process must end with 0.
stop() {
    kill -TERM "$1"
    wait "$1"
}

# A certificate for 127.0.0.2 that is its own root, and its key, in $work/server.pem and server.key.
make_certificate() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test \
        -addext subjectAltName=IP:127.0.0.2 -addext basicConstraints=critical,CA:FALSE \
        -keyout "$work/server.key" -out "$work/server.pem" 2>"$work/openssl.log"
}

# A real nginx that answers 200, at $nginx_address; after make_certificate, over TLS too, at $nginx_tls_address. The port was free a moment ago; nginx cannot choose one itself, so
# that is retried if somebody was faster.
start_nginx() {
    local port tls=
    for _ in 1 2 3 4 5; do
        port=$((20000 + RANDOM % 10000))
        nginx_tls_address=127.0.0.2:$port
        if [ -e "$work/server.pem" ]; then
            tls="listen $nginx_tls_address ssl; ssl_certificate $work/server.pem; ssl_certificate_key $work/server.key;
                ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache shared:tls:1m;"
        fi
        mkdir -p "$work/nginx"
        cat >"$work/nginx.conf" <<CONF
daemon off;
worker_processes 1;
pid $work/nginx.pid;
error_log stderr warn;
events { worker_connections 4096; }
http {
    access_log off;
    client_body_temp_path $work/nginx;
    proxy_temp_path $work/nginx;
    fastcgi_temp_path $work/nginx;
    uwsgi_temp_path $work/nginx;
    scgi_temp_path $work/nginx;
    keepalive_requests 100000000;
    upstream self {
        server 127.0.0.1:$port;
        keepalive 256;
        keepalive_requests 100000000;
    }
    server {
        listen 127.0.0.1:$port;
        $tls
        location / { default_type text/plain; return 200 "hello from nginx\n"; }
        # The same, at three times the cost.
        location /proxied { proxy_pass http://self/; proxy_http_version 1.1; proxy_set_header Connection ""; }
    }
}
CONF
        nginx -e stderr -p "$work" -c "$work/nginx.conf" >"$work/nginx.log" 2>&1 &
        pid=$!
        for _ in $(seq 100); do
            if curl -sf "http://127.0.0.1:$port/" >/dev/null; then
                pids+=("$pid")
                nginx_address=127.0.0.1:$port
                return 0
            fi
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.05
        done
    done
    echo "nginx does not start" >&2
    return 1
}
