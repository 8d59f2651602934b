"""What every format must show, as tests that a format's author inherits."""

from __future__ import annotations

import contextlib
import http.client
import os
import subprocess
import sys

from nora.testing.harness import USER, FormatUnderTest, exchange, expect, head_of, lasting_fields

RACERS = 8
HUGE_BYTES = 1 << 50
UPS = ("../", "..%2f", "%2e%2e/", "%2e%2e%2f", "..\\", "..%5c", "%252e%252e%252f", "..%00/", "....//", ".%2e/")
ODD_PATHS = ("%2fetc%2fpasswd", "%5c%5c", "%ff%fe", "%")
HOSTILE = ("..", "%2e%2e", "%2e", "../../x", "..%2f..%2fx", "..%5cx", "/etc/x", "a/../../x", "a%00b", "%ff", "a" * 300)


class FormatContract(FormatUnderTest):
    """Subclass it in a test module, say how the format is spoken to, and pytest runs these tests against real servers."""

    def test_format_is_found_by_its_entry_point(self) -> None:
        """``nora plugins`` runs in a process that was told nothing but its environment."""
        command = [sys.executable, "-m", "nora", "plugins"]
        environ = {**os.environ, **self.env()}
        found = subprocess.run(command, env=environ, cwd=self.folder, capture_output=True, text=True, check=False)  # noqa: S603
        assert f"{self.format().name}\t{self.format().title}\t" in found.stdout, found.stdout + found.stderr

    def test_published_file_comes_back_byte_for_byte(self) -> None:
        """With its length, a type that no browser takes for a page, and on the project's page."""
        with self.client() as client:
            content = self.published(client, project := self.new_project())
            answer = expect(client.get(self.file_path(project, "1.0.0")), 200)
            assert answer.content == content
            assert answer.headers["content-length"] == str(len(content))
            assert not answer.headers["content-type"].startswith("text/html")
            assert "content-encoding" not in answer.headers
            assert self.page_shows(expect(client.get(self.page_path(project)), 200), project, "1.0.0")

    def test_head_answers_as_get_without_a_body(self) -> None:
        """RFC 9110 9.3.2: the same status and fields."""
        with self.client() as client:
            self.published(client, project := self.new_project())
            known = self.file_path(project, "1.0.0"), self.page_path(project)
            for path in (*known, self.file_path(project, "9.9.9"), self.page_path(self.new_project())):
                get, head = client.get(path), client.head(path)
                assert (head.status_code, head.content) == (get.status_code, b""), path
                assert lasting_fields(head) == lasting_fields(get), path

    def test_unchanged_content_is_not_sent_again(self) -> None:
        """RFC 9110 13.1.2, 15.4.5: a list of tags, weak ones, and ``*``; a 304 repeats what caches need."""
        with self.client() as client:
            self.published(client, project := self.new_project())
            for path in (self.file_path(project, "1.0.0"), self.page_path(project)):
                full = expect(client.get(path), 200)
                tag = full.headers["etag"]
                for value in (tag, f'"other", {tag}', f"W/{tag}", "*"):
                    answer = expect(client.get(path, headers={"if-none-match": value}), 304)
                    assert answer.content == b""
                    for name in ("etag", "vary", "cache-control"):
                        assert answer.headers.get(name) == full.headers.get(name), (path, name)
                assert expect(client.get(path, headers={"if-none-match": '"other"'}), 200).content == full.content

    def test_page_changes_at_once_with_an_upload(self) -> None:
        """RFC 9110 8.8.1: so does its tag."""
        with self.client() as client:
            self.published(client, project := self.new_project())
            before = expect(client.get(self.page_path(project)), 200)
            self.published(client, project, "1.0.1")
            after = expect(client.get(self.page_path(project), headers={"if-none-match": before.headers["etag"]}), 200)
            assert all(self.page_shows(after, project, version) for version in ("1.0.0", "1.0.1"))

    def test_ranges_of_a_file_are_exact(self) -> None:
        """RFC 9110 14.2: first to last, open end, suffix, beyond the end; units, preconditions and HEAD that make it whole."""
        with self.client() as client:
            content = self.published(client, project := self.new_project())
            path, size = self.file_path(project, "1.0.0"), len(content)
            assert size > 3, "make the example longer"
            ranges = {"0-0": (0, 1), "1-2": (1, 3), "2-": (2, size), "-2": (size - 2, size), f"1-{size + 9}": (1, size)}
            for value, (start, stop) in ranges.items():
                answer = expect(client.get(path, headers={"range": f"bytes={value}"}), 206)
                assert answer.content == content[start:stop], value
                assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{size}"
            answer = expect(client.get(path, headers={"range": f"bytes={size}-"}), 416)
            assert answer.headers["content-range"] == f"bytes */{size}"
            for fields in ({"range": "lines=1-2"}, {"range": "bytes=1-2", "if-range": '"other"'}):
                assert expect(client.get(path, headers=fields), 200).content == content
            assert expect(client.head(path, headers={"range": "bytes=1-2"}), 200).headers["content-length"] == str(size)

    def test_same_bytes_again_are_a_success_and_other_bytes_a_conflict(self) -> None:
        """A name means the same bytes for ever."""
        with self.client() as client:
            content = self.published(client, project := self.new_project())
            page = expect(client.get(self.page_path(project)), 200)
            expect(self.publish(client, project, "1.0.0", content), 200, 201)
            expect(self.publish(client, project, "1.0.0", self.example(project, "1.0.0", 1)), 409)
            assert expect(client.get(self.file_path(project, "1.0.0")), 200).content == content
            assert expect(client.get(self.page_path(project)), 200).content == page.content

    def test_what_does_not_exist_is_not_found(self) -> None:
        """A file of another project, too: a file is found under its own project only."""
        with self.client() as client:
            self.published(client, project := self.new_project())
            other = self.new_project()
            for path in (self.file_path(project, "9.9.9"), self.file_path(other, "1.0.0"), self.page_path(other)):
                expect(client.get(path), 404)

    def test_no_path_leads_out_of_the_storage(self) -> None:
        """CWE-22; nor does a malformed one make a 5xx or a redirect to elsewhere."""
        for folder in (self.folder, self.server_folder, self.server_folder / "storage"):
            (folder / "secret.txt").write_text("do not tell")
        with self.client() as client:
            self.published(client, project := self.new_project())
        file, page = f"/one/{self.file_path(project, '1.0.0')}", f"/one/{self.page_path(project)}"
        starts = {"/", "/one/", file + "/", page, file.rpartition("/")[0] + "/", page.rstrip("/").rpartition("/")[0] + "/"}
        targets = [*(up * count + "secret.txt" for up in UPS for count in (1, 2, 3, 9)), *ODD_PATHS]
        for path in (start + target for start in sorted(starts) for target in targets):
            status, fields, body = exchange(self.server, f"GET {path} HTTP/1.1\r\nhost: nora\r\n\r\n".encode())
            assert 300 <= status < 500, f"{path}: {status}"
            assert b"do not tell" not in body, path
            assert b"root:" not in body, path
            location = fields.get("location") or ""
            assert "//" not in location, f"{path}: redirects to {location}"
            assert "\\" not in location, f"{path}: redirects to {location}"

    def test_no_name_writes_outside_of_the_storage(self) -> None:
        """Hostile projects and versions are refused, or stored as the harmless names that they are then."""
        with self.client() as client:
            content = self.published(client, project := self.new_project())
            before = self.outline()
            for name in HOSTILE:
                for names in ((name, "1.0.0"), (project, name), (name, name)):
                    answer = self.publish(client, *names, content)
                    assert answer.status_code < 500, f"{names}: {answer.status_code} {answer.text[:500]}"
        assert self.outline() == before

    def test_broken_off_upload_leaves_nothing(self) -> None:
        """Nothing is listed, and the name is free."""
        project = self.new_project()
        request = self.upload_request(project, "1.0.0")
        wire = head_of(request) + request.content[: len(request.content) // 2]
        with contextlib.suppress(OSError, http.client.HTTPException):
            status, _, body = exchange(self.server, wire, end=True)
            assert status >= 400, f"half an upload was answered with {status}: {body!r}"
        with self.client() as client:
            expect(client.get(self.page_path(project)), 404)
            expect(client.get(self.file_path(project, "1.0.0")), 404)
            self.published(client, project, variant=1)

    def test_body_over_the_limit_is_refused_before_it_is_sent(self) -> None:
        """413 by what the request announces; nothing of it needs to arrive."""
        request = self.upload_request(self.new_project(), "1.0.0")
        request.headers["content-length"] = str(HUGE_BYTES)
        status, _, body = exchange(self.server, head_of(request))
        assert status == 413, f"{status}: {body!r}"

    def test_reading_may_be_free_while_writing_needs_a_login(self) -> None:
        """``auth.enabled`` with ``anonymous_read``; a wrong login is refused even where none is needed."""
        with self.secured_server("free", anonymous_read=True) as server:
            project = self.new_project()
            content = self.example(project, "1.0.0")
            with self.client(server=server) as anybody, self.client(server=server, auth=(USER[0], "wrong")) as liar:
                for client in (anybody, liar):
                    refusal = expect(self.publish(client, project, "1.0.0", content), 401)
                    assert refusal.headers["www-authenticate"].lower().startswith("basic")
                expect(anybody.get(self.page_path(project)), 404)
                with self.client(server=server, auth=USER) as user:
                    expect(self.publish(user, project, "1.0.0", content), 200, 201)
                for path in (self.file_path(project, "1.0.0"), self.page_path(project)):
                    expect(anybody.get(path), 200)
                    expect(liar.get(path), 401)

    def test_nothing_is_told_without_a_login(self) -> None:
        """``auth.enabled`` alone; whether something exists plays no part in the refusal."""
        with self.secured_server("closed", anonymous_read=False) as server:
            project, other = self.new_project(), self.new_project()
            with self.client(server=server) as anybody, self.client(server=server, auth=USER) as user:
                self.published(user, project)
                for path in (self.file_path(project, "1.0.0"), self.page_path(project), self.page_path(other)):
                    expect(anybody.get(path), 401)
                    expect(anybody.head(path), 401)
                expect(user.get(self.page_path(project)), 200)
                expect(user.get(self.page_path(other)), 404)

    def test_two_registries_know_nothing_of_each_other(self) -> None:
        """The same name may mean other bytes in each."""
        with self.client("one") as one, self.client("two") as two:
            first = self.published(one, project := self.new_project())
            path = self.file_path(project, "1.0.0")
            expect(two.get(path), 404)
            expect(two.get(self.page_path(project)), 404)
            second = self.published(two, project, variant=1)
            assert first != second, "example() must make other bytes for another variant"
            assert expect(one.get(path), 200).content == first
            assert expect(two.get(path), 200).content == second

    def test_files_survive_a_stop_and_a_crash(self) -> None:
        """What was answered with a success is there for good; the port of the second server may be another."""
        project, server = self.new_project(), self.make_server("restarted")
        server.start()
        try:
            with self.client(server=server) as client:
                stopped = self.published(client, project)
            assert server.stop() == 0
            server.start()
            with self.client(server=server) as client:
                crashed = self.published(client, project, "1.0.1")
            server.kill()
            server.start()
            with self.client(server=server) as client:
                page = expect(client.get(self.page_path(project)), 200)
                for version, content in (("1.0.0", stopped), ("1.0.1", crashed)):
                    assert self.page_shows(page, project, version)
                    assert expect(client.get(self.file_path(project, version)), 200).content == content
                expect(self.publish(client, project, "1.0.0", self.example(project, "1.0.0", 1)), 409)
        finally:
            server.stop()

    def test_each_process_sees_what_another_published(self) -> None:
        """At once, and although it has rendered the page before."""
        project = self.new_project()
        with self.client_of_each_worker() as clients:
            for number in range(3 * len(clients)):
                version, writer = f"1.0.{number}", clients[number % len(clients)]
                content = self.published(writer, project, version)
                for reader in clients:
                    assert self.page_shows(expect(reader.get(self.page_path(project)), 200), project, version)
                    assert expect(reader.get(self.file_path(project, version)), 200).content == content

    def test_of_concurrent_publishes_of_one_name_one_wins(self) -> None:
        """The others are told of the conflict."""
        project = self.new_project()
        contents = [self.example(project, "1.0.0", variant) for variant in range(RACERS)]
        answers = self.at_once(project, [("1.0.0", content) for content in contents])
        statuses = sorted(answer.status_code for answer in answers)
        assert statuses[0] in (200, 201), statuses
        assert statuses[1:] == [409] * (RACERS - 1), statuses
        winner = next(content for content, answer in zip(contents, answers, strict=True) if answer.status_code != 409)
        with self.client() as client:
            assert expect(client.get(self.file_path(project, "1.0.0")), 200).content == winner

    def test_no_concurrent_publish_of_several_names_is_lost(self) -> None:
        """Each changes the same project."""
        project, versions = self.new_project(), [f"1.0.{number}" for number in range(RACERS)]
        for answer in self.at_once(project, [(version, self.example(project, version)) for version in versions]):
            expect(answer, 200, 201)
        with self.client() as client:
            page = expect(client.get(self.page_path(project)), 200)
            assert [version for version in versions if not self.page_shows(page, project, version)] == []
