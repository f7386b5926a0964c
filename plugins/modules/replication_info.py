#!/usr/bin/python
# Copyright: Duplex contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Report what the role replication has to know of a node, in one step."""

from __future__ import annotations

DOCUMENTATION = r"""
module: replication_info
short_description: Report what of PostgreSQL and the certificates is there already
version_added: 0.1.0
description:
  - Reports which packages are missing, in what state the PostgreSQL cluster is, which settings are in force, which
    certificates are installed, and whether the node has joined its site.
  - The role P(duplex.failover.replication#role) decides with it what there is to do, so that a rerun on a complete node
    costs one round trip.
author:
  - Duplex contributors (@duplex)
extends_documentation_fragment:
  - duplex.failover._attributes
  - duplex.failover._attributes.info_module
options:
  packages:
    description: Debian packages to look for.
    type: list
    elements: str
    default: []
  version:
    description: Major version of the PostgreSQL cluster.
    type: int
    required: true
  cluster:
    description: Name of the PostgreSQL cluster.
    type: str
    default: main
  settings:
    description: Names of the settings to report from a running cluster.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Look at PostgreSQL
  duplex.failover.replication_info:
    packages: [postgresql-15]
    version: 15
    settings: [wal_log_hints]
  register: replication
"""

RETURN = r"""
missing_packages:
  description: The packages of O(packages) that are not installed.
  returned: success
  type: list
  elements: str
joined:
  description: Whether the node's data has joined its site.
  returned: success
  type: bool
site_cluster:
  description: Version and name of the cluster that the node's site has; empty on a host that is no node.
  returned: success
  type: str
  sample: 15-main
  version_added: 0.2.0
cluster:
  description: State of the cluster's files and server.
  returned: success
  type: dict
  contains:
    exists:
      description: Whether the cluster is configured.
      type: bool
    data:
      description: Whether its data directory has a database system.
      type: bool
    data_directory:
      description: The configured data directory; empty without a cluster.
      type: str
    port:
      description: The configured port; V(0) without a cluster.
      type: int
    running:
      description: Whether its server runs.
      type: bool
    standby:
      description: Whether its data directory is marked as that of a standby.
      type: bool
      version_added: 0.2.0
server:
  description: Answer of the running server; empty when it does not run or does not answer.
  returned: success
  type: dict
  contains:
    in_recovery:
      description: Whether it is a standby.
      type: bool
    system_identifier:
      description: Identifier of the database system, a number too large for an integer.
      type: str
    pending_restart:
      description: Settings that wait for a restart.
      type: list
      elements: str
    tablespaces:
      description: Tablespaces that somebody made, which Duplex does not replicate.
      type: list
      elements: str
      version_added: 0.2.0
    settings:
      description: By name, the C(value) for humans, the C(setting) in units, its C(default), C(context) and C(source).
      type: dict
message:
  description: Why RV(server) is empty although the server runs.
  returned: success
  type: str
pki:
  description: What is installed below C(/etc/duplex/pki).
  returned: success
  type: dict
  contains:
    authority:
      description: The authority's certificate as PEM; empty when absent.
      type: str
    certificate:
      description: The node's certificate as PEM; empty when absent.
      type: str
    revocations:
      description: The authority's list of revoked certificates as PEM; empty when absent.
      type: str
    key_matches:
      description: Whether the private key belongs to the certificate.
      type: bool
"""

import json
import pathlib
import ssl
import typing as t

from ansible.module_utils.basic import AnsibleModule

PKI = pathlib.Path("/etc/duplex/pki")
CONFIGURATION = pathlib.Path("/etc/postgresql")
SITE = pathlib.Path("/etc/duplex/site.json")
JOINED = pathlib.Path("/var/lib/duplex/joined.json")
SERVER = """
SELECT json_build_object(
  'in_recovery', pg_is_in_recovery(),
  'system_identifier', (SELECT system_identifier::text FROM pg_control_system()),
  'pending_restart', (SELECT coalesce(json_agg(name ORDER BY name), '[]') FROM pg_settings WHERE pending_restart),
  'tablespaces', (SELECT coalesce(json_agg(spcname ORDER BY spcname), '[]') FROM pg_tablespace WHERE oid > 16383),
  'settings', (SELECT json_object_agg(name, json_build_object('value', current_setting(name), 'setting', setting,
      'default', boot_val, 'context', context, 'source', coalesce(sourcefile, source))) FROM pg_settings
    WHERE name = ANY (string_to_array(:'names', ',')))
)
"""

