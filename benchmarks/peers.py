"""Row 5: what users would pick instead, each in a virtual environment of its own, installed on demand."""

import asyncio
import json
import os
import secrets
import sys
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from benchmarks.clients import Answer, HttpClient
from benchmarks.group import StartFailed
from benchmarks.load import Call
from benchmarks.mesh import ROOT, bench_environment, free_port, listens, server_command
from benchmarks.targets import CALL_ID, Bench, Target, WrongAnswer, edge_target, post, unavailable

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mcp-federation-bench"
INSTALL_TIMEOUT = 600.0
START_TIMEOUT = 90.0
MODERN = "2026-07-28"
LEGACY = "2025-06-18"
_INFO = {"name": "mcp-federation-bench", "version": "1"}
_META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": _INFO,
    "io.modelcontextprotocol/clientCapabilities": {},
}
_ACCEPT = {"Accept": "application/json, text/event-stream"}

FASTMCP_PROXY = """
import sys
from fastmcp.server import create_proxy
create_proxy(sys.argv[1]).run(
    transport="http", host="127.0.0.1", port=int(sys.argv[2]), show_banner=False, log_level="ERROR"
)
"""
FASTMCP_KEPT = """
import asyncio, sys
from fastmcp import Client
from fastmcp.server.providers.proxy import FastMCPProxy
async def main():
    async with Client(sys.argv[1]) as client:
        proxy = FastMCPProxy(client_factory=lambda: client)
        await proxy.run_async(
            transport="http", host="127.0.0.1", port=int(sys.argv[2]), show_banner=False, log_level="ERROR"
        )
asyncio.run(main())
"""

Say = Callable[[str], None]


async def start_peers(bench: Bench, stack: AsyncExitStack, cache: Path, say: Say) -> list[Target]:
    """The targets of row 5: ours first, then each peer in front of the same server, as far as it starts."""
    targets = [
        edge_target("5-edge", 5, "POST /execute, same HTTP server", bench.mesh, "http", stack),
        edge_target("5-edge-stdio", 5, "POST /execute, same stdio server", bench.mesh, "stdio", stack),
    ]
    peers = (
        ("5-fastmcp", "FastMCP proxy", _fastmcp(FASTMCP_PROXY, "fastmcp")),
        ("5-fastmcp-kept", "FastMCP proxy, kept session", _fastmcp(FASTMCP_KEPT, "fastmcp-kept")),
        ("5-contextforge", "ContextForge", _contextforge),
        ("5-mcp-proxy", "mcp-proxy (stdio)", _mcp_proxy),
    )
    for key, title, start in peers:
        say(f"starting {title}")
        try:
            prepare, how = await start(bench, stack, cache)
            await prepare(200)()
            targets.append(Target(key, 5, f"{title}, {how}", prepare))
        except (StartFailed, WrongAnswer, OSError, ValueError, KeyError, TimeoutError) as error:
            targets.append(unavailable(key, 5, title, str(error)[:300] or type(error).__name__))
    return targets


async def _installed(package: str, cache: Path) -> Path:
    """The `bin` folder of the environment that has a package; made where it is missing."""
    folder = cache / package
    done = folder / ".installed"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        for argv in (
            [sys.executable, "-m", "venv", str(folder)],
            [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", package],
        ):
            process = await asyncio.create_subprocess_exec(*argv, stderr=asyncio.subprocess.PIPE)
            try:
                async with asyncio.timeout(INSTALL_TIMEOUT):
                    _, errors = await process.communicate()
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
            if process.returncode:
                raise StartFailed(f"{package} does not install: {errors.decode(errors='replace')[-200:]}")
        done.touch()
    return folder / "bin"


def _fastmcp(script: str, name: str) -> Callable[..., Any]:
    async def start(bench: Bench, stack: AsyncExitStack, cache: Path) -> tuple[Callable[[int], Call], str]:
        python = await _installed("fastmcp", cache) / "python"
        port = free_port()
        env = {key: value for key, value in bench_environment().items() if key != "PYTHONPATH"}
        bench.group.start(name, [str(python), "-c", script, bench.mcp_url, str(port)], env)
        await bench.group.until(name, lambda: listens(port), START_TIMEOUT)
        return await mcp_caller(f"http://127.0.0.1:{port}/mcp", stack)

    return start


async def _mcp_proxy(bench: Bench, stack: AsyncExitStack, cache: Path) -> tuple[Callable[[int], Call], str]:
    proxy = await _installed("mcp-proxy", cache) / "mcp-proxy"
    port = free_port()
    env = {key: value for key, value in bench_environment().items() if key != "PYTHONPATH"}
    flags = ("--host", "127.0.0.1", "--log-level", "ERROR", "-e", "PYTHONPATH", str(ROOT))
    argv = [str(proxy), "--port", str(port), *flags, "--", *server_command("mcp-stdio")]
    bench.group.start("mcp-proxy", argv, env)
    await bench.group.until("mcp-proxy", lambda: listens(port), START_TIMEOUT)
    return await mcp_caller(f"http://127.0.0.1:{port}/mcp", stack)


async def mcp_caller(url: str, stack: AsyncExitStack) -> tuple[Callable[[int], Call], str]:
    """Calls of an MCP server's echo as plain POSTs, and how: stateless where it can, else in a session."""
    http = HttpClient(url)
    stack.callback(http.close)
    modern = {**_ACCEPT, "MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/call", "Mcp-Name": "echo"}
    try:
        prepare = _tool_calls(http, modern, {"_meta": _META})
        await prepare(200)()
        return prepare, "stateless"
    except WrongAnswer:
        params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": _INFO}
        answer = await http.send(http.request(_rpc("initialize", params), _ACCEPT))
        session = answer.header("mcp-session-id")
        headers = {**_ACCEPT, "MCP-Protocol-Version": LEGACY}
        if session:
            headers["Mcp-Session-Id"] = session
        note = json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}).encode()
        await http.send(http.request(note, headers))
        return _tool_calls(http, headers, {}), "session"


