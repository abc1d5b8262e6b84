"""A chat model's second opinion: it holds tools back, lets none pass, and may be away."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from msgspec.structs import replace

from mcp_federation.bus.memory import MemoryBus
from mcp_federation.bus.protocol import Bus
from mcp_federation.contract.messages import Registration, Verdict, decode, encode
from mcp_federation.contract.subjects import REGISTER
from mcp_federation.engine.chat import ChatEndpoint
from mcp_federation.governance.app import GovernanceWorker
from mcp_federation.trust.policy import PRESETS, Policy
from tests.support.http_peer import HttpPeer
from tests.support.registrations import CLEAN, a_registration, a_tool, rules

PATH = "POST /v1/chat/completions"
STANDARD = PRESETS["standard"]


def says(attack: Any, why: str = "It asks for keys.") -> dict[str, Any]:
    content = f"Here you are: {json.dumps({'attack': attack, 'why': why})}"
    return {"choices": [{"message": {"content": content}}]}


@pytest.fixture
def model() -> Iterator[HttpPeer]:
    with HttpPeer({PATH: says(0.9)}) as peer:
        yield peer


@asynccontextmanager
async def governed(model: HttpPeer, folder: Path, policy: Policy = STANDARD) -> AsyncIterator[Bus]:
    endpoint = ChatEndpoint("the-key", base_url=f"{model.url}/v1", model="some/model", timeout=5)
    async with MemoryBus() as bus:
        worker = GovernanceWorker(bus, folder, policy=policy, model=endpoint)
        await worker.start()
        try:
            yield bus
        finally:
            await worker.stop()


async def register(bus: Bus, registration: Registration) -> Verdict:
    reply = await bus.request(REGISTER.of("acme"), encode(registration), timeout=10)
    return decode(reply.payload, Verdict)


async def test_what_the_model_suspects_waits_for_a_person(model: HttpPeer, tmp_path: Path) -> None:
    async with governed(model, tmp_path) as bus:
        verdict = await register(bus, a_registration())
    assert (verdict.decision, rules(verdict.findings)) == ("quarantined", {"model-suspects"})
    (finding,) = verdict.findings
    assert (finding.probability, "It asks for keys." in finding.why) == (0.9, True)
    assert "model" in verdict.checks
    (seen,) = model.seen
    assert seen.authorization == "Bearer the-key"
    assert CLEAN in json.loads(seen.body)["messages"][1]["content"]


async def test_what_the_model_praises_is_judged_by_the_checks_all_the_same(
    model: HttpPeer, tmp_path: Path
) -> None:
    model.routes[PATH] = says(0.0)
    async with governed(model, tmp_path) as bus:
        assert (await register(bus, a_registration())).decision == "approved"
        todo = await register(bus, a_registration(a_tool(description="TODO")))
        hidden = await register(bus, a_registration(a_tool(description=f"{CLEAN}\u200b")))
    assert (todo.decision, hidden.decision) == ("quarantined", "rejected")
    assert len(model.seen) == 2  # what is rejected anyway is shown to nobody


@pytest.mark.parametrize(
    "answer",
    [
        web.Response(status=500),
        {"choices": []},
        {"choices": [{"message": {"content": "I will not."}}]},
        says("certainly"),
        says(7),
    ],
)
async def test_a_model_that_gives_no_opinion_leaves_it_to_the_checks(
    model: HttpPeer, tmp_path: Path, answer: Any
) -> None:
    async def give(_: web.Request) -> web.StreamResponse:
        return answer if isinstance(answer, web.Response) else web.json_response(answer)

    model.routes[PATH] = give
    async with governed(model, tmp_path) as bus:
        verdict = await register(bus, a_registration())
    assert (verdict.decision, "model" in verdict.checks) == ("approved", False)


async def test_where_the_model_is_required_its_silence_holds_a_tool_back(
    model: HttpPeer, tmp_path: Path
) -> None:
    model.stop()
    async with governed(model, tmp_path, replace(STANDARD, required=("model",))) as bus:
        verdict = await register(bus, a_registration())
    assert verdict.decision == "quarantined"
    assert "model" in verdict.reasons[0]


async def test_a_text_is_shown_to_the_model_once(model: HttpPeer, tmp_path: Path) -> None:
    async with governed(model, tmp_path) as bus:
        await asyncio.gather(*(register(bus, a_registration()) for _ in range(3)))
        await register(bus, a_registration())
    assert len(model.seen) == 1