if t.TYPE_CHECKING:
    Runner = t.Callable[..., tuple[int, str, str]]


def missing_packages(run: Runner, packages: list[str]) -> list[str]:
    """Those of `packages` that dpkg does not call installed."""
    if not packages:
        return []
    found = run(["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *packages])[1]
    installed = {line.split()[0] for line in found.splitlines() if line.endswith(" installed")}
    return [name for name in packages if name not in installed]


def cluster_state(run: Runner, version: int, name: str) -> dict[str, t.Any]:
    """Configuration and server of the cluster, as the distribution's tools see it."""
    configuration = CONFIGURATION / str(version) / name / "postgresql.conf"
    state = {"exists": configuration.exists(), "data": False, "data_directory": "", "port": 0}
    state.update(running=False, standby=False)
    if not state["exists"]:
        return state
    for cluster in json.loads(run(["pg_lsclusters", "--json"])[1] or "[]"):
        if (str(cluster["version"]), cluster["cluster"]) == (str(version), name):
            data = cluster.get("pgdata") or ""
            state.update(data_directory=data, port=int(cluster["port"]), running=bool(int(cluster["running"])))
            state["data"] = bool(data) and pathlib.Path(data, "PG_VERSION").exists()
            state["standby"] = bool(data) and pathlib.Path(data, "standby.signal").exists()
    return state


def ask_server(run: Runner, port: int, settings: list[str]) -> tuple[dict[str, t.Any], str]:
    """The server's answer, or an empty one and the reason."""
    argv = ["runuser", "--user", "postgres", "--", "psql", "--no-psqlrc", "--quiet", "--no-align", "--tuples-only"]
    argv += ["--no-password", f"--port={port}", "--dbname=postgres", f"--set=names={','.join(settings)}"]
    status, out, err = run([*argv, "--file=-"], data=SERVER, cwd="/")
    return (json.loads(out), "") if status == 0 and out.strip() else ({}, err.strip() or "no answer")


def site_cluster() -> str:
    """The cluster that the node is configured with; empty where that cannot be told."""
    try:
        database = json.loads(SITE.read_text(encoding="utf-8"))["database"]
        return f"{database['version']}-{database['cluster']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def certificates() -> dict[str, t.Any]:
    """The installed certificates, and whether the key belongs to the node's."""
    found = {"authority": "", "certificate": "", "revocations": "", "key_matches": False}
    for name, file in (("authority", "ca.crt"), ("certificate", "node.crt"), ("revocations", "ca.crl")):
        if (PKI / file).exists():
            found[name] = (PKI / file).read_text(encoding="ascii")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(PKI / "node.crt", PKI / "node.key")
        found["key_matches"] = True
    except (OSError, ssl.SSLError):
        pass
    return found


def main() -> None:
    """Look at everything, change nothing."""
    module = AnsibleModule(
        argument_spec={
            "packages": {"type": "list", "elements": "str", "default": []},
            "version": {"type": "int", "required": True},
            "cluster": {"type": "str", "default": "main"},
            "settings": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    module.run_command_environ_update = {"LC_ALL": "C"}
    state = cluster_state(module.run_command, module.params["version"], module.params["cluster"])
    server, message = {}, ""
    if state["running"]:
        server, message = ask_server(module.run_command, state["port"], module.params["settings"])
    module.exit_json(
        changed=False,
        missing_packages=missing_packages(module.run_command, module.params["packages"]),
        joined=JOINED.exists(),
        site_cluster=site_cluster(),
        cluster=state,
        server=server,
        message=message,
        pki=certificates(),
    )


if __name__ == "__main__":
    main()