def _tool_calls(
    http: HttpClient, headers: dict[str, str], more: Mapping[str, Any], tool: str = "echo"
) -> Callable[[int], Call]:
    def prepare(size: int) -> Call:
        text = "x" * size
        params = {"name": tool, "arguments": {"text": text}, **more}
        return post(http, _rpc("tools/call", params), text, headers)

    return prepare


def _rpc(method: str, params: Mapping[str, Any]) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": CALL_ID.decode(), "method": method, "params": params}).encode()


async def _contextforge(
    bench: Bench, stack: AsyncExitStack, cache: Path
) -> tuple[Callable[[int], Call], str]:
    binary = await _installed("mcp-contextforge-gateway", cache)
    port = free_port()
    env = _contextforge_environment(bench)
    argv = [str(binary / "mcpgateway"), "--host", "127.0.0.1", "--port", str(port)]
    bench.group.start("contextforge", argv, env)
    await bench.group.until("contextforge", lambda: listens(port), START_TIMEOUT)
    token = await _contextforge_token(binary, env, bench.group.folder)
    headers = {**_ACCEPT, "Authorization": f"Bearer {token}"}
    base = f"http://127.0.0.1:{port}"
    gateway = {"name": "bench", "url": bench.mcp_url, "transport": "STREAMABLEHTTP"}
    await _request(stack, f"{base}/gateways", headers, gateway)
    tools = await _request(stack, f"{base}/tools", headers)
    name = next(tool["name"] for tool in tools if "echo" in tool["name"])
    http = HttpClient(f"{base}/rpc")
    stack.callback(http.close)
    return _tool_calls(http, headers, {}, name), "POST /rpc"


def _contextforge_environment(bench: Bench) -> dict[str, str]:
    secret = {name: secrets.token_hex(24) for name in ("JWT_SECRET_KEY", "AUTH_ENCRYPTION_SECRET")}
    password = f"Aa1!{secrets.token_hex(8)}"
    return {
        **{key: value for key, value in bench_environment().items() if key != "PYTHONPATH"},
        **secret,
        "DATABASE_URL": f"sqlite:///{bench.group.folder}/contextforge.db",
        "PLATFORM_ADMIN_EMAIL": "admin@example.com",
        "PLATFORM_ADMIN_PASSWORD": password,
        "DEFAULT_USER_PASSWORD": password,
        "BASIC_AUTH_PASSWORD": password,
        "MCPGATEWAY_UI_ENABLED": "false",
        "MCPGATEWAY_ADMIN_API_ENABLED": "true",
        # It refuses servers on this machine otherwise.
        "SSRF_ALLOW_LOCALHOST": "true",
        "SSRF_ALLOW_PRIVATE_NETWORKS": "true",
        "LOG_LEVEL": "ERROR",
    }


async def _contextforge_token(binary: Path, env: Mapping[str, str], folder: Path) -> str:
    process = await asyncio.create_subprocess_exec(
        str(binary / "python"),
        "-m",
        "mcpgateway.utils.create_jwt_token",
        *("--username", "admin@example.com", "--admin", "--exp", "600", "--secret", env["JWT_SECRET_KEY"]),
        env=dict(env),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    lines = [line for line in output.decode().split() if line.count(".") == 2]
    if not lines:
        raise StartFailed("it gave no token")
    return lines[-1]


async def _request(
    stack: AsyncExitStack, url: str, headers: dict[str, str], body: Mapping[str, Any] | None = None
) -> Any:
    http = HttpClient(url)
    stack.callback(http.close)
    payload = b"" if body is None else json.dumps(body).encode()
    request = http.request(payload, headers, "GET" if body is None else "POST")
    async with asyncio.timeout(60):
        answer: Answer = await http.send(request)
    if answer.status >= 300:
        raise WrongAnswer(f"{url}: {answer.status} {answer.body[:200]!r}")
    return json.loads(answer.body)
