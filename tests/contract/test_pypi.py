"""The PyPI format, held to the contract: uploads as a multipart form, with a wheel that could be installed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from nora.testing import FormatContract
from nora.testing.packages import make_wheel, wheel_name
from nora_pypi.plugin import PyPI


class TestPyPI(FormatContract):
    def format(self) -> PyPI:
        return PyPI()

    def config(self) -> Mapping[str, Any]:
        return {"proxy": ""}

    def example(self, project: str, version: str, variant: int = 0) -> bytes:
        return make_wheel(project, version, extra_metadata=[("Summary", f"Variant {variant}")])[1]

    def publish(self, client: httpx.Client, project: str, version: str, content: bytes) -> httpx.Response:
        form = {
            ":action": "file_upload",
            "protocol_version": "1",
            "metadata_version": "2.1",
            "filetype": "bdist_wheel",
            "pyversion": "py3",
            "name": project,
            "version": version,
        }
        return client.post("legacy/", data=form, files={"content": (wheel_name(project, version), content)})

    def file_path(self, project: str, version: str) -> str:
        return f"simple/{project}/{wheel_name(project, version)}"

    def page_path(self, project: str) -> str:
        return f"simple/{project}/"
