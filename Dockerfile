# One image for every process of ours; docker-compose.yml says which one a container runs. A release pins the base by digest.
FROM python:3.11.14-slim-bookworm AS packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY requirements.txt /tmp/requirements.txt
# Only wheels, and only those of the lock: nothing is built, so no compiler is needed here and none is left.
RUN python -m venv /opt/manway \
    && /opt/manway/bin/pip install --require-hashes --only-binary :all: -r /tmp/requirements.txt \
    && /opt/manway/bin/pip uninstall --yes pip setuptools

FROM python:3.11.14-slim-bookworm
ARG UID=10001
ARG GID=10001
# The folders below give new volumes their owner: see `volumes` in docker-compose.yml.
RUN groupadd --non-unique --gid "${GID}" manway \
    && useradd --non-unique --uid "${UID}" --gid "${GID}" --no-create-home --home-dir /var/lib/manway --shell /usr/sbin/nologin manway \
    && for name in mosquitto influxdb postgres grafana gateway api signer signer-socket sim nats-1 nats-2 nats-3; do \
         install -d -m 0700 -o "${UID}" -g "${GID}" "/volumes/${name}"; \
       done \
    && for name in gateway api signer sim; do install -d -m 0700 -o "${UID}" -g "${GID}" "/volumes/${name}/keys"; done \
    && install -d -m 0700 -o "${UID}" -g "${GID}" /var/lib/manway
COPY --from=packages /opt/manway /opt/manway
COPY manway /app/manway
COPY gateway /app/gateway
COPY api /app/api
COPY firmware_sim /app/firmware_sim
COPY dashboards /app/dashboards
ENV PATH=/opt/manway/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
USER ${UID}:${GID}
