"""A GATT server that allows only what its table says, with values that stand still while they are read in pieces."""

from collections.abc import Awaitable, Callable

from bumble import att
from bumble.core import UUID
from bumble.device import Connection, Device
from bumble.gatt import (
    GATT_BATTERY_LEVEL_CHARACTERISTIC,
    GATT_BATTERY_SERVICE,
    GATT_CLIENT_CHARACTERISTIC_CONFIGURATION_DESCRIPTOR,
    GATT_DEVICE_INFORMATION_SERVICE,
    Characteristic,
    CharacteristicValue,
    Descriptor,
    Service,
)
from bumble.gatt_server import Server

from firmware_sim.face import Face, Row


class FaceServer(Server):
    """bumble's GATT server with permissions, and with values that stand still while they are read in pieces."""

    def __init__(self, device: Device) -> None:
        super().__init__(device)
        self.values: dict[tuple[att.Bearer, int], bytes] = {}
        self.muted = False

    def on_gatt_pdu(self, bearer: att.Bearer, att_pdu: att.ATT_PDU) -> None:
        """Refuse what the table does not allow, else serve."""
        handle, error = getattr(att_pdu, "attribute_handle", 0), None
        match att_pdu:
            case att.ATT_Read_Request() | att.ATT_Read_Blob_Request(value_offset=0):
                self.values.pop((bearer, handle), None)
                error = self._refusal(handle, att.Attribute.READABLE, att.ATT_READ_NOT_PERMITTED_ERROR)
            case att.ATT_Read_Blob_Request():
                error = self._refusal(handle, att.Attribute.READABLE, att.ATT_READ_NOT_PERMITTED_ERROR)
            case att.ATT_Write_Request() | att.ATT_Prepare_Write_Request():
                error = self._refusal(handle, att.Attribute.WRITEABLE, att.ATT_WRITE_NOT_PERMITTED_ERROR)
            case att.ATT_Read_By_Type_Request():
                self._forget(bearer)
            case att.ATT_Read_Multiple_Request() | att.ATT_Read_Multiple_Variable_Request():
                error = att.ATT_REQUEST_NOT_SUPPORTED_ERROR
            case att.ATT_Write_Command() | att.ATT_Signed_Write_Command():
                return  # no row takes a write without a response
            case _:
                pass
        if self.muted:
            return
        if error is None:
            super().on_gatt_pdu(bearer, att_pdu)
        else:
            self.send_response(bearer, att.ATT_Error_Response(att_pdu.op_code, handle, error))

    def on_disconnection(self, bearer: att.Bearer) -> None:
        """Forget a connection."""
        self._forget(bearer)
        super().on_disconnection(bearer)

    def _forget(self, bearer: att.Bearer) -> None:
        for key in [key for key in self.values if key[0] is bearer]:
            del self.values[key]

    def _refusal(self, handle: int, needed: att.Attribute.Permissions, error: int) -> int | None:
        attribute = self.get_attribute(handle)
        return error if attribute is not None and not attribute.permissions & needed else None


def characteristic_of(
    row: Row,
    read: Callable[[Connection], Awaitable[bytes]],
    write: Callable[[Connection, bytes], Awaitable[None]],
    server: Server,
) -> Characteristic[bytes]:
    """Return a row as bumble serves it; what is encrypted can be subscribed over an encrypted link only."""
    value = CharacteristicValue(read=read, write=write)
    characteristic: Characteristic[bytes] = Characteristic(UUID(row.uuid), _properties(row), _permissions(row), value)
    if row.encrypted and "notify" in row.can:
        subscribing = att.Attribute.READABLE | att.Attribute.WRITEABLE | att.Attribute.WRITE_REQUIRES_ENCRYPTION
        kind = GATT_CLIENT_CHARACTERISTIC_CONFIGURATION_DESCRIPTOR
        characteristic.descriptors = [Descriptor(kind, subscribing, server.make_descriptor_value(characteristic))]
    return characteristic


def known_services(face: Face, now: Callable[[], float]) -> list[Service]:
    """Return Device Information, and Battery where the device has none of its own (`locks.md` §4)."""
    readable, permitted = Characteristic.Properties.READ, Characteristic.READABLE
    said = face.information()
    information = [Characteristic(UUID.from_16_bits(number), readable, permitted, said[number]) for number in said]
    services = [Service(GATT_DEVICE_INFORMATION_SERVICE, information)]
    if all(UUID(row.uuid) != GATT_BATTERY_LEVEL_CHARACTERISTIC for row in face.rows):
        value = CharacteristicValue(read=lambda _connection: bytes([face.battery(now())]))
        level: Characteristic[bytes] = Characteristic(GATT_BATTERY_LEVEL_CHARACTERISTIC, readable, permitted, value)
        services.append(Service(GATT_BATTERY_SERVICE, [level]))
    return services


def _properties(row: Row) -> Characteristic.Properties:
    """Return what a row lets a client do, in bumble's words."""
    can = Characteristic.Properties(0)
    for word in row.can:
        can |= Characteristic.Properties[word.upper()]
    return can


def _permissions(row: Row) -> Characteristic.Permissions:
    """Return what the server asks of a client that uses a row."""
    asked = Characteristic.Permissions(0)
    if "read" in row.can:
        asked |= Characteristic.READABLE
    if "write" in row.can:
        asked |= Characteristic.WRITEABLE
    if row.encrypted:
        asked |= Characteristic.READ_REQUIRES_ENCRYPTION | Characteristic.WRITE_REQUIRES_ENCRYPTION
    return asked
