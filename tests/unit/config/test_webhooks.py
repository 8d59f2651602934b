from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from nora.api import Secret
from nora.audit.entry import LoginProblem, TokenChange
from nora.config.settings import Settings
from nora.config.webhooks import ACTIONS, MAX_WEBHOOKS, webhook_url_problem

Configure = Callable[..., Settings]
Problems = Callable[..., list[str]]

KEY = bytes(range(32))
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"
URL = "https://hooks.example/T0/hidden?key=hidden"


def table(name: str = "chat", **keys: str) -> str:
    keys = {"url": f'"{URL}"', "secret": f'"{SECRET}"', **keys}
    return f"[audit.webhooks.{name}]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items() if value)


def test_a_webhook_has_defaults(configure: Configure) -> None:
    settings = configure("[audit]\nkeep_days = 7\n" + table())
    (webhook,) = settings.webhooks
    config = webhook.config
    assert (webhook.name, config.url, config.secret, config.key) == ("chat", URL, Secret(SECRET), KEY)
    assert (config.actions, config.registries, config.projects, config.timeout) == ((), ("*",), ("*",), 15)
    assert settings.audit.keep_days == 7
    assert settings.warnings == ()
    assert "hidden" not in repr(settings).replace(URL, "")
    assert SECRET not in repr(settings)


def test_without_tables_there_are_none(configure: Configure) -> None:
    assert configure("[audit]\nenabled = false").webhooks == ()
    assert configure().webhooks == ()


def test_keys_may_come_from_the_environment(configure: Configure) -> None:
    environ = {"NORA_AUDIT_WEBHOOKS_TEAM_A_SECRET": SECRET, "NORA_AUDIT_WEBHOOKS_TEAM_A_URL": URL}
    toml = table("chat") + '[audit.webhooks.team-a]\nactions = ["publish", "yank"]\nprojects = ["team-*"]\ntimeout = 2'
    first, second = configure(toml, **environ).webhooks
    assert (first.name, second.name) == ("chat", "team-a")
    assert (second.config.url, second.config.key, second.config.timeout) == (URL, KEY, 2.0)
    assert (second.config.actions, second.config.projects) == (("publish", "yank"), ("team-*",))


def test_all_problems_are_told_at_once_and_none_shows_a_secret(problems: Problems) -> None:
    toml = (
        table("a", secret="")
        + table("b", url='"http://hooks.example/hidden"', secret='"whsec_aGlkZGVu"')
        + table("c", actions='["pubish"]', projects='["Team A"]', registries="[]", timeout="0", colour="1")
        + table("D")
        + table('"e.f"')
    )
    found = problems(toml)
    assert found == [
        "audit.webhooks.a.secret: must be set, in the file or by NORA_AUDIT_WEBHOOKS_A_SECRET",
        "config.toml: audit.webhooks.b.url: must be an https:// address; http:// is for this machine and private networks only",
        "config.toml: audit.webhooks.b.secret: must be whsec_ and 24 to 64 bytes in base64; "
        'make one with: echo "whsec_$(openssl rand -base64 32)"',
        "config.toml: audit.webhooks.c.colour: unknown key; known are url, secret, actions, registries, projects, timeout",
        "config.toml: audit.webhooks.c.actions: unknown action; did you mean publish?",
        'config.toml: audit.webhooks.c.registries: must be patterns of names, such as ["team-*"]; leave it out for all',
        "config.toml: audit.webhooks.c.projects: 'Team A' is no pattern of names: use a-z, 0-9, '.', '-', '_' and *, such as team-*",
        "config.toml: audit.webhooks.c.timeout: must be more than 0 and at most 300 seconds",
        "config.toml: audit.webhooks.D: is no name for a webhook: use 1 to 64 of a-z, 0-9 and -, with a letter or digit at both ends",
        'config.toml: audit.webhooks."e.f": is no name for a webhook: use 1 to 64 of a-z, 0-9 and -, with a letter or digit at both ends',
    ]
    assert not any("hidden" in problem or SECRET in problem for problem in found)


