import asyncio
import gzip
import json
import ssl
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from structlog.testing import capture_logs

from mcp_federation import errors
from mcp_federation.engine import sync
from mcp_federation.engine.http import bearer
from mcp_federation.engine.sources import partner
from mcp_federation.engine.sources.json_array import elements
from mcp_federation.engine.sync import run_in_thread
from mcp_federation.estimation import MAX_COST
from tests.support.http_peer import HttpPeer, never, refused_url

TOKEN = "very-secret-token"
LISTING = [
    {"name": "clock", "description": "The time.", "version": "1.0.0", "extra": {"kept": True}},
    {"name": "oven", "description": "Bakes."},
]


def problem(http_status: int, **fields: Any) -> Any:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response(fields, status=http_status, content_type="application/problem+json")

    return answer


def raw(body: bytes, **headers: str) -> Any:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body, headers=headers)

    return answer


def test_a_partners_tools_are_listed_as_it_gives_them_and_the_token_is_sent() -> None:
    with HttpPeer({"GET /discover": LISTING}) as peer:
        assert partner.remote_discover(peer.url, token=TOKEN) == LISTING
        assert partner.remote_discover(peer.url + "/") == LISTING
        assert [seen.authorization for seen in peer.seen] == [f"Bearer {TOKEN}", None]


async def test_the_synchronous_functions_work_inside_a_running_event_loop() -> None:
    with HttpPeer({"GET /discover": LISTING, "POST /execute": {"result": [1, None]}}) as peer:
        assert partner.remote_discover(peer.url) == LISTING
        assert partner.remote_execute(peer.url, "clock") == [1, None]
        assert await partner.execute(peer.url, "clock") == [1, None]


def test_a_tool_is_executed_with_its_arguments_under_the_base_path() -> None:
    with HttpPeer({"POST /mesh/execute": {"result": "12:00"}}) as peer:
        result = partner.remote_execute(
            f"{peer.url}/mesh", "clock", ["utc"], {"format": "short"}, token=TOKEN
        )
        [seen] = peer.seen
    assert result == "12:00"
    assert json.loads(seen.body) == {"mcp_name": "clock", "args": ["utc"], "kwargs": {"format": "short"}}
    assert seen.authorization == f"Bearer {TOKEN}"


@pytest.mark.parametrize("kind", errors.FederationError.__subclasses__(), ids=lambda kind: kind.code)
def test_an_error_of_the_federation_arrives_as_itself(kind: type[errors.FederationError]) -> None:
    answer = problem(
        kind.status, title=kind.title, status=kind.status, detail="so it is", code=kind.code, a=1
    )
    with HttpPeer({"POST /execute": answer}) as peer, pytest.raises(kind, match="so it is") as caught:
        partner.remote_execute(peer.url, "clock")
    assert type(caught.value) is kind
    assert caught.value.details == {"a": 1}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.InvalidRequest),
        (401, errors.Unauthorized),
        (403, errors.Unauthorized),
        (404, errors.ToolNotFound),
        (422, errors.InvalidArguments),
        (503, errors.ServerUnavailable),
        (504, errors.DeadlineExceeded),
        (500, errors.InternalError),
        (302, errors.InternalError),
    ],
)
def test_an_error_without_a_code_is_told_by_its_status(
    status: int, kind: type[errors.FederationError]
) -> None:
    answer = problem(status, detail={"odd": 1}, details=[])
    refused = pytest.raises(kind, match=f"answered {status}")
    with HttpPeer({"POST /execute": answer}) as peer, refused:
        partner.remote_execute(peer.url, "clock")


def test_what_a_partner_says_in_an_error_is_cut_cleaned_and_without_the_token() -> None:
    detail = f"no {TOKEN} \x1b[31m\u202e" + "long " * 1000
    answer = problem(500, detail=detail, code="tool_failed", details="odd")
    with HttpPeer({"POST /execute": answer}) as peer, pytest.raises(errors.ToolFailed) as caught:
        partner.remote_execute(peer.url, "clock", token=TOKEN)
    assert TOKEN not in caught.value.message
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 2 * partner.MAX_MESSAGE


