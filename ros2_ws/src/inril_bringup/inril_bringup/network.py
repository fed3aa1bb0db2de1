"""Which hosts a graph talks with. Standard library only: launch imports it into any interpreter.

INRIL_HOST is the address of this host that the others reach, ROS_STATIC_PEERS theirs, with semicolons. From the two
comes a profile of Fast DDS: the nodes open sockets on the loopback interface and on that of INRIL_HOST alone, send
nothing by multicast, and look for others on this host and at the peers only. Every inril command reads the same
variables.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import os
import socket
from collections.abc import Mapping
from pathlib import Path

from inril_bringup.place import made_folder

HOST, PEERS = "INRIL_HOST", "ROS_STATIC_PEERS"
LOOPBACK = "127.0.0.1"
PEER_RANGE = 40
"""Participants of a host that are looked for, one for each process: a graph has 14 and its commands some."""
_PROFILE = """<?xml version="1.0" encoding="UTF-8"?>
<profiles xmlns="http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles">
  <transport_descriptors>
    <transport_descriptor>
      <transport_id>udp_hosts</transport_id>
      <type>UDPv4</type>
      <maxInitialPeersRange>{peer_range}</maxInitialPeersRange>
      <interfaceWhiteList>{interfaces}</interfaceWhiteList>
    </transport_descriptor>
  </transport_descriptors>
  <participant profile_name="inril" is_default_profile="true">
    <rtps>
      <builtin>
        <metatrafficUnicastLocatorList><locator/></metatrafficUnicastLocatorList>
        <initialPeersList>{peers}</initialPeersList>
      </builtin>
      <userTransports><transport_id>udp_hosts</transport_id></userTransports>
      <useBuiltinTransports>false</useBuiltinTransports>
    </rtps>
  </participant>
</profiles>
"""


def this_host(environment: Mapping[str, str]) -> str:
    """The address that others reach this host at; that of the loopback interface where none is named."""
    return environment.get(HOST, "").strip() or LOOPBACK


def peers(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Addresses of the other hosts."""
    return tuple(text.strip() for text in environment.get(PEERS, "").split(";") if text.strip())


def network_fault(environment: Mapping[str, str]) -> str:
    """What is wrong with the two variables, with the fix; empty: nothing."""
    host, others = this_host(environment), peers(environment)
    for name, address in ((HOST, host), *((PEERS, other) for other in others)):
        if not _is_address(address):
            return f"{name} = {address!r}: not an IPv4 address; give one, e.g. 10.0.0.1 (not a host's name)"
    if others and host == LOOPBACK:
        return f"{PEERS} is set and {HOST} is not; set {HOST} to the address of this host that {others[0]} reaches"
    if host != LOOPBACK and not others:
        return f"{HOST} is set and {PEERS} is not; set {PEERS} to the address of the other host, or unset {HOST}"
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as tried:
        try:
            tried.bind((host, 0))
        except OSError as error:
            return f"{HOST} = {host}: {error.strerror}; give an address of this host (`ip -br address` lists them)"
    return ""


def _is_address(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def hosts_profile(environment: Mapping[str, str]) -> Path | None:
    """The profile for these hosts, written if it is not there; None: the graph stays on this machine.

    What `network_fault` finds wrong stays on this machine too.

    Raises:
        PlaceError: the folder for it cannot be made.
    """
    if this_host(environment) == LOOPBACK or not peers(environment) or network_fault(environment):
        return None
    interfaces = "".join(f"<address>{address}</address>" for address in (LOOPBACK, this_host(environment)))
    locators = "".join(
        f"<locator><udpv4><address>{address}</address></udpv4></locator>" for address in (LOOPBACK, *peers(environment))
    )
    text = _PROFILE.format(peer_range=PEER_RANGE, interfaces=interfaces, peers=locators)
    path = made_folder() / f"dds-{hashlib.sha256(text.encode()).hexdigest()[:16]}.xml"
    if not path.exists():
        new = path.with_suffix(f".{os.getpid()}")
        new.write_text(text)
        os.replace(new, path)
    return path


def is_hosts_profile(path: str) -> bool:
    """Whether `hosts_profile` has made this file."""
    name = Path(path).name
    return name.startswith("dds-") and name.endswith(".xml") and Path(path).parent == made_folder()
