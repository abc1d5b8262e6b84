"""What the fields of messages may hold."""

from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Raw

from mcp_federation.contract.names import MAX_LOCAL_NAME, NODE_NAME

Text = Annotated[str, Meta(max_length=100_000)]
# `$` alone also matches before a line feed at the end; `\Z` is not JSON Schema's.
Digest = Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}$(?!\n)")]
NodeName = Annotated[str, Meta(pattern=rf"^{NODE_NAME.pattern}$(?!\n)")]
LocalName = Annotated[str, Meta(min_length=1, max_length=MAX_LOCAL_NAME)]
Version = Annotated[str, Meta(max_length=256)]
Ratio = Annotated[float, Meta(ge=0, le=1)]
NonNegative = Annotated[float, Meta(ge=0)]
Count = Annotated[int, Meta(ge=0)]

if TYPE_CHECKING:
    MaybeRaw = Raw | None
else:
    MaybeRaw = Raw  # in a union msgspec forgets Raw, and takes nothing but null
