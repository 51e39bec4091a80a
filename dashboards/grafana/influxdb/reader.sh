#!/bin/bash
# InfluxDB runs this once, when it sets itself up: whoever only reads (Grafana) gets a name and password that can do no more.
# A token of InfluxDB's own would be drawn by the server; this password is the one that `manway init` has already given out.
set -eu
influx v1 auth create \
    --org "$DOCKER_INFLUXDB_INIT_ORG" \
    --read-bucket "$DOCKER_INFLUXDB_INIT_BUCKET_ID" \
    --username manway-reader \
    --password "$(cat /run/secrets/influx_read_token)" >/dev/null
