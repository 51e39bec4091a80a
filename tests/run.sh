#!/bin/sh
# Everything that proves Manway: real servers are installed here when they are missing and we may install them.
set -eu
bin=.venv/bin
wanted=""
command -v mosquitto >/dev/null 2>&1 || [ -x /usr/sbin/mosquitto ] || wanted="$wanted mosquitto"
command -v chromium >/dev/null 2>&1 || wanted="$wanted chromium fonts-noto-cjk"
if [ -n "$wanted" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        printf 'Installing%s\n' "$wanted"
        apt-get update -qq
        # shellcheck disable=SC2086
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $wanted >/dev/null
    else
        printf 'Not installed, their tests will be skipped:%s\n' "$wanted" >&2
    fi
fi
[ -n "${MANWAY_INFLUXD:-}" ] || $bin/python -m tests.kit.influx >/dev/null || printf "No influxd could be had; its tests will be skipped.\n" >&2
if [ $# -gt 0 ]; then
    exec $bin/python -m pytest "$@"
fi
# First all that can share the processor, with coverage; then whole processes, which are judged by the clock on the wall.
$bin/python -m pytest -m "not system" --cov --cov-report=
$bin/coverage report --include 'manway/*' --omit 'manway/runtime/*,manway/cli/*' --fail-under=100
$bin/coverage report --omit 'manway/cli/*' --fail-under=95 | tail -n 1
exec $bin/python -m pytest -m system -n 2
