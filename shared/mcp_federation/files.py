"""Files that others read while they are written."""

import secrets
from pathlib import Path


def write_whole(path: Path, *parts: bytes, mode: int = 0o600) -> None:
    """Have a file of these parts; who reads it meanwhile finds the old or the new one whole.

    Raises:
        OSError: it cannot be written; what was there before still is.
    """
    # No process id in the name: in a container it is the same again after a crash.
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        draft.touch(mode, exist_ok=False)
        with draft.open("wb") as file:
            file.writelines(parts)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
