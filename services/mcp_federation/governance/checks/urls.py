"""Security: addresses in a registration that somebody will follow. Pure: nothing is looked up or fetched.

A name can resolve to any address later on; who connects checks the address again then.
"""

import re
import socket
import unicodedata
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

from mcp_federation.governance.checks.check import Check, Sighting, check
from mcp_federation.governance.checks.quoting import quote
from mcp_federation.governance.checks.reading import Reading

MAX_URL: Final = 2048

_LINK_LOCAL = (ip_network("169.254.0.0/16"), ip_network("fe80::/10"))
_METADATA_ADDRESSES = frozenset(map(ip_address, ("fd00:ec2::254", "100.100.100.200", "192.0.0.192")))
_METADATA_HOSTS = frozenset(
    {
        "metadata",
        "metadata.google.internal",
        "metadata.goog",
        "metadata.azure.internal",
        "metadata.tencentyun.com",
        "instance-data",
        "instance-data.ec2.internal",
    }
)
_NAT64 = ip_network("64:ff9b::/96")
_SPELLED_LINK_LOCAL = re.compile(
    r"(?<!\d)169[.-]254[.-]\d{1,3}[.-]\d{1,3}(?!\d)|(?<![0-9a-z])a9fea9fe(?![0-9a-z])"
)


@check(
    "unsafe-url",
    "high",
    rationale="Others follow these addresses: only plain http and https ones are safe to show and follow.",
    remedy="Give an http:// or https:// address with a host, and with no user name or password in it.",
)
def unsafe_url(reading: Reading) -> Iterator[Sighting]:
    """URLs that are no plain http or https address."""
    for field, url in _urls(reading):
        problem = _problem(url)
        if problem:
            yield Sighting(field, f"“{quote(url)}” {problem}")


@check(
    "cloud-metadata-url",
    "critical",
    rationale="Link-local and metadata addresses hand out the credentials of the machine that follows them.",
    remedy="Give the address under which the server itself is reached.",
)
def cloud_metadata_url(reading: Reading) -> Iterator[Sighting]:
    """URLs that lead to a cloud's metadata service or another link-local address."""
    for field, url in _urls(reading):
        host = _host(url)
        if host and _is_metadata(host):
            yield Sighting(field, f"“{quote(url)}” leads to a link-local or cloud metadata address")


def _urls(reading: Reading) -> Iterator[tuple[str, str]]:
    registration = reading.registration
    for field, url in (("source_repo", registration.source_repo), ("server_url", registration.server_url)):
        if url:
            yield field, url


def _problem(url: str) -> str:
    if len(url) > MAX_URL:
        return f"has {len(url):,} characters, over {MAX_URL:,}"
    if not url.isprintable() or re.search(r"[\s\\]", url):
        return "has characters that no URL has"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "does not parse as a URL"
    if parts.scheme not in ("http", "https"):
        return "is no http or https address"
    if "@" in parts.netloc:
        return "carries a user name or password"
    if not host or "%" in host:
        return "has no plain host"
    return ""


def _host(url: str) -> str:
    try:
        host = urlsplit(url.replace("\\", "/")).hostname or ""
    except ValueError:
        return ""
    # As a resolver sees it: full-width digits and dots are digits and dots.
    return unicodedata.normalize("NFKC", host).replace("。", ".").rstrip(".").lower()


def _is_metadata(host: str) -> bool:
    if host in _METADATA_HOSTS or _SPELLED_LINK_LOCAL.search(host):
        return True
    address = _address(host)
    return address is not None and any(_is_metadata_address(each) for each in _embedded(address))


def _is_metadata_address(address: IPv4Address | IPv6Address) -> bool:
    return address in _METADATA_ADDRESSES or any(
        address in network for network in _LINK_LOCAL if network.version == address.version
    )


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host.partition("%")[0])
    except ValueError:
        pass
    try:
        # The forms of old that resolvers still take: 2852039166, 0xA9FEA9FE, 169.254.43518, octal.
        return IPv4Address(socket.inet_aton(host))
    except (OSError, ValueError):
        return None


def _embedded(address: IPv4Address | IPv6Address) -> Iterator[IPv4Address | IPv6Address]:
    """The address, and the IPv4 one that it carries (mapped, 6to4, NAT64, compatible)."""
    yield address
    if isinstance(address, IPv6Address):
        for carried in (address.ipv4_mapped, address.sixtofour):
            if carried is not None:
                yield carried
        if address in _NAT64 or not int(address) >> 32:
            yield IPv4Address(int(address) & 0xFFFFFFFF)


CHECKS: tuple[Check, ...] = (unsafe_url, cloud_metadata_url)
