"""The floor: our reader and writer of MQTT, one typed decode and one threshold a message; no rules, nothing durable.

No gateway that receives like this one can be cheaper; what ours costs above it is rules, journal, store and uplink.
"""

import select
import sys
import time

import msgspec
from paho.mqtt.enums import MQTTErrorCode

from manway.runtime.mqtt_batches import BatchClient
from manway.runtime.mqtt_setup import Publication
from manway.runtime.ports import Message
from tests.bench.fleet import LIMIT_PPM

_WINDOW_S = 0.005  # as ours waits for company where messages are many


class _Air(msgspec.Struct, gc=False):
    H2S: tuple[float]


class _Frame(msgspec.Struct, gc=False):
    v: _Air


def main(port: int, qos: int, user: str, password: str) -> None:
    """Serve until ended."""
    decode, out = msgspec.json.Decoder(_Frame).decode, list[Publication]()

    def on_batch(messages: list[Message], mids: list[int]) -> None:
        for message in messages:
            if decode(message.payload).v.H2S[0] >= LIMIT_PPM:
                out.append(Publication("bench/alarm", message.topic.split("/")[5].encode(), qos=qos))
        client.ack_many([mid for mid in mids if mid])

    def on_connect(*_: object) -> None:
        client.subscribe("manway/1/+/+/dev/+/gas", qos)

    client = BatchClient("batch-loop", on_batch, lambda *_: None)
    client.username_pw_set(user, password)
    client.on_connect = on_connect
    client.connect("127.0.0.1", port)
    while (link := client.socket()) is not None:
        select.select([link], [link] if client.want_write() else [], [], 1.0)
        if client.loop_read() != MQTTErrorCode.MQTT_ERR_SUCCESS:
            return
        client.say_many(out, ())
        out.clear()
        while client.want_write():
            client.loop_write()
        time.sleep(_WINDOW_S)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
