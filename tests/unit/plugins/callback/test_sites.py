# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The last lines of a run over many sites."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

from ansible_collections.duplex.failover.plugins.callback.sites import LONGEST, Failure, summary

ROOT = pathlib.Path(__file__).resolve().parents[4]
COLLECTIONS = ROOT / ".collections" if (ROOT / ".collections").exists() else ROOT.parents[2]
SITES = {"london-1": "london", "london-2": "london", "paris-1": "paris", "paris-2": "paris"}
PLAYBOOK = """
- hosts: all
  gather_facts: false
  connection: local
  tasks:
    - name: Break one node
      ansible.builtin.fail:
        msg: its disk is full
      when: inventory_hostname == 'paris-2'
    - name: Recover from what is rescued
      block:
        - ansible.builtin.fail:
      rescue:
        - ansible.builtin.debug:
"""


def test_a_run_without_failure_says_how_many() -> None:
    assert summary(SITES, {}) == ["2 of 2 sites done"]


def test_each_host_that_failed_has_a_line_with_its_site_and_the_reason() -> None:
    failures = {"paris-2": Failure("Install it", "no\n  space"), "paris-1": Failure("Join", "no peer")}
    assert summary(SITES, failures) == [
        "1 of 2 sites done",
        "FAILED: site paris: paris-1: Join: no peer",
        "FAILED: site paris: paris-2: Install it: no space",
    ]


def test_a_host_without_a_site_is_named_too() -> None:
    assert summary(SITES, {"localhost": Failure("Sign", "no key")})[1] == "FAILED: no site: localhost: Sign: no key"


def test_a_long_reason_is_cut() -> None:
    last = summary(SITES, {"paris-1": Failure("Join", "x" * 2 * LONGEST)})[-1]
    assert last.endswith("x ...") and len(last) < LONGEST + 60


@pytest.mark.allow_subprocess
def test_ansible_ends_with_these_lines(tmp_path: pathlib.Path) -> None:
    hosts = "\n".join(f"{host} site_name={site}" for host, site in SITES.items())
    (tmp_path / "hosts").write_text(hosts + "\n")
    (tmp_path / "play.yml").write_text(PLAYBOOK)
    program = pathlib.Path(sys.executable).with_name("ansible-playbook")
    done = subprocess.run(
        [program, "-i", "hosts", "play.yml"],
        cwd=tmp_path,
        env={
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
            "ANSIBLE_CALLBACKS_ENABLED": "duplex.failover.sites",
            "ANSIBLE_LOCAL_TEMP": str(tmp_path / "local"),
            "ANSIBLE_HOME": str(tmp_path / "home"),
            "PATH": "/usr/bin:/bin",
            "LC_ALL": "C.UTF-8",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout.splitlines()[-2:] == [
        "1 of 2 sites done",
        "FAILED: site paris: paris-2: Break one node: its disk is full",
    ]
