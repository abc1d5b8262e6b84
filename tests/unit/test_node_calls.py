"""What a call promises holds for every kind of server; a connection that broke is renewed under it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mcp_federation.contract.mcp import CallResult, decode_result
from mcp_federation.contract.messages import Progress
from mcp_federation.errors import DeadlineExceeded, PayloadTooLarge, ServerDown, ServerUnavailable, ToolFailed
from mcp_federation.node.servers import link
from mcp_federation.node.servers.calls.calling import Disconnected
from mcp_federation.node.servers.calls.http import HttpCalls
from mcp_federation.node.servers.calls.python import PythonCalls
from mcp_federation.node.servers.calls.sdk import SdkCalls
from mcp_federation.node.servers.calls.stdio import StdioCalls
from mcp_federation.node.servers.from_files import FromFiles, Value
from mcp_federation.node.servers.server import SupervisedServer
from mcp_federation.node.servers.toolboxes import ToolboxSpec
from tests.support.node_servers import hurry, plain, sdk_over_stdio
from tests.support.sdk_servers import HttpServer, Seen, sdk_server
from tests.support.waiting import eventually

KINDS = {
    "toolbox": PythonCalls,
    "stdio": StdioCalls,
    "http": HttpCalls,
    "older http": SdkCalls,
    "sse": SdkCalls,
}


class Box:
    """A supervised server that is ready, and what serves it."""

    def __init__(self, server: SupervisedServer, http: HttpServer | None, seen: Seen) -> None:
        self.server = server
        self.http = http
        self.seen = seen

    async def call(self, tool: str, timeout: float = 10, **arguments: Any) -> CallResult:
        return decode_result((await self.server.call(tool, arguments, timeout)).result)

    async def value(self, tool: str, **arguments: Any) -> Any:
        return (await self.call(tool, **arguments)).value

    async def until_waits(self) -> None:
        """Wait until a call of the tool 'wait' has reached it."""
        await eventually(lambda: self.value("running"))


Make = Callable[..., Awaitable[Box]]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a server may need longer to be back than a call would wait for it."""
    monkeypatch.setattr(link, "RECONNECT_TIMEOUT", 30.0)


@pytest.fixture
async def make(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Make]:
    hurry(monkeypatch)
    async with AsyncExitStack() as stack:

        async def start(
            kind: str, headers: Mapping[str, Value] | None = None, token: str = "", **options: Any
        ) -> Box:
            seen = Seen()
            http = None
            spec: Any = sdk_over_stdio() if kind == "stdio" else ToolboxSpec(sdk_server(seen=seen))
            if kind not in ("stdio", "toolbox"):
                transport = "sse" if kind == "sse" else "http"
                http = HttpServer(sdk_server(seen=seen), transport=transport, legacy=kind == "older http")
                http.token = token
                await stack.enter_async_context(http)
                spec = replace(http.spec, headers=headers or {})
            if kind == "plain":
                spec = plain()
            server = SupervisedServer("box", spec, on_change=lambda _: None, poll_interval=60, **options)
            stack.push_async_callback(server.stop)
            server.start()
            await server.settled()
            assert server.state.state == "ready", server.state.reason
            return Box(server, http, seen)

        yield start


@pytest.fixture(params=KINDS)
async def box(request: pytest.FixtureRequest, make: Make) -> Box:
    made = await make(request.param)
    assert type(made.server._link.calls) is KINDS[request.param]
    return made


async def test_results_come_as_the_tool_gave_them(box: Box) -> None:
    assert await box.value("echo", text="grüße") == "grüße"
    assert await box.value("record", rows=2) == {"rows": 2, "nothing": None}
    failed = await box.call("fail")
    assert (failed.is_error, failed.text) == (True, "Error executing tool fail: the disk is full")
    assert (await box.call("no_such_tool")).is_error


async def test_an_argument_that_belongs_into_a_header_goes_there(box: Box) -> None:
    assert await box.value("where", region="über € all") == "über € all"


async def test_progress_comes_in_order_and_not_behind_the_result(box: Box) -> None:
    seen: list[Progress] = []
    await box.server.call("steps", {"to": 5}, 10, seen.append)
    told = [Progress(progress=step, total=5, message=f"step {step}") for step in range(5)]
    assert seen == told
    assert await box.value("steps", to=5) == 5
    assert seen == told


