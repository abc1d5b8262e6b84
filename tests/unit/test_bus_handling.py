"""What both buses do with a message that arrived: bounded, owned, and never ended by one bad handler."""

import asyncio

import pytest
from structlog.testing import capture_logs

from mcp_federation.bus.handling import Tasks, error_answer, handle, overloaded, stop_task
from mcp_federation.bus.protocol import Delivery
from mcp_federation.contract.messages import ErrorReply, decode
from mcp_federation.contract.subjects import Header
from mcp_federation.errors import Conflict, InvalidRequest, Overloaded


async def test_finishing_waits_for_what_runs_and_cancels_what_takes_too_long() -> None:
    tasks, gate, ended = Tasks(limit=5), asyncio.Event(), []

    async def work(name: str, until: asyncio.Event) -> None:
        try:
            await until.wait()
            ended.append(name)
        except asyncio.CancelledError:
            ended.append(f"{name} cancelled")
            raise

    tasks.spawn(work("quick", gate))
    tasks.spawn(work("endless", asyncio.Event()))
    asyncio.get_running_loop().call_later(0.01, gate.set)
    await asyncio.wait_for(tasks.finish(timeout=0.1), 5)
    assert ended == ["quick", "endless cancelled"]
    await tasks.finish()


async def test_a_handler_may_finish_the_tasks_that_it_is_one_of() -> None:
    tasks, done = Tasks(limit=1), asyncio.Event()

    async def closes_itself() -> None:
        await tasks.finish()
        done.set()

    tasks.spawn(closes_itself())
    await asyncio.wait_for(done.wait(), 5)


async def test_there_is_room_again_once_one_has_ended() -> None:
    tasks, gate = Tasks(limit=1), asyncio.Event()

    async def work() -> None:
        await gate.wait()

    tasks.spawn(work())
    assert tasks.full
    waiting = asyncio.create_task(tasks.room())
    gate.set()
    await asyncio.wait_for(waiting, 5)
    assert not tasks.full


@pytest.mark.parametrize(
    ("error", "operation"),
    [(InvalidRequest("nonsense"), "message_refused"), (KeyError("bug"), "handler_failed")],
)
async def test_what_a_handler_raises_is_logged_and_ends_nothing(error: Exception, operation: str) -> None:
    async def handler(_: Delivery) -> None:
        raise error

    with capture_logs() as logs:
        await handle(handler, Delivery("a.b", b""))
    assert [(line["event"], line["subject"]) for line in logs] == [(operation, "a.b")]


def test_an_error_is_answered_with_the_headers_of_nats_services() -> None:
    reply = error_answer(Conflict("two\nlines — and " + "x" * 1000, {"a": 1}))
    assert reply.headers[Header.ERROR_CODE] == "409"
    assert reply.headers[Header.ERROR].startswith("two lines ? and x")
    assert reply.headers[Header.ERROR].isascii()
    assert len(reply.headers[Header.ERROR]) == 512
    assert decode(reply.payload, ErrorReply).details == {"a": 1}


def test_an_error_without_a_message_goes_by_its_title() -> None:
    assert error_answer(Conflict("")).headers[Header.ERROR] == "Conflict"


def test_who_is_refused_for_load_is_told_when_to_come_again() -> None:
    reply = decode(overloaded().payload, ErrorReply)
    assert reply.code == Overloaded.code
    assert reply.details["retry_after_ms"] > 0


async def test_a_task_that_one_owns_is_stopped_and_awaited() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = asyncio.create_task(work())
    running = asyncio.Event()
    asyncio.get_running_loop().call_soon(running.set)
    await running.wait()
    await stop_task(task)
    assert ended.is_set()
    assert task.cancelled()
    await stop_task(task)
    await stop_task(None)
