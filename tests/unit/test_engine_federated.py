import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from mcp_federation import errors
from mcp_federation.engine.choice.pareto import Performance
from mcp_federation.engine.choice.registry import ParetoMCPRegistry
from mcp_federation.engine.documents import tool_spec
from mcp_federation.engine.federated import FederatedRAGMCPEngine
from mcp_federation.engine.sources import rest
from mcp_federation.engine.sources.rest import RestPartner
from mcp_federation.engine.types import MCPToolSpec
from mcp_federation.estimation import OWN_WEIGHT
from tests.support.http_peer import HttpPeer, never, refused_url

TOKEN = "very-secret-token"
CLOCK = {"name": "clock", "description": "Tell the time of day.", "version": "1.0.0"}
OVEN = {"name": "oven", "description": "Bake bread.", "version": "2.1.0"}


def peer_with(*entries: Any, **routes: Any) -> HttpPeer:
    return HttpPeer({"GET /discover": list(entries), "GET /metadata": [], **routes})


def engine(*nodes: str, **options: Any) -> FederatedRAGMCPEngine:
    return FederatedRAGMCPEngine(enable_llm_validation=False, nodes=nodes, **options)


def remote(made: FederatedRAGMCPEngine) -> list[str]:
    return [spec.name for spec in made.pareto_registry.mcps if "static" not in spec.metadata]


def spec_of(made: FederatedRAGMCPEngine, name: str) -> MCPToolSpec:
    spec = made.pareto_registry.get_exact(name)
    assert spec is not None
    return spec


