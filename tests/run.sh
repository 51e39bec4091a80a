#!/bin/sh
# Everything that proves Manway: real servers are installed here when they are missing and we may install them.
set -eu
bin=.venv/bin
wanted=""
command -v mosquitto >/dev/null 2>&1 || [ -x /usr/sbin/mosquitto ] || wanted="$wanted mosquitto"
command -v chromium >/dev/null 2>&1 || wanted="$wanted chromium fonts-noto-cjk"
{ command -v spin && command -v gcc; } >/dev/null 2>&1 || wanted="$wanted spin gcc libc6-dev"
for tool in qemu-system-x86_64 modprobe cpio socat dbus-daemon; do
    command -v $tool >/dev/null 2>&1 || [ -x /usr/sbin/$tool ] ||
        { wanted="$wanted qemu-system-x86 kmod cpio socat dbus-daemon libasound2 libdw1 libglib2.0-0" && break; }
done
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
# BlueZ in a box (docs/radio.md) mostly waits for its machine: it has a process of its own, beside all that can share the processor.
box=$(mktemp)
{
    $bin/python -m tests.bluez_box.image >/dev/null 2>&1 || [ "$(id -u)" != 0 ] || apt-get update -qq || true
    exec $bin/python -m pytest -n 0 -m system tests/bluez_box
} >"$box" 2>&1 &
lane=$!
trap 'kill $lane 2>/dev/null || true; rm -f "$box"' EXIT
# First all that can share the processor, with coverage; then whole processes, which are judged by the clock on the wall.
$bin/python -m pytest -m "not system" --cov --cov-report=
$bin/coverage report --include 'manway/*' --omit 'manway/runtime/*,manway/cli/*' --fail-under=100
$bin/coverage report --omit 'manway/cli/*' --fail-under=95 | tail -n 1
passed=0
wait $lane || passed=$?
cat "$box"
[ $passed = 0 ]
$bin/python -m pytest -m system -n 2
