"""The fast lane's part that needs no server: splitting what is received, and header blocks."""

from itertools import pairwise
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.transport import Transport

from mcp_federation.bus.nats_lane import STATUS, LaneClient, Points, read_headers, write_headers
from mcp_federation.errors import InvalidRequest

OURS, THEIRS = 1, 2

Message = tuple[str, str, bytes, bytes]

headers = st.dictionaries(st.sampled_from(["A", "Mcpfed-Request-Id"]), st.sampled_from(["", "ä b"]))
messages = st.tuples(
    st.sampled_from(["a", "a.b"]), st.sampled_from(["", "_INBOX.1"]), headers, st.binary(max_size=50)
)


def on_the_wire(sid: int, message: Message) -> bytes:
    subject, reply, block, payload = message
    words = [subject, str(sid), *([reply] if reply else [])]
    sizes = [str(len(block)), str(len(block) + len(payload))] if block else [str(len(payload))]
    line = " ".join(["HMSG" if block else "MSG", *words, *sizes])
    return line.encode() + b"\r\n" + block + payload + b"\r\n"


@given(
    received=st.lists(
        st.one_of(
            st.sampled_from([b"PING\r\n", b"PONG\r\n", b"+OK\r\n", b"-ERR 'x'\r\n", b'INFO {"a":"\\n"}\r\n']),
            st.tuples(st.sampled_from([OURS, THEIRS]), messages),
        )
    ),
    cuts=st.lists(st.integers(0, 600)),
)
def test_however_the_bytes_come_takers_get_their_messages_and_nats_py_all_else(
    received: list[bytes | tuple[int, tuple[str, str, dict[str, str], bytes]]], cuts: list[int]
) -> None:
    stream, ours, others = b"", [], b""
    for part in received:
        if isinstance(part, bytes):
            wire, sid = part, THEIRS
        else:
            sid, (subject, reply, headers_of, payload) = part
            message = subject, reply, write_headers(headers_of) if headers_of else b"", payload
            wire = on_the_wire(sid, message)
            if sid == OURS:
                ours.append(message)
        stream += wire
        others += b"" if sid == OURS else wire
    taken: list[Message] = []
    passed: list[bytes] = []
    points = Points({b"%d" % OURS: lambda *message: taken.append(message)}, passed.append)
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    for start, stop in pairwise(edges):
        points.receive(stream[start:stop])
    assert taken == ours
    assert b"".join(passed) == others


@pytest.mark.parametrize("line", [b"MSG a 1 x\r\n", b"MSG\r\n", b"MSG a one 1\r\nx\r\n"])
def test_what_is_no_message_is_left_to_nats_py(line: bytes) -> None:
    passed: list[bytes] = []
    Points({}, passed.append).receive(line)
    assert passed == [line]


def test_headers_come_back_as_they_were() -> None:
    headers_of = {"Mcpfed-Request-Id": "1", "Empty": "", "Text": "größe: x"}
    assert read_headers(write_headers(headers_of)) == headers_of


def test_a_status_of_the_server_is_read() -> None:
    assert read_headers(b"NATS/1.0 503\r\n\r\n") == {STATUS: "503"}
    assert read_headers(b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 1\r\n\r\n") == {
        STATUS: "100",
        "Nats-Last-Consumer": "1",
    }


@pytest.mark.parametrize(
    ("name", "value"), [("A B", "x"), ("", "x"), ("A:", "x"), ("A", "x\r\nB: y"), ("A", "\n")]
)
def test_a_header_cannot_smuggle_another(name: str, value: str) -> None:
    with pytest.raises(InvalidRequest):
        write_headers({name: value})


class Socket:
    """The part of a transport that writes; one that uvloop knows to be closed raises."""

    def __init__(self, *, closed: bool) -> None:
        self.closed = closed
        self.written = b""

    def write(self, data: bytes) -> None:
        if self.closed:
            raise RuntimeError("the handler is closed")
        self.written += data


async def test_what_a_broken_socket_did_not_take_goes_to_the_next_in_order() -> None:
    client = LaneClient()
    client._status = LaneClient.CONNECTED
    broken, mended = Socket(closed=True), Socket(closed=False)
    for number, socket in enumerate((broken, broken, mended)):
        client._transport = cast(Transport, socket)
        client.send("a", "", b"", str(number).encode())
        client.write_pending()
    assert mended.written == b"".join(b"PUB a  1\r\n%d\r\n" % number for number in range(3))
    client.write_pending()
    assert not client._pending
    assert client._pending_data_size == 0