class Mesh:
    """A catalog that a test changes by hand."""

    def __init__(self, *specs: MCPToolSpec, label: str = "mesh") -> None:
        self.label = label
        self.specs = list(specs)
        self.measured: dict[str, Performance] = {}
        self.failure: Exception | None = None
        self.refusals: dict[str, errors.FederationError] = {}
        self.called: list[str] = []
        self.on_change: Callable[[], None] | None = None
        self.stopped = False
        self.readings = 0

    async def load(self) -> None:
        if self.failure:
            raise self.failure

    async def start(self, on_change: Callable[[], None]) -> None:
        await self.load()
        self.on_change = on_change

    async def stop(self) -> None:
        self.stopped = True

    def entries(self) -> Iterable[MCPToolSpec]:
        self.readings += 1
        return self.specs

    def performance(self) -> Mapping[str, Performance]:
        fresh, self.measured = self.measured, {}
        return fresh

    async def execute(self, spec: MCPToolSpec, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        self.called.append(spec.name)
        if spec.name in self.refusals:
            raise self.refusals[spec.name]
        return {"by": spec.name, "args": list(args), "kwargs": dict(kwargs)}


@pytest.fixture
def peers() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_remote_tools_stand_beside_the_local_ones_right_after_construction(
    monkeypatch: pytest.MonkeyPatch, peers: ExitStack
) -> None:
    one, two = peers.enter_context(peer_with(CLOCK, OVEN)), peers.enter_context(peer_with(CLOCK))
    monkeypatch.setenv("MCP_FEDERATION_NODES", f" {one.url}/ ,, {two.url}")
    monkeypatch.setenv("MCP_FEDERATION_TOKEN", TOKEN)
    made = FederatedRAGMCPEngine(enable_llm_validation=False)
    assert len(made.pareto_registry.mcps) == 15 + 3
    assert set(remote(made)) == {f"clock@{one.host}", f"oven@{one.host}", f"clock@{two.host}"}
    assert {seen.authorization for seen in one.seen + two.seen} == {f"Bearer {TOKEN}"}
    clock = spec_of(made, f"clock@{one.host}")
    assert clock.runnable
    assert clock.metadata["node"] == one.host
    assert clock.metadata["version"] == "1.0.0"


def test_the_original_snippet_prints_its_count_and_nothing_else() -> None:
    snippet = (
        "from alita_kgot_enhanced.federation.federated_rag_mcp_engine import FederatedRAGMCPEngine\n"
        "engine = FederatedRAGMCPEngine(enable_llm_validation=False)\n"
        "print(len(engine.pareto_registry.mcps), 'total MCPs (local + remote)')\n"
    )
    with peer_with(CLOCK) as peer:
        environment = {**os.environ, "MCP_FEDERATION_NODES": peer.url}
        done = subprocess.run(
            [sys.executable, "-c", snippet], env=environment, capture_output=True, text=True, timeout=30
        )
    assert (done.stdout, done.stderr) == ("16 total MCPs (local + remote)\n", "")


async def test_construction_works_inside_a_running_event_loop(peers: ExitStack) -> None:
    peer = peers.enter_context(peer_with(CLOCK))
    assert remote(engine(peer.url)) == [f"clock@{peer.host}"]


def test_without_partners_there_are_the_priors_alone() -> None:
    assert len(engine().pareto_registry.mcps) == 15


async def test_the_pipeline_finds_and_ranks_remote_tools(peers: ExitStack) -> None:
    peer = peers.enter_context(peer_with(CLOCK, OVEN))
    result = await engine(peer.url).execute_rag_mcp_pipeline("bake some bread")
    assert result.retrieved_mcps[0].mcp_spec.name == f"oven@{peer.host}"


async def flood(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(100):
        await response.write(b" " * 1024 * 1024)
    return response


async def refuse(_: web.Request) -> web.StreamResponse:
    return web.json_response({"detail": "wrong token", "code": "unauthorized"}, status=401)


@pytest.mark.parametrize(
    "bad",
    [never, flood, refuse, {"not": "a list"}, ["nonsense", 7], "text"],
    ids=["silent", "flood", "refusing", "object", "list", "text"],
)
def test_a_bad_partner_costs_its_own_tools_only(bad: Any, peers: ExitStack) -> None:
    good = peers.enter_context(peer_with(CLOCK))
    worse = peers.enter_context(HttpPeer({"GET /discover": bad}))
    with capture_logs() as logs:
        made = engine(worse.url, good.url, refused_url(), token=TOKEN, discover_timeout=2.0)
    assert remote(made) == [f"clock@{good.host}"]
    assert len([log for log in logs if log["log_level"] == "warning"]) == 2
    assert TOKEN not in str(logs)


def test_partners_are_asked_at_once_and_within_one_deadline(peers: ExitStack) -> None:
    silent = [peers.enter_context(HttpPeer({"GET /discover": never})) for _ in range(4)]
    good = peers.enter_context(peer_with(CLOCK))
    with capture_logs() as logs:
        made = engine(*(peer.url for peer in silent), good.url, discover_timeout=0.5)
    assert remote(made) == [f"clock@{good.host}"]
    assert [log["code"] for log in logs if log["event"] == "source_unavailable"] == ["deadline_exceeded"] * 4


def test_what_is_no_partner_url_is_logged_without_its_credentials() -> None:
    with capture_logs() as logs:
        made = engine("ftp://user:password@host", "not a url")
    assert len(made.pareto_registry.mcps) == 15
    assert [(log["event"], log["position"]) for log in logs] == [
        ("partner_ignored", 1),
        ("partner_ignored", 2),
    ]
    assert "password" not in str(logs)


def test_a_partner_named_twice_is_asked_once(peers: ExitStack) -> None:
    peer = peers.enter_context(peer_with(CLOCK))
    made = engine(peer.url, peer.url + "/", peer.url.replace("http://", "http://user:password@"))
    assert remote(made) == [f"clock@{peer.host}"]
    assert len(peer.seen) == 2


def test_a_partner_that_is_a_source_already_is_asked_once(peers: ExitStack) -> None:
    peer = peers.enter_context(peer_with(CLOCK))
    made = engine(peer.url, sources=[RestPartner(peer.url)])
    assert remote(made) == [f"clock@{peer.host}"]
    assert len(peer.seen) == 2


def test_a_construction_that_takes_too_long_goes_on_without_its_sources(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mcp_federation.engine import federated

    def too_late(*_: Any) -> None:
        raise errors.DeadlineExceeded("no result within 5 s")

    monkeypatch.setattr(federated, "run_in_thread", too_late)
    with capture_logs() as logs:
        made = engine(sources=[Mesh()])
    assert len(made.pareto_registry.mcps) == 15
    assert [log["event"] for log in logs] == ["sources_unavailable"]


async def test_a_refresh_brings_what_is_new_and_drops_what_went(peers: ExitStack) -> None:
    peer = peers.enter_context(peer_with(CLOCK, OVEN))
    made = engine(peer.url)
    clock = spec_of(made, f"clock@{peer.host}")
    peer.routes["GET /discover"] = [CLOCK, {"name": "kettle", "description": "Boil water."}]
    await made.refresh()
    assert set(remote(made)) == {f"clock@{peer.host}", f"kettle@{peer.host}"}
    assert spec_of(made, clock.name) is clock
    peer.routes["GET /discover"] = [{**CLOCK, "description": "Tell the date."}]
    await made.refresh()
    assert spec_of(made, clock.name).description == "Tell the date."
    found = (await made.execute_rag_mcp_pipeline("boil water")).retrieved_mcps
    assert not any(result.matched_terms for result in found)


async def test_the_tools_of_a_partner_that_went_down_are_listed_as_unavailable_until_it_is_back(
    peers: ExitStack,
) -> None:
    peer = peers.enter_context(peer_with(CLOCK))
    made = engine(peer.url)
    name = f"clock@{peer.host}"
    peer.routes["GET /discover"] = refuse
    with capture_logs() as logs:
        await made.refresh()
    assert logs[0]["event"] == "source_unavailable"
    assert not spec_of(made, name).runnable
    peer.routes["GET /discover"] = [CLOCK]
    await made.refresh()
    assert spec_of(made, name).runnable
    peer.routes["GET /discover"] = [{**CLOCK, "available": False}]
    await made.refresh()
    assert not spec_of(made, name).metadata["available"]


async def test_a_partners_tools_are_read_beside_the_event_loop_and_not_again_as_it_goes_and_comes(
    peers: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers: list[int] = []

    def read(*arguments: Any, **fields: Any) -> MCPToolSpec:
        readers.append(threading.get_ident())
        return tool_spec(*arguments, **fields)

    monkeypatch.setattr(rest, "tool_spec", read)
    peer = peers.enter_context(peer_with(CLOCK, OVEN))
    made = RestPartner(peer.url)
    await made.load()
    for listed, gone in (
        ([{**CLOCK, "available": False}, OVEN], {"clock"}),
        (refuse, {"clock", "oven"}),
        ([CLOCK, OVEN], set()),
    ):
        peer.routes["GET /discover"] = listed
        with suppress(errors.FederationError):
            await made.load()
        assert {spec.metadata["local_name"] for spec in made.entries() if not spec.runnable} == gone
    assert len(readers) == 2
    assert threading.get_ident() not in readers
    peer.routes["GET /discover"] = [{**CLOCK, "description": "Tell the date."}, OVEN]
    await made.load()
    assert {spec.description for spec in made.entries()} == {"Tell the date.", OVEN["description"]}


@pytest.mark.parametrize(
    ("policy", "taken"),
    [("strict", []), ("standard", []), ("open", ["clock", "oven"]), ('allow = ["oven@*"]', ["oven"])],
)
async def test_an_import_policy_counts_for_partners_whose_tools_carry_no_approval(
    policy: str, taken: list[str], peers: ExitStack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if "=" in policy:
        (tmp_path / "policy.toml").write_text(policy, encoding="utf-8")
        policy = str(tmp_path / "policy.toml")
    monkeypatch.setenv("MCP_FEDERATION_IMPORT_POLICY", policy)
    peer = peers.enter_context(peer_with(CLOCK, OVEN))
    with capture_logs() as logs:
        made = engine(peer.url)
        await made.refresh()
    assert remote(made) == [f"{name}@{peer.host}" for name in taken]
    warned = [log["tools"] for log in logs if log["event"] == "partner_tools_left_out"]
    assert warned == ([2 - len(taken)] if len(taken) < 2 else [])


async def test_a_partners_records_score_its_tools(peers: ExitStack) -> None:
    record = {"mcp_name": "clock", "success": True, "latency_ms": 12}
    peer = peers.enter_context(
        peer_with(CLOCK, OVEN, **{"GET /metadata": [record, {**record, "success": False}]})
    )
    made = engine(peer.url)
    measured = made.pareto_registry.performance(f"clock@{peer.host}")
    assert measured is not None
    assert (measured.count, measured.success_rate, measured.provider) == (2, 0.5, peer.host)
    assert measured.latency_ms == pytest.approx(12)
    assert spec_of(made, f"clock@{peer.host}").reliability_score == 0.5
    assert made.pareto_registry.performance(f"oven@{peer.host}") is None


def test_a_partner_that_claims_millions_of_executions_is_heard_as_one_that_speaks_of_itself(
    peers: ExitStack,
) -> None:
    claim = {"mcp_name": "clock", "success": True, "latency_ms": 0, "count": 1_000_000, "success_rate": 1}
    peer = peers.enter_context(peer_with(CLOCK, **{"GET /metadata": [claim] * 500}))
    made = engine(peer.url)
    spec = spec_of(made, f"clock@{peer.host}")
    assert spec.usage_frequency == 0.5
    assert made.pareto_registry.predict(spec.name).executions <= OWN_WEIGHT


def test_a_partner_without_records_keeps_its_tools(peers: ExitStack) -> None:
    peer = peers.enter_context(HttpPeer({"GET /discover": [CLOCK]}))
    with capture_logs() as logs:
        assert remote(engine(peer.url)) == [f"clock@{peer.host}"]
    assert [log["event"] for log in logs] == ["partner_performance_unknown"]


async def test_a_tool_is_executed_at_its_partner(peers: ExitStack) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response({"result": await request.json()})

    peer = peers.enter_context(peer_with(CLOCK, **{"POST /execute": answer}))
    made = engine(peer.url, token=TOKEN)
    sent = {"mcp_name": "clock", "args": ["utc"], "kwargs": {"name": "x", "mcp_name": "y", "timeout": 1}}
    arguments = {"name": "x", "mcp_name": "y", "timeout": 1}
    assert await made.execute(f"clock@{peer.host}", "utc", **arguments) == sent
    assert await made.execute("clock", "utc", **arguments) == sent
    assert peer.seen[-1].authorization == f"Bearer {TOKEN}"


async def test_an_execution_is_held_to_its_deadline(peers: ExitStack) -> None:
    peer = peers.enter_context(peer_with(CLOCK, **{"POST /execute": never}))
    with pytest.raises(errors.DeadlineExceeded):
        await engine(peer.url, execute_timeout=0.05).execute("clock")


async def test_a_plain_name_goes_to_the_best_tool_and_on_while_nothing_ran() -> None:
    mesh = Mesh(*(tool_spec("clock", node) for node in ("acme", "globex", "initech")))
    mesh.measured = {"clock@globex": Performance(100, 1.0, 1.0), "clock@acme": Performance(10, 1.0, 1.0)}
    made = engine(sources=[mesh])
    assert (await made.execute("clock"))["by"] == "clock@globex"
    mesh.refusals = {
        "clock@globex": errors.NodeUnavailable("gone"),
        "clock@acme": errors.Overloaded("busy"),
    }
    mesh.called.clear()
    assert (await made.execute("clock"))["by"] == "clock@initech"
    assert mesh.called == ["clock@globex", "clock@acme", "clock@initech"]
    mesh.refusals["clock@initech"] = errors.Overloaded("busy too")
    with pytest.raises(errors.Overloaded, match="busy too"):
        await made.execute("clock")


async def test_a_call_that_may_have_run_is_not_repeated_elsewhere() -> None:
    mesh = Mesh(tool_spec("clock", "acme"), tool_spec("clock", "globex"))
    mesh.refusals = {"clock@acme": errors.DeadlineExceeded("late")}
    with pytest.raises(errors.DeadlineExceeded):
        await engine(sources=[mesh]).execute("clock")
    assert mesh.called == ["clock@acme"]


async def test_a_full_name_goes_to_that_tool_alone_also_when_it_was_unavailable() -> None:
    mesh = Mesh(tool_spec("clock", "acme", available=False), tool_spec("clock", "globex"))
    made = engine(sources=[mesh])
    assert (await made.execute("clock@acme"))["by"] == "clock@acme"
    mesh.refusals = {"clock@acme": errors.NodeUnavailable("gone")}
    with pytest.raises(errors.NodeUnavailable):
        await made.execute("clock@acme")
    assert mesh.called == ["clock@acme", "clock@acme"]


async def test_a_prior_runs_by_the_real_tool_behind_it() -> None:
    made = engine(sources=[Mesh(tool_spec("database_mcp", "acme"))])
    assert (await made.execute("database_mcp"))["by"] == "database_mcp@acme"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("nothing", errors.ToolNotFound),
        ("nothing@acme", errors.ToolNotFound),
        ("wikipedia_mcp", errors.NotExecutable),
        ("described", errors.NotExecutable),
        ("described@acme", errors.NotExecutable),
    ],
)
async def test_what_nothing_runs_is_a_clear_error(name: str, kind: type[errors.FederationError]) -> None:
    made = engine(sources=[Mesh(tool_spec("described", "acme", executable=False))])
    with pytest.raises(kind, match=name):
        await made.execute(name)


async def test_a_live_source_is_followed_until_the_engine_is_closed() -> None:
    mesh = Mesh(tool_spec("clock", "acme"))
    async with engine(sources=[mesh]) as made:
        assert mesh.on_change is not None
        mesh.specs = [tool_spec("oven", "acme", description="Bake bread.")]
        assert remote(made) == ["clock@acme"]
        mesh.on_change()
        assert remote(made) == ["oven@acme"]
        mesh.measured = {"oven@acme": Performance(10, 0.9, 3.0), "wikipedia_mcp": Performance(10, 0.0, 3.0)}
        mesh.specs.append(tool_spec("kettle", "acme", description="Boil water."))
        mesh.on_change()
        found = (await made.execute_rag_mcp_pipeline("boil water")).retrieved_mcps[0]
        assert found.mcp_spec.name == "kettle@acme"
        assert spec_of(made, "oven@acme").reliability_score == 0.9
        assert spec_of(made, "wikipedia_mcp").reliability_score == 0.96
    assert mesh.stopped


async def test_a_measurement_counts_at_once_without_another_look_at_the_catalog_and_before_its_tool() -> None:
    mesh = Mesh(tool_spec("clock", "acme"))
    async with engine(sources=[mesh]) as made:
        assert remote(made) == ["clock@acme"]
        readings = mesh.readings
        mesh.measured = {"clock@acme": Performance(10, 0.5, 3.0), "later@acme": Performance(10, 0.4, 3.0)}
        assert spec_of(made, "clock@acme").reliability_score == 0.5
        assert mesh.readings == readings
        mesh.specs.append(tool_spec("later", "acme"))
        assert mesh.on_change is not None
        mesh.on_change()
        assert spec_of(made, "later@acme").reliability_score == 0.4


async def test_a_call_counts_for_or_against_its_tool_unless_the_caller_is_to_blame() -> None:
    mesh = Mesh(tool_spec("clock", "acme"))
    async with engine(sources=[mesh]) as made:

        def expected() -> float:
            return round(made.pareto_registry.predict("clock@acme").success_probability, 4)  # it ages

        before = expected()
        await made.execute("clock")
        good = expected()
        assert good > before
        for error, blamed in ((errors.InvalidArguments("no"), False), (errors.ToolFailed("no"), True)):
            mesh.refusals["clock@acme"] = error
            with pytest.raises(type(error)):
                await made.execute("clock")
            assert (expected() < good) == blamed


async def test_a_source_that_fails_costs_its_own_tools_only() -> None:
    broken, sound = Mesh(label="broken"), Mesh(tool_spec("clock", "acme"), label="sound")
    broken.failure = KeyError("a fault of its own")
    with capture_logs() as logs:
        made = engine(sources=[broken, sound])
        await made.initialize()
    assert remote(made) == ["clock@acme"]
    assert [(log["event"], log["source"]) for log in logs] == [("source_failed", "broken")] * 2


async def test_no_source_takes_the_name_of_anothers_tool() -> None:
    first = Mesh(tool_spec("clock", "acme"), label="first")
    second = Mesh(tool_spec("clock", "acme", description="A fake."), label="second")
    with capture_logs() as logs:
        made = engine(sources=[first, second])
        await made.refresh()
        assert remote(made) == ["clock@acme"]
        assert spec_of(made, "clock@acme") is first.specs[0]
        first.specs = []
        await made.refresh()
    assert [(log["event"], log["source"]) for log in logs] == [("name_taken", "second")]


async def test_another_registry_gets_the_federated_tools_too() -> None:
    made = engine(sources=[Mesh(tool_spec("clock", "acme"))])
    assert len(made.pareto_registry.mcps) == 16
    made.pareto_registry = ParetoMCPRegistry([])
    assert remote(made) == ["clock@acme"]
    assert (await made.execute("clock"))["by"] == "clock@acme"


def test_five_thousand_remote_tools_do_not_hold_up_construction(peers: ExitStack) -> None:
    peer = peers.enter_context(peer_with(*({"name": f"tool{index}"} for index in range(10_000))))
    with capture_logs():
        assert len(remote(engine(peer.url))) == 5_000
