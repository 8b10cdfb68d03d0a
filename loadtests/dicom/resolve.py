"""Sends connections for one host name to a given address.

A private endpoint gives a public name a private address by DNS. A test has no such DNS, so the one lookup is answered
here. Everything above it stays as it is: SNI, the name in the certificate and `Host` come from the URL.
"""

import socket
from urllib.parse import urlsplit


def split_address(text: str) -> tuple[str, int]:
    """Reads `host:port`, with brackets around an IPv6 address."""
    parts = urlsplit(f"//{text}")
    if not parts.hostname or parts.port is None:
        raise ValueError(f"{text!r} is not host:port")
    return parts.hostname, parts.port


def resolve_to(name: str, address: tuple[str, int]) -> None:
    """From now on this process finds `name` at `address`, whatever port it asks for."""
    lookup = socket.getaddrinfo

    def getaddrinfo(host, port, *args, **kwargs):
        if host == name:
            host, port = address
        return lookup(host, port, *args, **kwargs)

    socket.getaddrinfo = getaddrinfo
