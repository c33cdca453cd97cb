"""No test may talk to another machine: connecting to anything but this one is an error."""

import ipaddress
import socket

_connect, _connect_ex = socket.socket.connect, socket.socket.connect_ex


def local(family: int, address) -> bool:
    """Whether an address is of this machine."""
    if family not in (socket.AF_INET, socket.AF_INET6):
        return True
    host = address[0]
    return host in ("localhost", "") or ipaddress.ip_address(host).is_loopback


def guard(connect):
    def guarded(self, address):
        try:
            fine = local(self.family, address)
        except ValueError:  # a name: asking who that is would be talking too
            fine = False
        if not fine:
            raise AssertionError(f"a test wants to connect to {address}")
        return connect(self, address)

    return guarded


def stay() -> None:
    """From here on, in this process."""
    socket.socket.connect, socket.socket.connect_ex = guard(_connect), guard(_connect_ex)