@pytest.mark.parametrize("how", ["deadline", "cancelled"])
async def test_a_tool_notices_that_nobody_waits_and_its_slot_is_free_at_once(box: Box, how: str) -> None:
    call = asyncio.create_task(box.call("wait", timeout=0.1 if how == "deadline" else 10))
    if how == "deadline":
        with pytest.raises(DeadlineExceeded):
            await call
    else:
        await box.until_waits()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert box.server._slots.in_use == 0
    await eventually(lambda: box.value("noticed"))


async def test_a_stop_ends_the_calls_under_way(box: Box) -> None:
    call = asyncio.create_task(box.call("wait"))
    await box.value("echo", text="a")
    await box.server.stop()
    with pytest.raises(ServerUnavailable):
        await call


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("kind", ["http", "older http"])
async def test_a_call_waits_for_a_server_that_is_just_restarting(make: Make, kind: str) -> None:
    box = await make(kind)
    assert box.http is not None
    await box.http.stop()
    call = asyncio.create_task(box.value("echo", text="a"))
    await asyncio.sleep(0)  # let the call begin
    await box.http.start()
    assert await call == "a"


@pytest.mark.parametrize("kind", ["http", "older http"])
async def test_the_first_call_of_a_server_that_is_gone_says_that_surely_nothing_ran(
    make: Make, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(link, "RECONNECT_TIMEOUT", 0.05)
    box = await make(kind)
    assert box.http is not None
    await box.http.stop()
    with pytest.raises(ServerDown):
        await box.call("echo", text="a")
    assert box.seen.calls == 0


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("kind", ["http", "older http"])
async def test_what_may_have_run_is_run_again_only_where_that_is_harmless(make: Make, kind: str) -> None:
    for tool in ("wait", "second_time"):
        box = await make(kind)
        assert box.http is not None
        call = asyncio.create_task(box.call(tool))
        await box.seen.started.wait()
        await box.http.stop()
        await box.http.start()
        if tool == "wait":
            with pytest.raises(ServerUnavailable):
                await call
        else:
            assert (await call).value == 2
        assert await box.value("echo", text="a") == "a"


@pytest.mark.usefixtures("patient")
async def test_what_is_harmless_is_run_again_on_a_server_that_crashed(make: Make, tmp_path: Path) -> None:
    box = await make("plain")
    assert (await box.call("crash_once", file=str(tmp_path / "crashed"))).text == "crash_once"
    assert box.server.state.restarts == 1


@pytest.mark.usefixtures("patient")
async def test_a_session_that_the_server_forgot_is_opened_again_under_the_call(make: Make) -> None:
    box = await make("older http")
    assert box.http is not None
    box.http.forget()
    assert await box.value("echo", text="a") == "a"
    assert box.seen.calls == 1


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("kind", ["http", "older http"])
@pytest.mark.parametrize("status", [401, 404])
async def test_a_call_that_was_refused_before_it_ran_is_tried_again(
    make: Make, kind: str, status: int
) -> None:
    box = await make(kind)
    assert box.http is not None
    box.http.refusals = [status]
    assert await box.value("echo", text="a") == "a"
    assert box.seen.calls == 1


async def test_a_login_that_expired_is_told_and_the_next_call_is_well(make: Make) -> None:
    box = await make("http")
    assert box.http is not None
    box.http.refusals = [401, 401]
    with pytest.raises(ServerUnavailable, match="does not accept our login"):
        await box.call("echo", text="a")
    assert await box.value("echo", text="a") == "a"


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("kind", ["http", "older http"])
async def test_a_login_that_was_written_anew_is_read_under_the_call(
    make: Make, kind: str, tmp_path: Path
) -> None:
    login = tmp_path / "login"
    login.write_text("first\n")
    box = await make(kind, headers={"Authorization": FromFiles(("Bearer ", login))}, token="first")
    assert box.http is not None
    login.write_text("second\n")
    box.http.token = "second"
    assert await box.value("echo", text="a") == "a"
    assert box.seen.calls == 1


Refuse = Callable[[Box], None]


@pytest.fixture(params=["login, http", "login, older http", "session, older http"])
async def refusing(request: pytest.FixtureRequest, make: Make, tmp_path: Path) -> tuple[Box, Refuse]:
    """A server over HTTP, and what makes it refuse the login, or the session, of its connections so far."""
    what, kind = request.param.split(", ")
    login = tmp_path / "login"
    login.write_text("first")
    box = await make(kind, headers={"Authorization": FromFiles(("Bearer ", login))}, token="first")
    assert type(box.server._link.calls) is KINDS[kind]

    def refuse(box: Box) -> None:
        assert box.http is not None
        if what == "session":
            box.http.forget()
        else:
            login.write_text("second")
            box.http.token = "second"

    return box, refuse


@pytest.mark.usefixtures("patient")
async def test_all_calls_that_meet_a_refused_connection_at_once_run_once_each(
    refusing: tuple[Box, Refuse],
) -> None:
    box, refuse = refusing
    refuse(box)
    texts = [str(number) for number in range(16)]
    assert await asyncio.gather(*(box.value("echo", text=text) for text in texts)) == texts
    assert box.seen.calls == len(texts)
    assert box.server.state.restarts == 1


@pytest.mark.usefixtures("patient")
async def test_a_call_under_way_gets_its_answer_though_others_are_refused(
    refusing: tuple[Box, Refuse],
) -> None:
    box, refuse = refusing
    held = asyncio.create_task(box.value("hold"))
    await box.seen.started.wait()
    refuse(box)
    assert await box.value("echo", text="a") == "a"
    assert box.server.state.restarts == 1
    assert not held.done()
    box.seen.released.set()
    assert await held == "held"
    await eventually(lambda: len(box.server._sessions) == 1)


@pytest.mark.usefixtures("patient")
async def test_a_stop_ends_the_calls_on_a_connection_that_was_replaced(
    refusing: tuple[Box, Refuse],
) -> None:
    box, refuse = refusing
    held = asyncio.create_task(box.value("hold"))
    await box.seen.started.wait()
    refuse(box)
    assert await box.value("echo", text="a") == "a"
    await box.server.stop()
    with pytest.raises(ServerUnavailable) as ended:
        await held
    assert ended.value.ran is None
    assert not box.server._sessions


@pytest.mark.parametrize("kind", ["http", "older http"])
async def test_a_call_that_comes_to_a_closed_connection_surely_did_not_run(make: Make, kind: str) -> None:
    box = await make(kind)
    calls = box.server._link.calls
    assert calls is not None
    await box.server.stop()
    with pytest.raises(Disconnected) as ended:
        await calls.call("echo", {"text": "a"}, 10, None)
    assert ended.value.ran is False
    assert box.seen.calls == 0


@pytest.mark.parametrize("kind", ["http", "older http", "sse"])
async def test_a_result_of_megabytes_comes_through(make: Make, kind: str) -> None:
    box = await make(kind)
    text = "é" * 500_000  # which the result has twice
    assert await box.value("echo", text=text) == text


@pytest.mark.parametrize("kind", ["http", "older http", "stdio", "toolbox"])
async def test_a_result_over_the_bound_costs_its_own_call_only(make: Make, kind: str) -> None:
    box = await make(kind, max_payload=10_000)
    with pytest.raises(PayloadTooLarge, match="10000 bytes"):
        await box.call("echo", text="x" * 100_000)
    with pytest.raises(PayloadTooLarge):
        await box.call("echo", text="x" * 10_000)
    assert await box.value("echo", text="a") == "a"


async def test_an_answer_to_nobody_disturbs_nobody(make: Make) -> None:
    box = await make("plain")
    late = asyncio.create_task(box.call("wait", timeout=0.05))
    with pytest.raises(DeadlineExceeded):
        await late
    await box.call("release")
    assert (await box.call("echo", text="a")).text == "a"


async def test_a_tool_that_asks_for_input_fails_its_call_alone(make: Make) -> None:
    box = await make("plain")
    with pytest.raises(ToolFailed, match="asks for more input"):
        await box.call("ask")
    assert (await box.call("echo", text="a")).text == "a"
