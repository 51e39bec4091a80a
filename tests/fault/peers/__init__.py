"""Peers on the cut rig, on demand: the same cut and the same kill, and what is left of the frames that were acknowledged."""

from tests.fault.peers.rig import run_peer

__all__ = ["run_peer"]
