"""Firmware of the virtual lock: a signed announcement, an image that fits, a trial, a way back (`locks.md` §3.4; L37)."""

from hashlib import sha256

import msgspec
import pytest

from firmware_sim.lock_keys import Key, Slot
from firmware_sim.lock_memory import Publish
from manway import codec_ble, cose, firmware_manifest
from manway.entities import Bolt, LogEvent, RefusalReason, ResultCode
from manway.errors import DecodeRejected
from manway.firmware_manifest import Manifest
from manway.ids import GrantKind
from manway.runtime.signing import SigningKey
from tests.kit.locks import FIRMWARE, HOLDER, ISSUER, LockBench

IMAGE = b"a firmware of its own" * 100
GOOD = Manifest(b"MW-SIM-1", (0, 2, 0, 0), (0, 1, 0, 0), len(IMAGE), sha256(IMAGE).digest())


def announce(bench: LockBench, manifest: Manifest = GOOD, signer: SigningKey = FIRMWARE) -> list[Publish]:
    message = signer.sign(cose.FIRMWARE_AAD, firmware_manifest.encode(manifest))
    assert len(message) == 134
    return [sent for sent in bench.lock.receive("firmware", message, bench.now) if sent.name == "result"]


def reasons(bench: LockBench) -> list[int]:
    return [record.cause for record in bench.log if record.event == LogEvent.FIRMWARE_REFUSED]


def updated(*, crashes: bool = False) -> LockBench:
    bench = LockBench()
    assert announce(bench) == []
    bench.lock.install(IMAGE, bench.now, crashes=crashes)
    return bench


def test_l37_a_newer_image_is_installed_and_confirmed_by_a_hello() -> None:
    bench = updated()
    assert bench.events == [LogEvent.BOOT, LogEvent.FIRMWARE_INSTALLED, LogEvent.BOOT]
    bench.wait(599)
    assert bench.hello().firmware == (0, 2, 0, 0)
    bench.wait(3600)
    bench.lock.reboot(bench.now)
    assert bench.hello().firmware == (0, 2, 0, 0)
    assert reasons(bench) == []


def test_l37_an_image_that_nobody_greets_for_ten_minutes_gives_way() -> None:
    bench = updated()
    bench.wait(599.9)
    assert bench.lock.firmware == (0, 2, 0, 0)
    bench.wait(0.1)
    assert bench.hello().firmware == (0, 1, 0, 0)
    assert reasons(bench) == [RefusalReason.PRECONDITION]


def test_l37_an_image_that_crashes_gives_way_at_once_and_the_lock_still_opens() -> None:
    bench = updated(crashes=True)
    assert bench.hello().firmware == (0, 1, 0, 0)
    assert bench.send(bench.order(GrantKind.EMERGENCY)) == [ResultCode.OPENED]


@pytest.mark.parametrize("image", [b"", IMAGE[:-1], IMAGE + b"\x00", bytes(len(IMAGE))])
def test_l37_a_truncated_or_other_image_is_refused(image: bytes) -> None:
    bench = LockBench()
    announce(bench)
    bench.lock.install(image, bench.now)
    bench.lock.install(IMAGE, bench.now)  # its announcement is spent
    assert bench.lock.firmware == (0, 1, 0, 0)
    assert reasons(bench) == [RefusalReason.PAYLOAD] * 2


WRONG: dict[str, dict[str, object]] = {
    "the running version": {"version": (0, 1, 0, 0)},
    "an older version": {"version": (0, 0, 9, 9)},
    "too new a predecessor": {"min_version": (0, 1, 0, 1)},
    "other hardware": {"hardware_id": b"MW-SIM-2"},
}


@pytest.mark.parametrize("changed", WRONG.values(), ids=WRONG)
def test_l37_an_announcement_that_does_not_fit_is_refused(changed: dict[str, object]) -> None:
    bench = LockBench()
    assert [sent.payload for sent in announce(bench, msgspec.structs.replace(GOOD, **changed))] == [codec_ble.REFUSED]
    assert reasons(bench) == [RefusalReason.PRECONDITION]


def test_l37_only_the_firmware_key_announces_and_it_announces_nothing_else() -> None:
    for signer in (ISSUER, HOLDER):
        bench = LockBench()
        assert [sent.payload for sent in announce(bench, signer=signer)] == [codec_ble.REFUSED]
        assert reasons(bench) == [RefusalReason.KID]
    bench = LockBench()
    message = FIRMWARE.sign(cose.FIRMWARE_AAD, firmware_manifest.encode(GOOD))
    bench.lock.receive("firmware", message[:-1] + bytes([message[-1] ^ 1]), bench.now)
    assert reasons(bench) == [RefusalReason.SIGNATURE]
    bench = LockBench()
    grant_like = FIRMWARE.sign(cose.GRANT_AAD, firmware_manifest.encode(GOOD))
    bench.lock.receive("firmware", grant_like, bench.now)
    assert reasons(bench) == [RefusalReason.SIGNATURE]
    assert bench.send(message) == [codec_ble.REFUSED]


def test_l37_nothing_is_replaced_in_a_session_or_with_half_a_battery() -> None:
    bench = LockBench()
    bench.lock.set_battery(49, bench.now)
    announce(bench)
    assert reasons(bench) == [RefusalReason.PRECONDITION]
    opened = LockBench()
    opened.open_with()
    announce(opened)
    assert reasons(opened) == [RefusalReason.PRECONDITION]
    between = LockBench()
    announce(between)
    between.open_with()
    between.lock.install(IMAGE, between.now)
    assert (between.lock.firmware, between.lock.body.bolt) == ((0, 1, 0, 0), Bolt.RETRACTED)


def test_a_flood_of_wrong_announcements_is_one_record() -> None:
    bench = LockBench()
    for _ in range(100):
        bench.lock.receive("firmware", b"x", bench.now)
    assert reasons(bench) == [RefusalReason.SHAPE]


def test_the_next_firmware_key_takes_its_predecessors_place_by_its_first_announcement() -> None:
    bench = LockBench()
    bench.lock.body.keys.held[Slot.NEXT_FIRMWARE] = Key(HOLDER.public_key, 2)
    assert announce(bench, signer=HOLDER) == []
    assert bench.lock.body.keys.kid(Slot.FIRMWARE) == HOLDER.kid
    assert [sent.payload for sent in announce(bench)] == [codec_ble.REFUSED]


def test_the_codec_takes_exactly_its_53_bytes() -> None:
    data = firmware_manifest.encode(GOOD)
    assert firmware_manifest.decode(data) == GOOD
    assert GOOD.fits(IMAGE)
    empty = data[:17] + bytes(4) + data[21:]
    for wrong in (b"", data[:-1], data + b"\x00", b"\x02" + data[1:], empty):
        with pytest.raises(DecodeRejected, match="firmware manifest"):
            firmware_manifest.decode(wrong)


@pytest.mark.parametrize(
    "changed",
    [
        {"hardware_id": b"x"},
        {"version": (1, 2, 3)},
        {"size": 0},
        {"size": 2**32},
        {"digest": bytes(31)},
        {"version": (256, 0, 0, 0)},
    ],
    ids=str,
)
def test_a_wrong_manifest_is_not_encoded(changed: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"no manifest|range"):
        firmware_manifest.encode(msgspec.structs.replace(GOOD, **changed))
