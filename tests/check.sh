#!/bin/sh
# The static gate; every line fails the whole. `--fix` formats, applies safe fixes and regenerates tables in the docs.
# `--full` adds the weekly lane (tests/check_full.sh).
set -eu
bin=.venv/bin
generated="README.md docs/alarms.md docs/checks.md docs/emergency.md docs/events.md docs/limits.md docs/measurements.md docs/profiles.md docs/rights.md docs/settings.md docs/states.md docs/topics.md"
if [ "${1:-}" = --fix ]; then
    $bin/ruff check --fix --quiet .
    $bin/ruff format --quiet .
    # shellcheck disable=SC2086
    $bin/python -m cogapp -r $generated
    $bin/python -m tests.kit.dashboards
    $bin/python -m tests.kit.profile_tables
fi
$bin/ruff check .
$bin/ruff format --check --quiet .
$bin/mypy
$bin/lint-imports
$bin/vulture
$bin/deptry .
$bin/typos
# shellcheck disable=SC2086
$bin/python -m cogapp --check $generated
$bin/validate-pyproject pyproject.toml
$bin/python -m tests.kit.dashboards --check
$bin/check-jsonschema --quiet --builtin-schema vendor.compose-spec docker-compose.yml
$bin/hadolint --no-color Dockerfile
if [ "${1:-}" = --full ]; then
    shift
    sh tests/check_full.sh "$@"
fi
printf 'check passed\n'
