"""A virtual air: bumble's link and controllers with what its emulation leaves out (`locks.md` §10).

Scan responses, signal strength, a connection given up, a reset, a central that came too late, a device out of range.
"""

import asyncio
from typing import Any

from bumble import hci, ll
from bumble.controller import Controller
from bumble.core import PhysicalTransport
from bumble.link import LocalLink
from bumble.snoop import Snooper

from firmware_sim.faults import SUPERVISION, Full

USUAL_RSSI = -60  # dBm, some metres away (choice)
_LIST_SIZE = 255  # devices a host may list; bumble's 8 are fewer than a yard has
_MASKED = hci.LeFeatureMask.LL_PRIVACY | hci.LeFeatureMask.LE_EXTENDED_ADVERTISING | hci.LeFeatureMask.LE_PERIODIC_ADVERTISING


class Air(LocalLink):
    """The air between controllers: who hears whom, and how strongly."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.absent: set[Controller] = set()
        self.rssi: dict[hci.Address, int] = {}

    def send_advertising_pdu(self, sender_controller: Controller, packet: ll.AdvertisingPdu) -> None:
        """Let those hear that listen; a call to connect reaches the called one at once."""
        if sender_controller in self.absent:
            return
        if isinstance(packet, ll.ConnectInd):
            called = self.advertiser(packet.advertiser_address)
            if called is not None:
                called.on_ll_advertising_pdu(packet)
            return
        loop = asyncio.get_running_loop()
        for controller in self.controllers - {sender_controller} - self.absent:
            if controller.le_scan_enable or controller.pending_le_connection:
                loop.call_soon(controller.on_ll_advertising_pdu, packet)

    def advertiser(self, address: hci.Address) -> Controller | None:
        """Return who advertises under an address and can be heard."""
        for controller in self.controllers - self.absent:
            if controller.le_legacy_advertiser.enabled and controller.le_legacy_advertiser.address == address:
                return controller
        return None

    def send_acl_data(
        self, sender_controller: Controller, destination_address: hci.Address, transport: PhysicalTransport, data: bytes
    ) -> None:
        """Carry data between two that are both there, under the address they connected with: a scan may change the own."""
        receiver = self.find_le_controller(destination_address)
        connection = sender_controller.le_connections.get(destination_address)
        if receiver is not None and connection is not None and self.absent.isdisjoint({sender_controller, receiver}):
            loop = asyncio.get_running_loop()
            loop.call_soon(receiver.on_link_acl_data, connection.self_address, transport, data)

    def send_ll_control_pdu(self, sender_address: hci.Address, receiver_address: hci.Address, packet: ll.ControlPdu) -> None:
        """Carry link control; to one that has gone it is lost."""
        receiver, sender = self.find_le_controller(receiver_address), self.find_le_controller(sender_address)
        if receiver is not None and receiver not in self.absent and sender not in self.absent:
            super().send_ll_control_pdu(sender_address, receiver_address, packet)

    def sever(self, controller: Controller, reason: int = SUPERVISION) -> None:
        """End every connection of a controller on both sides, as when the supervision time has run out."""
        for connection in list(controller.le_connections.values()):
            other = self.find_le_controller(connection.peer_address)
            theirs = other.le_connections.get(connection.self_address) if other is not None else None
            controller.on_le_disconnected(connection, reason)
            if other is not None and theirs is not None:
                other.on_le_disconnected(theirs, reason)


class AirController(Controller):
    """A virtual controller on an `Air`; what its host says and hears is captured where a snooper is given."""

    def __init__(self, name: str, air: Air, *, sink: Any = None, snooper: Snooper | None = None) -> None:  # noqa: ANN401
        super().__init__(name, host_sink=sink, link=air)
        self.air, self.snooper = air, snooper
        self.scan_dead = self.radio_mute = False
        self.room, self.full = _LIST_SIZE, Full.REFUSES
        self.le_features &= ~_MASKED  # google/bumble#841
        self.filter_accept_list_size = self.resolving_list_size = _LIST_SIZE

    def on_packet(self, packet: bytes) -> None:
        """Take a packet of the host."""
        if self.snooper is not None:
            self.snooper.snoop(packet, Snooper.Direction.HOST_TO_CONTROLLER)
        super().on_packet(packet)

    def send_hci_packet(self, packet: hci.HCI_Packet) -> None:
        """Hand a packet to the host."""
        if self.snooper is not None:
            self.snooper.snoop(bytes(packet), Snooper.Direction.CONTROLLER_TO_HOST)
        super().send_hci_packet(packet)

    def on_advertising_pdu(self, pdu: ll.AdvInd | ll.AdvExtInd) -> None:
        """Report an advertisement and its scan response, and connect where that was wanted."""
        if self.radio_mute:
            return
        advertiser = self.air.advertiser(pdu.advertiser_address)
        if advertiser is None:  # it has been connected to, or has gone, meanwhile
            return
        if self.le_scan_enable and not self.scan_dead:
            response = advertiser.le_legacy_advertiser.scan_response_data
            kinds = hci.HCI_LE_Advertising_Report_Event.EventType
            self._report(kinds.ADV_IND, pdu.advertiser_address, pdu.data)
            self._report(kinds.SCAN_RSP, pdu.advertiser_address, response)
        pending = self.pending_le_connection
        if pending is not None and pending.peer_address == pdu.advertiser_address and not self._crowded:
            self.create_le_connection(pdu.advertiser_address)

    def _report(self, kind: int, address: hci.Address, data: bytes) -> None:
        report = hci.HCI_LE_Advertising_Report_Event.Report(
            event_type=kind,
            address_type=address.address_type,
            address=address,
            data=data,
            rssi=self.air.rssi.get(address, USUAL_RSSI),
        )
        self.send_hci_packet(hci.HCI_LE_Advertising_Report_Event([report]))

    @property
    def _crowded(self) -> bool:
        return len(self.le_connections) >= self.room

    def on_hci_le_create_connection_command(self, command: hci.HCI_LE_Create_Connection_Command) -> None:
        """Look out for whom the host wants to connect to, where there is room for another connection."""
        if self._crowded and self.full is Full.REFUSES:
            self._send_hci_command_status(hci.HCI_ErrorCode.CONNECTION_LIMIT_EXCEEDED_ERROR, command.op_code)
        else:
            super().on_hci_le_create_connection_command(command)

    def on_hci_le_create_connection_cancel_command(
        self, _command: hci.HCI_LE_Create_Connection_Cancel_Command
    ) -> hci.HCI_StatusReturnParameters:
        """Give a pending connection up and say so, as Core Specification Vol 4, Part E, 7.8.13 asks."""
        pending, self.pending_le_connection = self.pending_le_connection, None
        if pending is None:
            return hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.COMMAND_DISALLOWED_ERROR)
        ended = hci.HCI_LE_Connection_Complete_Event(
            status=hci.HCI_ErrorCode.UNKNOWN_CONNECTION_IDENTIFIER_ERROR,
            connection_handle=0,
            role=hci.Role.CENTRAL,
            peer_address_type=pending.peer_address.address_type,
            peer_address=pending.peer_address,
            connection_interval=0,
            peripheral_latency=0,
            supervision_timeout=0,
            central_clock_accuracy=0,
        )
        asyncio.get_running_loop().call_soon(self.send_hci_packet, ended)  # after the command's own answer
        return hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.SUCCESS)

    def on_hci_le_set_scan_enable_command(self, command: hci.HCI_LE_Set_Scan_Enable_Command) -> hci.HCI_StatusReturnParameters:
        """Start or stop scanning; a scan that had died lives again."""
        self.scan_dead = False
        return super().on_hci_le_set_scan_enable_command(command)

    def on_hci_reset_command(self, command: hci.HCI_Reset_Command) -> hci.HCI_StatusReturnParameters:
        """Begin anew: no connection, no scan, no advertising, and a deaf radio hears again."""
        self.leave()
        self.scan_dead = self.radio_mute = self.le_scan_enable = False
        self.pending_le_connection = None
        return super().on_hci_reset_command(command)

    def leave(self) -> None:
        """Fall silent: the others notice when their supervision time is over."""
        self.le_legacy_advertiser.stop()
        self.air.sever(self)
