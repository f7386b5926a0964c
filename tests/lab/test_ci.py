# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands of docs/ci.md, read out of the page and run by ansible-runner without a terminal."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
import shlex
import sys
import typing as t

import ansible_runner
import pytest
import yaml

from . import harness
from .harness import CHECKOUT, NODES, on, wait_until
from .playbook import INVENTORIES, Completed, Rerun

if t.TYPE_CHECKING:
    from .harness import Site

PAGE = CHECKOUT / "docs" / "ci.md"
PASSWORD = "of the vault"
# What stands on the page for something of the operator's own, and what the lab has in its place.
INVENTORY = [f"--inventory={path}" for path in INVENTORIES]
REPLACED = {"inventory/mine": None, "site.yml": str(harness.EXAMPLE / "site.yml")}


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """What the page says to run, in order, and in which environment."""

    commands: list[str]
    environment: dict[str, str]


def documents() -> dict[str, t.Any]:
    """Give the page's YAML by the name of its file."""
    blocks = re.findall(r"^```yaml\n# (\S+)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return {name: yaml.safe_load(text) for name, text in blocks}


def gitlab() -> Pipeline:
    """Give what the page's GitLab pipeline runs."""
    document = documents()[".gitlab-ci.yml"]
    jobs = sorted(
        (job for job in document.values() if isinstance(job, dict) and "script" in job),
        key=lambda job: document["stages"].index(job["stage"]),
    )
    return Pipeline([line for job in jobs for line in job["script"]], document["variables"])


def github() -> Pipeline:
    """Give what the page's workflow for GitHub runs, but for the preparations."""
    document = documents()[".github/workflows/sites.yml"]
    steps = [step["run"] for job in document["jobs"].values() for step in job["steps"] if "run" in step]
    return Pipeline([line for line in steps if line.startswith("ansible-playbook")], document["env"])


def test_both_pipelines_run_the_same_commands_in_the_same_environment() -> None:
    assert gitlab().commands == github().commands
    assert gitlab().environment.keys() == github().environment.keys()


class Runner:
    """Runs commands of the page as a pipeline does: no terminal, its environment, the vault's password in a file."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.said = ""
        password = directory / "vault-password"
        password.write_text(PASSWORD + "\n")
        self.environment = {
            **gitlab().environment,
            "ANSIBLE_VAULT_PASSWORD_FILE": str(password),
            "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
            "ANSIBLE_FORCE_COLOR": "false",
            "HOME": str(directory),
            "PWD": str(directory),
        }
        # The lab has its own key and its own way to the nodes.
        for name in ("ANSIBLE_PRIVATE_KEY_FILE", "ANSIBLE_SSH_COMMON_ARGS"):
            del self.environment[name]

    def run(self, command: str, *more: str) -> int:
        """Run a command of the page; give its exit status."""
        program, *words = shlex.split(command.replace("$PWD", str(self.directory)))
        arguments = [REPLACED.get(word, word) for word in words if word != "-i"]
        self.said, _, status = ansible_runner.run_command(
            executable_cmd=str(pathlib.Path(sys.executable).with_name(program)),
            cmdline_args=[*INVENTORY, *(word for word in arguments if word), *more],
            host_cwd=str(CHECKOUT),
            private_data_dir=str(self.directory / "runner"),
            envvars=self.environment,
            runner_mode="subprocess",
            quiet=True,
            timeout=harness.LAB_LIMIT,
        )
        return int(status)

    def encrypt(self, path: pathlib.Path) -> None:
        """Encrypt a file as the page says."""
        program = pathlib.Path(sys.executable).with_name("ansible-vault")
        harness.run(program, "encrypt", "--vault-password-file", self.environment["ANSIBLE_VAULT_PASSWORD_FILE"], path)

    def changes(self) -> dict[str, int]:
        """Give the number of changes on each host, by the recap of the last run."""
        return Rerun(Completed(0, self.said, ""), 0).recap


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    return Runner(tmp_path_factory.mktemp("pipeline"))


def test_the_check_of_a_converged_site_reports_no_change(site: Site, runner: Runner) -> None:
    check, _, _ = gitlab().commands
    assert runner.run(check) == 0, runner.said
    assert runner.changes() == dict.fromkeys(NODES, 0)


@pytest.mark.campaign
def test_the_converge_signs_with_the_key_from_the_vault(site: Site, runner: Runner) -> None:
    _, converge, _ = gitlab().commands
    standby = site.standby()
    key = harness.authority() / "ca.key"
    plain = key.read_text()
    on(standby, "rm", "/etc/duplex/pki/node.crt")
    try:
        runner.encrypt(key)
        assert key.read_text().startswith("$ANSIBLE_VAULT")
        assert runner.run(converge) == 0, runner.said
    finally:
        key.write_text(plain)
    # The certificate that was lost is revoked, of which the other node is told as well.
    assert runner.changes()[standby] > 0
    assert on(standby, "cat", "/etc/duplex/pki/node.crt").stdout.startswith("-----BEGIN CERTIFICATE-----")


@pytest.mark.campaign
def test_the_gate_passes_when_all_is_well_and_names_what_is_not(site: Site, runner: Runner) -> None:
    _, _, gate = gitlab().commands
    wait_until("the gate opens", lambda: runner.run(gate) == 0)
    report = json.loads((runner.directory / "report" / "status.json").read_text())
    assert {node: document["level"] for node, document in report.items()} == dict.fromkeys(NODES, "ok")
    standby = site.standby()
    on(standby, "duplexctl", "hold", "--reason", "the gate is tried")
    try:
        assert runner.run(gate) == 2, runner.said
    finally:
        on(standby, "duplexctl", "release")
    last = "\n".join(runner.said.splitlines()[-5:])
    assert f"FAILED: site london: {standby}: " in last, runner.said
    assert "the gate is tried" in last