def test_an_error_that_is_no_json_is_told_by_its_status() -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=b"<html>\xff", status=502)

    with HttpPeer({"GET /discover": answer}) as peer, pytest.raises(errors.ServerUnavailable):
        partner.remote_discover(peer.url)


def test_a_redirect_is_not_followed_so_that_the_token_stays_with_the_partner() -> None:
    with HttpPeer({"GET /discover": LISTING}) as other:

        async def redirect(_: web.Request) -> web.StreamResponse:
            raise web.HTTPFound(f"{other.url}/discover")

        with HttpPeer({"GET /discover": redirect}) as peer, pytest.raises(errors.FederationError):
            partner.remote_discover(peer.url, token=TOKEN)
        assert other.seen == []


@pytest.mark.parametrize("body", [b"", b"null", b'{"a": 1}', b"<html>", b"\xff\xfe", b"[" * 100_000])
def test_a_listing_that_is_no_list_is_an_error(body: bytes) -> None:
    with HttpPeer({"GET /discover": raw(body)}) as peer, pytest.raises(errors.ServerUnavailable):
        partner.remote_discover(peer.url)


def test_an_answer_without_a_result_is_an_error() -> None:
    with HttpPeer({"POST /execute": {"status": "ok"}}) as peer, pytest.raises(errors.ServerUnavailable):
        partner.remote_execute(peer.url, "clock")


def test_a_compressed_answer_is_not_unpacked() -> None:
    packed = raw(gzip.compress(json.dumps(LISTING).encode()), **{"Content-Encoding": "gzip"})
    with HttpPeer({"GET /discover": packed}) as peer, pytest.raises(errors.ServerUnavailable):
        partner.remote_discover(peer.url)


def test_an_answer_of_a_hundred_megabytes_is_left_at_the_bound() -> None:
    sent = 0

    async def flood(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(100):
            await response.write(b" " * 1024 * 1024)
            sent += 1
        return response

    with HttpPeer({"GET /discover": flood}) as peer, pytest.raises(errors.PayloadTooLarge):
        partner.remote_discover(peer.url)
    assert sent < 100


def test_a_silent_partner_costs_the_deadline_and_no_more() -> None:
    with HttpPeer({"GET /discover": never, "POST /execute": never}) as peer:
        with pytest.raises(errors.DeadlineExceeded):
            partner.remote_discover(peer.url, timeout=0.05)
        with pytest.raises(errors.DeadlineExceeded):
            partner.remote_execute(peer.url, "clock", timeout=0.05)


def test_a_partner_that_drips_its_answer_is_held_to_the_deadline_for_all_of_it() -> None:
    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"[")
        return await never(request)

    with HttpPeer({"GET /discover": drip}) as peer, pytest.raises(errors.DeadlineExceeded):
        partner.remote_discover(peer.url, timeout=0.2)


