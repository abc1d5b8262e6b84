"""How long a call may take, as its header says it. Pure."""

import re

from mcp_federation.contract.subjects import Header
from mcp_federation.errors import InvalidRequest

# More digits say nothing that these do not: every process has a longest timeout of its own.
_MILLISECONDS = re.compile(r"0*[1-9][0-9]{0,14}")


def seconds_of(text: str) -> float:
    """Seconds, of the text of `Header.TIMEOUT_MS`.

    Raises:
        InvalidRequest: it is no whole number of milliseconds, 1 or more, of at most 15 digits.
    """
    if not _MILLISECONDS.fullmatch(text):
        raise InvalidRequest(
            f"{Header.TIMEOUT_MS} is a whole number of milliseconds, 1 or more, of at most 15 digits"
        )
    return int(text) / 1000
