"""What visitors upload stays within bounds, for each and for all."""

from types import SimpleNamespace
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient
from streamlit import runtime

from qfund.core.errors import UsageError
from qfund.ui.server import uploads

_MIB = 1024**2


@pytest.fixture
def kept() -> dict[str, dict[str, Any]]:
    return {}


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, kept: dict[str, dict[str, Any]]) -> TestClient:
    """Streamlit's place is taken by a server that keeps what it is sent as Streamlit does."""

    async def keep(request: Request) -> Response:
        data = await request.body()
        kept.setdefault(request.path_params["session"], {})[request.path_params["file"]] = SimpleNamespace(data=data)
        return Response(status_code=204)

    manager = SimpleNamespace(uploaded_file_mgr=SimpleNamespace(file_storage=kept))
    monkeypatch.setattr(runtime, "exists", lambda: True)
    monkeypatch.setattr(runtime, "get_instance", lambda: manager)
    monkeypatch.setenv("QFUND_UPLOADS_MIB", "16")
    route = Route("/_stcore/upload_file/{session}/{file}", keep, methods=["PUT"])
    return TestClient(Starlette(routes=[route], middleware=[Middleware(uploads.Uploads)]))


def _put(client: TestClient, session: str, file: int, size: int) -> int:
    return client.put(f"/_stcore/upload_file/{session}/{file}", content=bytes(size)).status_code


def test_each_has_a_part_and_all_have_a_bound(client: TestClient, kept: dict[str, dict[str, Any]]) -> None:
    """80 files of 9.9 MB filled the server's memory."""
    assert [_put(client, "one", file, _MIB) for file in range(4)] == [204, 204, 413, 413]
    codes = [_put(client, f"visitor {number}", 0, 2 * _MIB) for number in range(80)]
    assert codes == [204] * 7 + [503] * 73
    assert sum(len(file.data) for files in kept.values() for file in files.values()) <= 16 * _MIB
    kept.clear()  # they have left
    assert _put(client, "one", 0, _MIB) == 204


def test_many_small_files_are_bounded_too(client: TestClient) -> None:
    codes = [_put(client, "one", file, 1) for file in range(uploads.MOST_FILES + 2)]
    assert codes[-3:] == [204, 413, 413]


def test_a_body_of_no_length_is_not_read(client: TestClient) -> None:
    answer = client.put("/_stcore/upload_file/one/1", content=(b"x" for _ in range(3)))
    assert answer.status_code == 411
    for length in ("-1", "1e9", "9" * 30, "", "²"):
        headers = {b"content-length": length.encode()}
        assert client.put("/_stcore/upload_file/one/1", content=b"", headers=headers).status_code == 411


@pytest.mark.parametrize("given", ["0", "-3", "much", "1.5"])
def test_a_setting_that_is_no_number_is_told(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("QFUND_UPLOADS_MIB", given)
    with pytest.raises(UsageError, match="QFUND_UPLOADS_MIB"):
        uploads.most()