def test_a_partner_that_breaks_off_may_have_run_the_tool() -> None:
    async def hang_up(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    with HttpPeer({"POST /execute": hang_up}) as peer, pytest.raises(errors.ServerUnavailable) as caught:
        partner.remote_execute(peer.url, "clock")
    assert caught.value.ran is None


def test_a_partner_that_is_not_there_did_surely_not_run_anything() -> None:
    with pytest.raises(errors.NodeUnavailable) as caught:
        partner.remote_execute(refused_url(), "clock")
    assert caught.value.ran is False


@pytest.mark.parametrize(
    "url",
    ["", "partner.example", "ftp://partner.example", "nats://hub", "http://", "http://x:99999", "http://[x"],
)
def test_what_is_no_http_url_is_refused(url: str) -> None:
    with pytest.raises(errors.InvalidRequest):
        partner.remote_discover(url)


@pytest.mark.parametrize("host", ["a..b", "." * 300])
def test_a_host_that_cannot_be_is_an_error_of_the_federation(host: str) -> None:
    with pytest.raises(errors.FederationError):
        partner.remote_discover(f"http://{host}/", timeout=1.0)


@pytest.mark.parametrize("arguments", [{"a": object()}, {"a": "\ud800"}])
def test_arguments_that_are_no_json_are_refused_before_anything_is_sent(arguments: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidRequest, match="JSON"):
        partner.remote_execute(refused_url(), "clock", kwargs=arguments)


@pytest.mark.parametrize("token", ["a\nb", "päss", "a\x00"])
def test_a_token_that_cannot_stand_in_a_header_is_refused_unseen(token: str) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        bearer(token)
    assert token not in caught.value.message


@pytest.mark.parametrize(
    ("url", "label"),
    [
        ("https://orga.ai:8080", "orga.ai:8080"),
        ("https://orgb.ai", "orgb.ai"),
        ("https://OrgB.ai:443/mesh", "orgb.ai"),
        ("http://orgb.ai:80", "orgb.ai"),
        ("http://orgb.ai:443", "orgb.ai:443"),
        ("https://user:password@orgb.ai", "orgb.ai"),
        ("http://[::1]:8000", "[::1]:8000"),
    ],
)
def test_a_partner_is_named_by_its_host_with_the_port_only_where_it_is_not_the_schemes_own(
    url: str, label: str
) -> None:
    base = partner.base_url(url)
    assert partner.host_label(base) == label
    assert "password" not in str(base)


def entries(*items: Any) -> list[str]:
    raws = [Raw(json.dumps(item).encode()) for item in items]
    return [entry.name for entry, _ in partner.valid_entries(raws, "partner.example")]


def test_each_entry_is_judged_by_itself() -> None:
    with capture_logs() as logs:
        assert entries(
            {"name": "good"},
            {"name": "good", "description": "again"},
            {"name": ""},
            {"name": 7},
            {"name": "x" * 400},
            {"name": "bi\u202edi"},
            {"name": "new\nline"},
            {"name": "hid\u200bden"},
            {"name": "lone\ud800"},
            {"name": "odd", "description": 1},
            {"name": "odd", "input_schema": "x"},
            {"name": "odd", "executable": "yes"},
            {"name": "long", "description": "x" * 200_000},
            {"description": "nameless"},
            ["list"],
            None,
            {"name": "also good", "input_schema": {"type": "object"}},
        ) == ["good", "also good"]
    assert logs[0]["unfit"] == 15


BAD_ENTRIES = [
    b'{"name": "\xff\xfe"}',
    b'{"name": "odd", "more": "\xff"}',
    b'{"name": "odd", "description": "\\ud800"}',
    b'{"name": "odd", "input_schema": ' + b'{"a":' * 5_000 + b"1" + b"}" * 5_000 + b"}",
    b"",
]


@pytest.mark.parametrize("bad", BAD_ENTRIES)
def test_an_entry_that_cannot_be_read_costs_itself_only(bad: bytes) -> None:
    good = [b'{"name": "be,fore]", "description": "\\"[{,"}', b'{"name": "after", "description": null}']
    body = b" [" + b" , ".join([good[0], bad, good[1]]) + b"] \n"
    with HttpPeer({"GET /discover": raw(body)}) as peer, capture_logs() as logs:
        listed = partner.remote_discover(peer.url)
    assert [entry["name"] for entry in listed] == ["be,fore]", "after"]
    assert [log["unfit"] for log in logs] == [1]


async def test_a_record_that_cannot_be_read_costs_itself_only() -> None:
    body = b'[{"mcp_name": "\xff"}, {"mcp_name": "clock", "success": true, "latency_ms": 10}]'
    with HttpPeer({"GET /metadata": raw(body)}) as peer:
        assert (await partner.performance(peer.url)).keys() == {"clock"}


@given(st.lists(st.recursive(st.none() | st.text() | st.integers(), st.lists)))
def test_an_array_that_does_not_read_is_taken_apart_as_one_that_does(array: list[Any]) -> None:
    body = json.dumps(["\ud800", *array]).encode()
    assert [json.loads(bytes(part)) for part in elements(body)] == ["\ud800", *array]


def test_a_sound_listing_is_not_remarked_on() -> None:
    with capture_logs() as logs:
        assert entries(*LISTING) == ["clock", "oven"]
    assert logs == []


def test_of_ten_thousand_entries_the_first_five_thousand_are_taken() -> None:
    with capture_logs() as logs:
        assert len(entries(*({"name": f"tool{index}"} for index in range(10_000)))) == partner.MAX_ENTRIES
    assert logs[0]["over_limit"] == 5_000


@given(st.binary(max_size=200) | st.sampled_from([b'[{"name":', b"[[[[", b'[{"name":"\\ud800"}]']))
@settings(max_examples=30, deadline=None)
def test_no_answer_breaks_more_than_its_own_request(body: bytes) -> None:
    with HttpPeer({"GET /discover": raw(body)}) as peer, suppress(errors.FederationError):
        assert isinstance(partner.remote_discover(peer.url), list)


async def test_performance_is_summed_up_by_name_and_unfit_records_are_passed_over() -> None:
    records = [
        {"mcp_name": "clock", "success": True, "latency_ms": 10, "cost": 0.02},
        {"mcp_name": "clock", "success": False, "latency_ms": 30},
        {"mcp_name": "clock", "success": True, "latency_ms": -1},
        {"mcp_name": "clock", "success": "maybe"},
        "nonsense",
        {"mcp_name": "oven", "success": True, "latency_ms": 5.5, "cost": 0},
        {"mcp_name": "kiln", "success": True, "latency_ms": 10, "count": 30, "success_rate": 0.8},
        {"mcp_name": "kiln", "success": False, "latency_ms": 50, "count": 10},
        {"mcp_name": "kiln", "success": True, "latency_ms": 40, "count": 8},
        {"mcp_name": "kiln", "success": False, "latency_ms": 50, "count": 0},
    ]
    with HttpPeer({"GET /metadata": records}) as peer:
        found = await partner.performance(peer.url)
    figures = {"clock": (2, 0.5, 10.0), "oven": (1, 1.0, 5.5), "kiln": (48, 2 / 3, 10 * 4**0.25)}
    assert found.keys() == figures.keys()
    for name, seen in found.items():
        assert (seen.count, seen.success_rate, seen.latency_ms) == pytest.approx(figures[name])
    assert found["clock"].mean_cost == pytest.approx(0.005)
    assert {seen.provider for seen in found.values()} == {peer.host}


async def test_neither_failures_nor_one_slow_call_say_how_fast_a_partners_tool_is() -> None:
    def clock(latency_ms: float, *, success: bool = True) -> dict[str, Any]:
        return {"mcp_name": "clock", "success": success, "latency_ms": latency_ms}

    for odd in ([clock(1, success=False)] * 100, [clock(30_000, success=False)] * 20, [clock(100_000)]):
        with HttpPeer({"GET /metadata": [*[clock(100)] * 99, *odd]}) as peer:
            found = await partner.performance(peer.url)
        assert found["clock"].latency_ms == pytest.approx(100, rel=0.1)


async def test_one_record_of_an_absurd_cost_does_not_make_a_tool_dear() -> None:
    dear = {"mcp_name": "clock", "success": True, "latency_ms": 10, "cost": MAX_COST}
    records = [dear, {**dear, "cost": 1e9}, *[{**dear, "cost": 0.01}] * 50]
    with HttpPeer({"GET /metadata": records}) as peer:
        found = await partner.performance(peer.url)
    assert found["clock"].count == 51
    assert found["clock"].mean_cost == pytest.approx(0.01, rel=0.05)


def test_work_that_outlasts_its_own_deadline_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "_GRACE", 0.05)
    release = threading.Event()

    async def stuck() -> None:
        release.wait(10)

    with pytest.raises(errors.DeadlineExceeded):
        run_in_thread(stuck, 0.01)
    release.set()


def test_an_exception_of_the_work_reaches_the_caller() -> None:
    async def broken() -> None:
        raise KeyError("cause")

    with pytest.raises(KeyError, match="cause"):
        run_in_thread(broken, 1.0)


def self_signed(folder: Path) -> Path:
    """A file with a certificate of localhost that vouches for itself, and its key."""
    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(
            name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1)
        )
    ).sign(key, None)
    file = folder / "server.pem"
    file.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + certificate.public_bytes(Encoding.PEM)
    )
    return file


async def test_a_certificate_that_is_not_trusted_is_told_from_a_partner_that_is_not_there(
    tmp_path: Path,
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path))
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        host, port = server.sockets[0].getsockname()
        with pytest.raises(errors.NodeUnavailable, match="not trusted: self-signed certificate"):
            await partner.discover(f"https://{host}:{port}")
