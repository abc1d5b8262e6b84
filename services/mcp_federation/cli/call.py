"""`mcp-federation call`: executes a tool and prints what it answers."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.json import JSON

from mcp_federation.cli.arguments import coerce_arguments
from mcp_federation.cli.client import run_client
from mcp_federation.cli.output import print_json, print_text
from mcp_federation.client import FederationClient
from mcp_federation.client.retries import OnProgress
from mcp_federation.contract.mcp import CallResult
from mcp_federation.contract.messages import Progress
from mcp_federation.mesh.terminal import make_console, safe_text


def run_call(name: str, arguments: Mapping[str, Any], timeout: float, as_json: bool, **overrides: Any) -> int:
    """Execute the tool within `timeout` seconds and print its result; the exit code."""

    async def work(client: FederationClient) -> None:
        schema = json.loads(bytes(client.candidates(name)[0].tool.input_schema))
        with showing_progress() as on_progress:
            result = await client.execute(
                name, coerce_arguments(arguments, schema), timeout=timeout, on_progress=on_progress
            )
        if as_json:
            print_json(result.value)
        else:
            show_result(result)

    return run_client(work, **overrides)


@contextmanager
def showing_progress() -> Iterator[OnProgress | None]:
    """What shows the steps that a tool tells of; without a terminal nobody is asked for them."""
    if not sys.stderr.isatty():
        yield None
        return
    with make_console(sys.stderr).status("waiting for the tool") as status:
        yield lambda progress: status.update(describe(progress))


def describe(progress: Progress) -> str:
    """A step in one line."""
    total = "" if progress.total is None else f"/{progress.total:g}"
    return " ".join(f"{progress.progress:g}{total} {safe_text(progress.message or '')}".split())


def show_result(result: CallResult) -> None:
    """Print a result: text as it is, structure as JSON, what is neither as its kind and size."""
    text = readable(result)
    if not sys.stdout.isatty():
        print_text(text)
    elif isinstance(result.value, dict | list) and result.value is not result.content:
        make_console().print(JSON(safe_text(text)), soft_wrap=True)
    else:
        make_console().print(safe_text(text), soft_wrap=True)


def readable(result: CallResult) -> str:
    """The result as text."""
    value = result.value
    if isinstance(value, str):
        return value
    if value is result.content:
        return "\n".join(map(_block, result.content))
    return json.dumps(value, indent=2, ensure_ascii=False)


def _block(block: Mapping[str, Any]) -> str:
    match block.get("type"):
        case "text":
            return str(block.get("text", ""))
        case "image" | "audio":
            size = len(str(block.get("data", ""))) * 3 // 4
            return f"<{block['type']}: {block.get('mimeType', 'of an unknown type')}, about {size} bytes>"
        case "resource_link":
            return f"<{block.get('name', 'resource')}: {block.get('uri', '')}>"
        case _:
            return json.dumps(block, indent=2, ensure_ascii=False)
