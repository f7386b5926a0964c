# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every unit test gets: the collection's import path, no processes, a fake command runner."""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
import typing as t

import pytest

with contextlib.suppress(ImportError):
    # Absent where the package is tested alone, under a Python that this ansible-core does not support.
    from ansible.plugins.loader import init_plugin_loader

    init_plugin_loader([str(pathlib.Path(__file__).resolve().parents[2] / ".collections")])


class ProcessStarted(BaseException):
    """A unit test started a process; not an Exception, so that no handler under test swallows it."""


def pytest_configure(config: pytest.Config) -> None:
    # Here and not in pyproject.toml, which the built collection does not have.
    for marker in (
        "allow_subprocess: may start processes",
        "no_cover: runs without coverage being measured (pytest-cov, which not every environment has)",
        "simulation: a switchover on two simulated nodes, cut at every step; `make simulation`",
    ):
        config.addinivalue_line("markers", marker)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """ansible-test cannot select by markers: it runs what `make unit` does, without the long simulations."""
    if config.pluginmanager.has_plugin("ansible_forked"):
        items[:] = [item for item in items if not item.get_closest_marker("simulation")]


@pytest.fixture(autouse=True)
def no_processes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every start of a process is an error unless the test is marked `allow_subprocess`."""
    if request.node.get_closest_marker("allow_subprocess"):
        return

    def refuse(*args: t.Any, **kwargs: t.Any) -> t.NoReturn:
        raise ProcessStarted(f"a unit test started {args or kwargs}: use fake_runner")

    monkeypatch.setattr(subprocess, "Popen", refuse)


@pytest.fixture(autouse=True)
def ownership(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let whoever runs the tests write the files of others, as root does on a node."""
    if os.geteuid() == 0:
        return
    monkeypatch.setattr(os, "chown", lambda *args, **options: None)
    monkeypatch.setattr(os, "fchown", lambda *args, **options: None)


class FakeResult(t.NamedTuple):
    """The same shape as command.Result, which cannot be imported before the collection's path is set."""

    status: int
    stdout: str
    stderr: str


class FakeRunner:
    """A Runner that answers from a table of argv prefixes and remembers its calls.

    The longest prefix that fits answers, with its results in turn and the last one for ever.
    """

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.stdins: list[str] = []
        self.timeouts: list[float] = []
        self._answers: dict[tuple[str, ...], list[FakeResult | Exception]] = {}

    def on(self, *prefix: str, stdout: str = "", stderr: str = "", status: int = 0) -> FakeRunner:
        """Answer commands that begin with `prefix`; called again for a prefix, it adds the next answer."""
        self._answers.setdefault(prefix, []).append(FakeResult(status, stdout, stderr))
        return self

    def failing(self, *prefix: str, error: Exception) -> FakeRunner:
        """Raise `error` (CommandError) for commands that begin with `prefix`."""
        self._answers.setdefault(prefix, []).append(error)
        return self

    def __call__(self, argv: t.Sequence[str], *, timeout: float, stdin: str = "") -> FakeResult:
        self.calls.append(list(argv))
        self.stdins.append(stdin)
        self.timeouts.append(timeout)
        fitting = [prefix for prefix in self._answers if tuple(argv[: len(prefix)]) == prefix]
        if not fitting:
            raise AssertionError(f"the fake runner has no answer for {list(argv)}")
        answers = self._answers[max(fitting, key=len)]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def fake_runner() -> FakeRunner:
    """A FakeRunner without answers."""
    return FakeRunner()


@pytest.fixture
def recorded(request: pytest.FixtureRequest) -> t.Callable[[str], str]:
    """Reads recorded command output from the directory `fixtures` beside the test file."""
    directory = request.path.parent / "fixtures"
    return lambda name: (directory / name).read_text(encoding="utf-8")
