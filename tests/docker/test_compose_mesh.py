"""The compose mesh: three organisations in containers, called through the edge, one of them stopped."""

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from testcontainers.compose import DockerCompose

from mcp_federation.listening import listening_port
from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "a token for this test"
CALLS = {
    "acme": ("file_operations_mcp@acme", {"operation": "list", "source_path": "."}),
    "globex": ("time.get_current_time@globex", {"timezone": "UTC"}),
    "initech": ("text_processing_mcp@initech", {"operation": "statistics", "text": "three short words"}),
}


def engine_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, timeout=20, check=False).returncode == 0


pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not engine_answers(), reason="no Docker engine answers"),
]


class Compose(DockerCompose):
    """With `docker-compose` where the engine's client has no `compose` of its own."""

    @property
    def compose_command_property(self) -> list[str]:
        plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
        return ["docker", "compose"] if plugin.returncode == 0 else ["docker-compose"]


class ComposeMesh:
    """The running mesh: its edge's URL, and commands on its containers."""

    def __init__(self, compose: DockerCompose, url: str) -> None:
        self._compose = compose
        self.url = url

    def compose(self, *arguments: str) -> bytes:
        return run(*self._compose.docker_compose_command(), *arguments)

    def inspected(self, service: str, what: str) -> bytes:
        """What Docker's template `what` tells of a service's container; of all, without a name."""
        containers = self.compose("ps", "-q", *([service] if service else [])).decode().split()
        return run("docker", "inspect", "-f", what, *containers)

    def health(self) -> list[bytes]:
        return self.inspected("", "{{.State.Health.Status}}").split()


def run(*command: str) -> bytes:
    return subprocess.run(command, capture_output=True, check=True, timeout=120).stdout


@pytest.fixture(scope="module")
def mesh() -> Iterator[ComposeMesh]:
    port = listening_port("127.0.0.1", 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TESTCONTAINERS_RYUK_DISABLED", "true")
        patch.setenv("COMPOSE_PROJECT_NAME", f"mcpfed-test-{os.getpid()}")
        patch.setenv("MCP_FEDERATION_PORT", str(port))
        patch.setenv("MCP_FEDERATION_TOKEN", TOKEN)
        compose = Compose(ROOT, build=True, wait=False)
        with compose:
            yield ComposeMesh(compose, f"http://127.0.0.1:{port}")


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(10)) as session:
        yield session


async def call(http: aiohttp.ClientSession, url: str, node: str) -> tuple[int, Any]:
    name, arguments = CALLS[node]
    try:
        async with http.post(
            f"{url}/execute", json={"mcp_name": name, "args": [], "kwargs": arguments}
        ) as reply:
            return reply.status, await reply.json(content_type=None)
    except aiohttp.ClientError as error:
        return 0, str(error)


async def availability(http: aiohttp.ClientSession, url: str) -> dict[str, bool]:
    """By node, whether `/discover` says that its tools are available."""
    async with http.get(f"{url}/discover") as reply:
        return {tool["node"]: tool["available"] for tool in await reply.json()}


async def test_every_organisation_s_tools_answer_and_one_that_stops_costs_only_its_own(
    mesh: ComposeMesh, http: aiohttp.ClientSession
) -> None:
    async def answers(node: str) -> bool:
        return (await call(http, mesh.url, node))[0] == 200

    for node in CALLS:
        await eventually(partial(answers, node), timeout=180)
    async with aiohttp.ClientSession() as stranger, stranger.get(f"{mesh.url}/discover") as refused:
        assert refused.status == 401
    assert await availability(http, mesh.url) == dict.fromkeys(CALLS, True)

    mesh.compose("stop", "globex")

    async def globex_is_gone() -> bool:
        return await availability(http, mesh.url) == {"acme": True, "globex": False, "initech": True}

    await eventually(globex_is_gone, timeout=30)
    status, problem = await call(http, mesh.url, "globex")
    assert (status, problem["code"]) == (503, "node_unavailable")
    assert await answers("acme")
    assert await answers("initech")

    mesh.compose("start", "globex")
    await eventually(partial(answers, "globex"), timeout=60)


async def test_the_containers_run_without_root_and_report_their_health(mesh: ComposeMesh) -> None:
    assert int(mesh.compose("exec", "-T", "governance", "id", "-u")) != 0
    mode = mesh.compose("exec", "-T", "governance", "stat", "-c", "%a", "/state/governance.key")
    assert mode.strip() == b"600"
    await eventually(lambda: mesh.health() == [b"healthy"] * 7, timeout=90)


async def test_the_edge_alone_has_the_token(mesh: ComposeMesh) -> None:
    services = mesh.compose("config", "--services").decode().split()
    have = {name for name in services if TOKEN.encode() in mesh.inspected(name, "{{.Config.Env}}")}
    assert have == {"edge"}


async def test_a_nats_server_that_lost_its_data_gets_it_back(
    mesh: ComposeMesh, http: aiohttp.ClientSession
) -> None:
    async def edge_sees_all() -> bool:
        try:
            return await availability(http, mesh.url) == dict.fromkeys(CALLS, True)
        except (aiohttp.ClientError, KeyError, TypeError):  # it starts, or has not read the catalog yet
            return False

    await eventually(edge_sees_all, timeout=60)
    volume = mesh.inspected("nats", '{{range .Mounts}}{{if eq .Destination "/data"}}{{.Name}}{{end}}{{end}}')
    mesh.compose("rm", "--stop", "--force", "nats")
    run("docker", "volume", "rm", volume.decode().strip())
    mesh.compose("up", "-d", "nats")
    mesh.compose("restart", "edge")  # it knows nothing but what NATS has
    await eventually(edge_sees_all, timeout=90)
