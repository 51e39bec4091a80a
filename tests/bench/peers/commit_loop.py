"""Durable the plain way: every message is inserted, committed and only then acknowledged, one threshold, `publish`."""

import json
import socket
import sqlite3
import sys
from pathlib import Path

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.bench.fleet import LIMIT_PPM


def main(port: int, qos: int, user: str, password: str, file: Path) -> None:
    """Serve until ended."""
    db = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("CREATE TABLE frame(id INTEGER PRIMARY KEY, topic TEXT NOT NULL, body BLOB NOT NULL)")
    client = paho.Client(CallbackAPIVersion.VERSION2, "commit-loop", manual_ack=True)
    client.username_pw_set(user, password)

    def on_connect(*_: object) -> None:
        client.subscribe("manway/1/+/+/dev/+/gas", qos)

    def on_message(_client: object, _user: object, message: paho.MQTTMessage) -> None:
        frame = json.loads(message.payload)
        db.execute("INSERT INTO frame(topic, body) VALUES (?, ?)", (message.topic, message.payload))  # commits by itself
        if frame["v"]["H2S"][0] >= LIMIT_PPM:
            client.publish("bench/alarm", message.topic.split("/")[5], qos)
        client.ack(message.mid, message.qos)

    def on_socket_open(_client: object, _user: object, sock: object) -> None:
        if isinstance(sock, socket.socket):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    client.on_connect, client.on_message, client.on_socket_open = on_connect, on_message, on_socket_open
    client.connect("127.0.0.1", port)
    client.loop_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4], Path(sys.argv[5]))
