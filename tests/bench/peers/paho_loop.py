"""The bare paho loop, as anybody would write it: `json.loads`, one threshold, `publish`. Nothing else, nothing durable."""

import json
import socket
import sys

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.bench.fleet import LIMIT_PPM


def main(port: int, qos: int, user: str, password: str) -> None:
    """Serve until ended."""
    client = paho.Client(CallbackAPIVersion.VERSION2, "paho-loop")
    client.username_pw_set(user, password)

    def on_connect(*_: object) -> None:
        client.subscribe("manway/1/+/+/dev/+/gas", qos)

    def on_message(_client: object, _user: object, message: paho.MQTTMessage) -> None:
        frame = json.loads(message.payload)
        if frame["v"]["H2S"][0] >= LIMIT_PPM:
            client.publish("bench/alarm", message.topic.split("/")[5], qos)

    def on_socket_open(_client: object, _user: object, sock: object) -> None:
        if isinstance(sock, socket.socket):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as ours has it

    client.on_connect, client.on_message, client.on_socket_open = on_connect, on_message, on_socket_open
    client.connect("127.0.0.1", port)
    client.loop_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