@pytest.mark.parametrize(
    "secret",
    [
        "",
        SECRET[6:],
        "whsec_",
        SECRET + "!",
        SECRET[:-1],
        f"whsec_{'A' * 28}",
        f"whsec_{'A' * 92}",
        f"{SECRET} ",
        "whsec_" + "\u00e9" * 32,
    ],
)
def test_a_secret_is_one_of_standard_webhooks(problems: Problems, secret: str) -> None:
    (problem,) = problems(table(secret=f'"{secret}"'))
    assert problem.startswith("config.toml: audit.webhooks.chat.secret: must be whsec_")
    assert len(secret) < 9 or secret not in problem


@pytest.mark.parametrize("toml", ["[audit]\nwebhooks = 3", "[[audit.webhooks]]\nurl = 'x'"])
def test_webhooks_are_tables(problems: Problems, toml: str) -> None:
    assert problems(toml) == ["config.toml: audit.webhooks: must be a table of tables, [audit.webhooks.NAME]"]


def test_a_webhook_is_a_table(problems: Problems) -> None:
    assert problems("[audit.webhooks]\nchat = 3")[0] == "config.toml: audit.webhooks.chat: must be a table"


def test_there_may_be_some_and_no_more(configure: Configure, problems: Problems) -> None:
    toml = "".join(table(f"w{number}") for number in range(MAX_WEBHOOKS))
    assert len(configure(toml).webhooks) == MAX_WEBHOOKS
    assert problems(toml + table("more")) == ["config.toml: audit.webhooks: there are 21, and there may be 20"]


def test_without_an_audit_log_there_is_nothing_to_send(problems: Problems) -> None:
    reason = "must be true, since webhooks send what is in the audit log; or remove the tables [audit.webhooks.NAME]"
    assert problems("[audit]\nenabled = false\n" + table()) == [f"config.toml: audit.enabled: {reason}"]
    assert problems(table(), NORA_AUDIT_ENABLED="no") == [f"environment NORA_AUDIT_ENABLED: {reason}"]


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "hooks.example",
            "ftp://hooks.example/",
            "https://",
            "https:///x",
            "https://hooks.example:0/",
            "https://hooks.example:99999/",
        ),
        *(
            "https://h\u00f6oks.example/",
            "https://hooks.example/a b",
            "https://hooks.example/\nx",
            "https://[::1/",
            "https://u:p@hooks.example/",
        ),
        *("https://hooks.example/#x", "http://hooks.example/", "http://192.0.2.256/", "http://8.8.8.8/", "javascript:alert(1)"),
    ],
)
def test_what_is_no_address_of_a_receiver(url: str) -> None:
    problem = webhook_url_problem(url)
    assert problem is not None
    assert len(url) < 9 or url not in problem


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/x", "http://[::1]/", "http://localhost:8080/"])
def test_this_machine_needs_no_tls(configure: Configure, url: str) -> None:
    assert configure(table(url=f'"{url}"')).warnings == ()


@pytest.mark.parametrize(
    "url", ["http://10.1.2.3/", "http://receiver:8080/", "http://hooks.corp.internal/x", "http://[fd00::1]/"]
)
def test_private_networks_need_no_tls_but_are_warned_of(configure: Configure, url: str) -> None:
    (warning,) = configure(table(url=f'"{url}"')).warnings
    assert warning.startswith("audit.webhooks.chat.url: http:// lets everybody on the way read entries")


def test_all_actions_of_the_log_can_be_chosen() -> None:
    document = (Path(__file__).parents[3] / "nora/api/events.py").read_text()
    (line,) = re.findall(r"action: What happened: (.*)\.", document)
    assert set(ACTIONS) == {*re.findall(r'"([a-z-]+)"', line), *get_args(LoginProblem), *get_args(TokenChange)}
