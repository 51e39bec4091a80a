"""Names of the radio: services and characteristics of locks and instruments (`locks.md` §4), spelled nowhere else.

Lower case with hyphens, as every Bluetooth library hands them over.
"""

_LOCK = "d345{:04x}-3f77-4bf1-8d6f-39fbb83b22c8"
_GAS = "8174{:04x}-4edf-4d88-a7cf-7d740482fb81"

LOCK_SERVICE = _LOCK.format(1)
STATE = _LOCK.format(2)
HELLO = _LOCK.format(3)
GRANT = _LOCK.format(4)
RESULT = _LOCK.format(5)
LOG_CONTROL = _LOCK.format(6)
LOG_DATA = _LOCK.format(7)
ENROL = _LOCK.format(8)
FIRMWARE = _LOCK.format(9)
INFO = _LOCK.format(10)

GAS_SERVICE = _GAS.format(1)
READING = _GAS.format(2)
INSTRUMENT = _GAS.format(3)
SETPOINTS = _GAS.format(4)

# Characteristic -> the message that travels in it, by the name it has in a topic behind `up/` or `down/`.
CHARACTERISTIC_NAMES = {
    STATE: "state",
    HELLO: "hello",
    GRANT: "grant",
    RESULT: "result",
    LOG_CONTROL: "logctl",
    LOG_DATA: "log",
    ENROL: "enrol",
    FIRMWARE: "firmware",
    INFO: "info",
    READING: "frame",
    INSTRUMENT: "instrument",
    SETPOINTS: "setpoints",
}


def service_bytes(uuid: str) -> bytes:
    """Return a 128-bit UUID as advertisements carry it: 16 bytes, the last first."""
    return bytes.fromhex(uuid.replace("-", ""))[::-1]
