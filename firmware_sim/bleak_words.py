"""bumble's words in bleak's: errors, services, advertisements."""

import uuid
from collections.abc import Awaitable
from typing import TypeVar, cast

from bleak.assigned_numbers import CharacteristicPropertyName
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.backends.descriptor import BleakGATTDescriptor
from bleak.backends.scanner import AdvertisementData
from bleak.backends.service import BleakGATTService, BleakGATTServiceCollection
from bleak.exc import BleakError, BleakGATTProtocolError, BleakGATTProtocolErrorCode
from bleak.uuids import normalize_uuid_16, normalize_uuid_32
from bumble.att import ATT_Error
from bumble.core import UUID, AdvertisingData, BaseBumbleError
from bumble.device import Advertisement, Peer
from bumble.gatt import Characteristic

T = TypeVar("T")


async def saying_bleak(work: Awaitable[T]) -> T:
    """Await with bumble's errors turned into bleak's."""
    try:
        return await work
    except ATT_Error as error:
        raise BleakGATTProtocolError(BleakGATTProtocolErrorCode(error.error_code)) from error
    except BaseBumbleError as error:
        message = str(error) or type(error).__name__
        raise BleakError(message) from error


def services_of(peer: Peer, wanted: set[str] | None) -> BleakGATTServiceCollection:
    """Return what was discovered as bleak's collection."""
    found = BleakGATTServiceCollection()
    client = peer.gatt_client
    for service in peer.services:
        name = _uuid(service.uuid)
        if wanted and name not in wanted:
            continue
        shown = BleakGATTService(service, service.handle, name)
        found.add_service(shown)
        for proxy in service.characteristics:
            can = _properties(proxy.properties)
            characteristic = BleakGATTCharacteristic(proxy, proxy.handle, _uuid(proxy.uuid), can, lambda: client.mtu - 3, shown)
            found.add_characteristic(characteristic)
            for descriptor in proxy.descriptors:
                found.add_descriptor(BleakGATTDescriptor(descriptor, descriptor.handle, _uuid(descriptor.type), characteristic))
    return found


def _uuid(of: UUID) -> str:
    return str(uuid.UUID(bytes=of.to_bytes(force_128=True)[::-1]))


def _properties(of: Characteristic.Properties) -> list[CharacteristicPropertyName]:
    names = [str(p.name).lower().replace("_", "-") for p in Characteristic.Properties if p in of]
    return cast("list[CharacteristicPropertyName]", names)


def said_by(advertisement: Advertisement) -> AdvertisementData:
    """Return what an advertisement and its scan response say, in bleak's words."""
    fields = [(int(kind), bytes(data)) for kind, data in advertisement.data.ad_structures]
    names = [data.decode("utf-8", "replace") for kind, data in fields if kind in _NAMES]
    power = [int.from_bytes(data[:1], signed=True) for kind, data in fields if kind == AdvertisingData.TX_POWER_LEVEL]
    maker = AdvertisingData.MANUFACTURER_SPECIFIC_DATA
    return AdvertisementData(
        local_name=names[-1] if names else None,
        manufacturer_data={int.from_bytes(data[:2], "little"): data[2:] for kind, data in fields if kind == maker},
        service_data={
            _spelled(data[: _SERVICE_DATA[kind]]): data[_SERVICE_DATA[kind] :] for kind, data in fields if kind in _SERVICE_DATA
        },
        service_uuids=[
            _spelled(data[at : at + _SERVICES[kind]])
            for kind, data in fields
            if kind in _SERVICES
            for at in range(0, len(data), _SERVICES[kind])
        ],
        tx_power=power[-1] if power else None,
        rssi=advertisement.rssi,
        platform_data=(advertisement,),
    )


def _spelled(little: bytes) -> str:
    """Return a UUID of 2, 4 or 16 bytes, the last first, as 128 bits in lower case."""
    match len(little):
        case 2:
            return normalize_uuid_16(int.from_bytes(little, "little"))
        case 4:
            return normalize_uuid_32(int.from_bytes(little, "little"))
        case _:
            return str(uuid.UUID(bytes=little[::-1].rjust(16, b"\0")[:16]))


# Bluetooth Assigned Numbers, 2.3: fields of an advertisement, and for lists of UUIDs the bytes of one.
_NAMES = (AdvertisingData.SHORTENED_LOCAL_NAME, AdvertisingData.COMPLETE_LOCAL_NAME)
_SERVICES = {0x02: 2, 0x03: 2, 0x04: 4, 0x05: 4, 0x06: 16, 0x07: 16}
_SERVICE_DATA = {0x16: 2, 0x20: 4, 0x21: 16}
