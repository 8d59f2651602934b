"""What every format must show, shown for ``raw``."""

import httpx

from nora.testing import FormatContract
from nora_raw.plugin import Raw


class TestRaw(FormatContract):
    """Inherits the tests; says how this format is spoken to."""

    def format(self) -> Raw:
        return Raw()

    def example(self, project: str, version: str, variant: int = 0) -> bytes:
        return f"{project} {version}, variant {variant}\n".encode()

    def publish(self, client: httpx.Client, project: str, version: str, content: bytes) -> httpx.Response:
        return client.put(self.file_path(project, version), content=content)

    def file_path(self, project: str, version: str) -> str:
        return f"{project}/data-{version}.bin"

    def page_path(self, project: str) -> str:
        return f"{project}/"

    def test_file_over_the_limit_is_refused(self) -> None:
        with self.make_server("small", max_file_size_mb=1) as server, self.client(server=server) as client:
            answer = client.put("big/big.bin", content=bytes(1024 * 1024 + 1))
            assert (answer.status_code, answer.text) == (413, "big.bin is larger than the limit of 1048576 bytes\n")
            assert client.get("big/").status_code == 404
            assert client.put("big/big.bin", content=bytes(1024 * 1024)).status_code == 201
