"""Ed25519 keys of governance: made once, kept with mode 0600, published as one line of text."""

import base64
import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from mcp_federation.errors import InvalidRequest

KEY_FILE: Final = "governance.key"
PUBLIC_KEY_FILE: Final = "governance.pub"
"""What governance keeps its key in, and publishes it in, in its state directory."""

_PREFIX = "ed25519:"


@dataclass(frozen=True)
class TrustedKey:
    """A governance key that approvals are checked against. `key_id` stands in their header."""

    key_id: str
    public: Ed25519PublicKey

    def __str__(self) -> str:
        return _PREFIX + base64.b64encode(self.public.public_bytes_raw()).decode()


def trusted(public: Ed25519PublicKey) -> TrustedKey:
    """The key with its id: the first 16 hex digits of its SHA-256."""
    return TrustedKey(sha256(public.public_bytes_raw()).hexdigest()[:16], public)


def parse_trusted_key(text: str) -> TrustedKey:
    """The key behind `ed25519:<base64>`.

    Raises:
        InvalidRequest: the text is no such key.
    """
    try:
        if not text.startswith(_PREFIX):
            raise ValueError
        return trusted(
            Ed25519PublicKey.from_public_bytes(base64.b64decode(text[len(_PREFIX) :], validate=True))
        )
    except ValueError:
        raise InvalidRequest(f"{text[:80]!r} is no governance key: expected {_PREFIX}<base64>") from None


def read_trusted_keys(sources: Iterable[str]) -> tuple[TrustedKey, ...]:
    """The keys named by `sources`: each a key as text, or a file with one key a line (`#` comments).

    Raises:
        InvalidRequest: a source is neither, or cannot be read.
    """
    keys: list[TrustedKey] = []
    for source in sources:
        if source.startswith(_PREFIX):
            keys.append(parse_trusted_key(source))
            continue
        try:
            lines = Path(source).read_text().splitlines()
        except (OSError, UnicodeDecodeError):
            raise InvalidRequest(f"cannot read the governance keys in {source!r}") from None
        keys += [parse_trusted_key(line) for line in map(str.strip, lines) if line and line[0] != "#"]
    return tuple(keys)


def load_or_create_key(path: Path) -> Ed25519PrivateKey:
    """The private key kept at `path`, made there on first use with mode 0600.

    Raises:
        InvalidRequest: the file holds no such key, others may read it, or it cannot be read or made.
    """
    try:
        if not path.exists():  # else not even a folder to write in is needed
            _create_key(path)
    except OSError as error:
        raise InvalidRequest(f"cannot keep the private key {path.name}: {error.strerror}") from error
    return load_key(path)


def _create_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Written aside and linked, so that of two workers that start at once both use one whole key.
    # No process id in the name: in a container it is the same again after a crash.
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    draft.touch(mode=0o600, exist_ok=False)
    try:
        draft.write_bytes(_to_pem(Ed25519PrivateKey.generate()))
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()


def load_key(path: Path) -> Ed25519PrivateKey:
    """The private key kept at `path`.

    Raises:
        InvalidRequest: the file is not there, holds no such key, or others may read it.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise InvalidRequest(f"the private key {path.name} may be read by others: give it mode 0600")
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise InvalidRequest(f"cannot read the private key {path.name}: {error.strerror}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InvalidRequest(f"{path.name} holds no private key") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise InvalidRequest(f"{path.name} holds no Ed25519 key")
    return key


def _to_pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
