import socket

import pytest

from mcp_federation.errors import Conflict, InvalidRequest
from mcp_federation.listening import listening_port, local_url


def test_port_zero_is_a_free_port_that_can_then_be_had() -> None:
    port = listening_port("127.0.0.1", 0)
    assert port > 0
    assert listening_port("127.0.0.1", port) == port


def test_a_taken_port_is_a_conflict_that_names_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(Conflict, match=f"port {port} is taken"):
            listening_port("127.0.0.1", port)


def test_a_port_that_was_used_a_moment_ago_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = server.accept()
            accepted.close()  # first, so that its end waits in TIME_WAIT
            assert client.recv(1) == b""
    assert listening_port("127.0.0.1", port) == port


@pytest.mark.parametrize("host", ["256.1.1.1", "192.0.2.1", "no such host", "a" * 300])
def test_an_address_of_another_machine_is_one_clear_line(host: str) -> None:
    with pytest.raises(InvalidRequest, match="cannot listen on"):
        listening_port(host, 0)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("", "http://127.0.0.1:8000"),
        ("fd00::1", "http://[fd00::1]:8000"),
        ("hub.example", "http://hub.example:8000"),
    ],
)
def test_the_url_is_one_that_a_client_on_this_machine_can_use(host: str, url: str) -> None:
    assert local_url(host, 8000) == url
