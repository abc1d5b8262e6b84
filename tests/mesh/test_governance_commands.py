"""The security officer's commands, against a governance process: what they print, and what they exit with."""

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from mcp_federation.bus.nats import NatsBus
from mcp_federation.cli.main import main
from mcp_federation.contract.messages import Registration, Verdict, decode, encode
from mcp_federation.contract.subjects import AUDIT, REGISTER
from mcp_federation.trust.approvals import Approver
from mcp_federation.trust.keys import load_key
from tests.support.nats_server import NatsServer, temporary_folder
from tests.support.processes import Processes
from tests.support.publishing import Publisher
from tests.support.registrations import CLEAN, a_registration, a_tool

pytestmark = [pytest.mark.mesh, pytest.mark.timeout(120)]

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    folder = temporary_folder()
    with Processes(folder, NatsServer(folder / "nats")) as running:
        running.governance()
        yield running


@pytest.fixture
def command(processes: Processes, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Runs a command on the mesh; its exit code, and what it printed to stdout and stderr."""

    def run(*words: str) -> tuple[int, str, str]:
        mesh = ["--nats", processes.nats.url, "--trust", str(processes.key_file)]
        mesh += ["--state-dir", str(processes.key_file.parent)]
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([*words, *mesh])
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    yield run
    structlog.reset_defaults()


def on_bus(processes: Processes, work: Callable[[NatsBus], Coroutine[Any, Any, Any]]) -> Any:
    async def connected() -> Any:
        async with await NatsBus.connect(processes.nats.url) as bus:
            return await work(bus)

    return asyncio.run(connected())


def register(processes: Processes, registration: Registration) -> Verdict:
    async def ask(bus: NatsBus) -> Verdict:
        reply = await bus.request(REGISTER.of(registration.node), encode(registration), timeout=20)
        return decode(reply.payload, Verdict)

    verdict = on_bus(processes, ask)
    assert isinstance(verdict, Verdict)
    return verdict


def quarantined(processes: Processes, name: str) -> Verdict:
    verdict = register(processes, a_registration(a_tool(name=name, description="TODO")))
    assert verdict.decision == "quarantined"
    return verdict


def test_what_waits_is_listed_explained_and_decided(processes: Processes, command: Command) -> None:
    verdict = quarantined(processes, "first")
    code, out, _ = command("governance", "review")
    assert (code, out.split("\t")[:3]) == (0, ["first@acme", "quarantined", verdict.digest])
    code, out, _ = command("governance", "explain", "first")
    assert code == 0
    for shown in (
        "first@acme",
        "“TODO” is a placeholder",
        "▸ Replace it",
        "the policy 'standard' quarantines",
    ):
        assert shown in out
    digest = verdict.digest[:20]
    code, out, _ = command("governance", "approve", "first@acme", "--digest", digest, "--reason", "known")
    assert (code, out) == (0, "first@acme is approved; its node publishes it now\n")
    assert (
        register(processes, a_registration(a_tool(name="first", description="TODO"))).decision == "approved"
    )
    assert "first@acme" not in command("governance", "review")[1]
    assert "approved this text" in command("governance", "explain", "first")[1]
    listed = json.loads(command("governance", "review", "--all", "--json")[1])
    assert [case["state"] for case in listed if case["name"] == "first@acme"] == ["approved"]


def test_nothing_is_decided_without_a_person_or_the_text_that_they_saw(
    processes: Processes, command: Command
) -> None:
    quarantined(processes, "second")
    code, _, err = command("governance", "approve", "second")
    assert (code, "--digest" in err) == (1, True)
    code, _, err = command("governance", "reject", "second", "--digest", "sha256:00")
    assert (code, "look at it again" in err) == (1, True)
    assert "second@acme\tquarantined" in command("governance", "review")[1]
    assert command("governance", "reject", "second", "--yes")[0] == 0
    assert "second@acme" not in command("governance", "review", "--node", "acme")[1]


def test_a_change_is_explained_by_its_difference(processes: Processes, command: Command) -> None:
    register(processes, a_registration(a_tool(name="third")))
    register(processes, a_registration(a_tool(name="third", description=f"{CLEAN} Deletes the old ones.")))
    out = command("governance", "explain", "third")[1]
    assert "What changed since it was approved" in out
    assert "+ " in out
    assert "Deletes the old ones." in out
    assert "widened-capability" in out
    assert command("governance", "revoke", "third", "--yes", "--reason", "gone bad")[0] == 0
    assert "gone bad" in command("governance", "explain", "third")[1]


def test_a_key_that_governance_does_not_know_decides_nothing(
    processes: Processes, command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quarantined(processes, "fourth")
    key = tmp_path / "officer.key"
    with pytest.raises(SystemExit):
        main(["governance", "key", str(key)])
    assert capsys.readouterr().out.startswith("ed25519:")
    code, _, err = command("governance", "approve", "fourth", "--yes", "--key", str(key))
    assert (code, "operator" in err) == (1, True)
    code, _, err = command("governance", "explain", "unknown@acme")
    assert (code, "knows no tool" in err) == (1, True)


def test_the_trail_is_shown_searched_and_checked(processes: Processes, command: Command) -> None:
    quarantined(processes, "fifth")
    command("governance", "reject", "fifth", "--yes", "--reason", "no use")
    code, out, _ = command("audit", "--tool", "fifth", "--since", "1h")
    assert code == 0
    lines = [line.split("\t") for line in out.splitlines()]
    assert [(line[1], line[2]) for line in lines] == [
        ("fifth@acme", "quarantined"),
        ("fifth@acme", "rejected"),
    ]
    assert lines[1][4] == "no use"
    assert len(command("audit", "--limit", "1")[1].splitlines()) == 1
    assert command("audit", "--node", "nobody")[1] == ""
    code, _, err = command("audit", "--verify")
    assert (code, "the trail is whole" in err) == (0, True)
    anchor = err.split("--anchor ")[1].strip()
    assert command("audit", "--anchor", anchor)[0] == 0
    number, _, chain = anchor.partition(":")
    assert command("audit", "--anchor", f"{number}:{chain[::-1]}")[0] == 1
    assert command("audit", "--anchor", "nonsense")[0] == 1
    assert command("audit", "--since", "yesterday")[0] == 1


@pytest.mark.parametrize("words", [("audit", "--verify"), ("governance", "review")])
def test_where_governance_never_ran_a_command_says_so(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with NatsServer(tmp_path) as nats, pytest.raises(SystemExit) as ended:
        main([*words, "--nats", nats.url, "--trust", f"ed25519:{'A' * 43}="])
    structlog.reset_defaults()
    assert ended.value.code == 1
    assert "no governance has run" in capsys.readouterr().err


def test_an_import_policy_holds_for_the_commands_too(
    processes: Processes, command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    approver = Approver(load_key(processes.key_file.with_name("governance.key")))
    on_bus(processes, lambda bus: Publisher(bus, "acme", approver).publish("seventh"))
    assert command("discover", "seventh")[1].startswith("seventh@acme\t")
    policy = tmp_path / "imports.toml"
    policy.write_text('deny = ["*@acme"]')
    monkeypatch.setenv("MCP_FEDERATION_IMPORT_POLICY", str(policy))
    code, out, told = command("discover", "seventh")
    assert (code, out, "believed here: the import policy" in told) == (0, "", True)
    policy.write_text("deny = 3")
    code, _, err = command("discover", "seventh")
    assert (code, "imports.toml, line 1, deny" in err) == (1, True)


def test_a_trail_that_somebody_wrote_into_is_told(processes: Processes, command: Command) -> None:
    async def forge(bus: NatsBus) -> None:
        await bus.store(
            AUDIT.of("acme", "sixth"), b'{"type":"audit_record","node":"acme","name":"sixth","at":1}'
        )

    on_bus(processes, forge)
    code, out, err = command("audit", "--verify", "--json")
    assert code == 1
    assert json.loads(out)["check"]["faults"]
    assert "not sound" in err
