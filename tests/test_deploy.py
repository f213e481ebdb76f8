"""What ``deploy/`` has, as far as it can be read without Docker and Kubernetes: that it names settings, commands, files
and parts that there are. The same parts run as processes in ``tests/engine/test_cluster.py``."""

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from streamlit import config

ROOT = Path(__file__).resolve().parents[1]
COMPOSE = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())
PARTS = {
    (part["kind"], part["metadata"]["name"]): part
    for part in yaml.safe_load_all((ROOT / "deploy/kubernetes.yaml").read_text())
}
#: What belongs to the programs beside qfund.
FOREIGN = {"FORWARDED_ALLOW_IPS", "PGDATA", "POSTGRES_DB", "POSTGRES_PASSWORD", "POSTGRES_USER"}
FOREIGN.add("RAY_USAGE_STATS_ENABLED")
#: What the proxy's file and the person who starts it call theirs.
OURS = {"QFUND_NAME", "QFUND_COOKIE_SECRET"}


def found(value: Any, key: str) -> Iterator[Any]:
    """What stands under ``key``, however deep."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == key:
                yield inner
            yield from found(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from found(inner, key)


def environments() -> set[str]:
    names = {name for each in found(COMPOSE["services"], "environment") for name in each}
    names |= {entry["name"] for each in found(list(PARTS.values()), "env") for entry in each}
    return names | set(PARTS["Secret", "qfund"]["stringData"])


def test_they_set_only_what_there_is_to_set() -> None:
    documented = set(re.findall(r"^\| `(QFUND_\w+)`", (ROOT / "docs/settings.md").read_text(), re.MULTILINE))
    streamlit = {
        f"STREAMLIT_{name.replace('.', '_').upper()}"
        for name in re.sub(r"(?<=[a-z])(?=[A-Z])", "_", " ".join(config._config_options_template)).split()
    }
    unknown = environments() - documented - streamlit - FOREIGN - OURS
    assert not unknown
    named = set(re.findall(r"\$\{(\w+)", (ROOT / "deploy/compose.yaml").read_text()))
    caddy = set(re.findall(r"\{\$(\w+)", (ROOT / "deploy/Caddyfile").read_text()))
    assert caddy == set(COMPOSE["services"]["proxy"]["environment"]) == OURS
    assert named <= documented | OURS | {"POSTGRES_PASSWORD"}
    readme = (ROOT / "deploy/README.md").read_text()
    assert all(f"{name}=" in readme for name in re.findall(r"\$\{(\w+):\?", str(COMPOSE)))


def test_commands_have_the_options_that_they_are_given() -> None:
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed: pip install -r requirements-dev.txt")
    from ray.scripts import scripts

    start = {name for option in scripts.start.params for name in option.opts}
    join = (ROOT / "deploy/join.sh").read_text()
    commands = [" ".join(map(str, each)) for each in found(COMPOSE["services"], "command")]
    ray = [*re.findall(r"ray start((?: *\\?\s*--\S+)+)", join), *(each for each in commands if each.startswith("ray "))]
    assert len(ray) == 3  # of web servers, the head, and workers
    assert set(re.findall(r"(--[\w-]+)", " ".join(ray))) <= start
    assert {f"--{name}" for name in found(PARTS["RayCluster", "qfund"], "rayStartParams") for name in name} <= start
    assert all("--disable-usage-stats" in each for each in ray)
    assert "health-check" in scripts.cli.commands
    web = [each for each in commands if each.startswith("streamlit run")]
    assert [each.replace('"', "") for each in web] == [" ".join(container("Deployment", "web")["args"])] * 2
    assert (ROOT / "app.py").exists() and "deploy/join.sh" in (ROOT / ".dockerignore").read_text()


def container(kind: str, name: str) -> dict[str, Any]:
    (only,) = PARTS[kind, name]["spec"]["template"]["spec"]["containers"]
    return dict(only)


def test_parts_find_each_other() -> None:
    services = COMPOSE["services"]
    assert set(re.findall(r"(web-\d):7860", (ROOT / "deploy/Caddyfile").read_text())) == {
        name for name in services if name.startswith("web-")
    }
    for service in services.values():
        assert set(service.get("depends_on", ())) <= services.keys()
        volumes = {volume.partition(":")[0] for volume in service.get("volumes", ())}
        assert {name for name in volumes if not name.startswith(".")} <= COMPOSE["volumes"].keys()
    web = services["web-1"]["environment"]
    assert web["QFUND_RAY_ADDRESS"] == "ray-head:6379" and "@postgres/" in web["QFUND_DATABASE_URL"]
    assert {"ray-head", "postgres"} <= services.keys()

    settings = {entry["name"]: entry["value"] for entry in container("Deployment", "web")["env"]}
    assert settings["QFUND_RAY_ADDRESS"] == f"{PARTS['RayCluster', 'qfund']['metadata']['name']}-head-svc:6379"
    assert "@postgres/" in PARTS["Secret", "qfund"]["stringData"]["QFUND_DATABASE_URL"]
    assert ("Service", "postgres") in PARTS
    (host,) = (rule["host"] for rule in PARTS["Ingress", "web"]["spec"]["rules"])
    assert settings["QFUND_HOSTS"] == host and PARTS["Ingress", "web"]["spec"]["tls"][0]["hosts"] == [host]
    assert {part["metadata"].get("namespace") for key, part in PARTS.items() if key[0] != "Namespace"} == {"qfund"}
    for kind, name in (("Deployment", "web"), ("StatefulSet", "postgres")):
        labels = PARTS[kind, name]["spec"]["template"]["metadata"]["labels"]
        assert labels == PARTS[kind, name]["spec"]["selector"]["matchLabels"]
        assert PARTS["Service", name]["spec"]["selector"] == labels
    claims = set(found(list(PARTS.values()), "claimName"))
    assert claims == {name for kind, name in PARTS if kind == "PersistentVolumeClaim"}


def test_the_image_is_built_with_extras_that_there_are() -> None:
    wanted = COMPOSE["services"]["web-1"]["build"]["args"]["EXTRAS"].split(",")
    project = (ROOT / "pyproject.toml").read_text()
    assert all(re.search(rf"^{name} = \[", project, re.MULTILINE) for name in wanted)
    assert "ARG EXTRAS\n" in (ROOT / "Dockerfile").read_text()
    readme = (ROOT / "deploy/README.md").read_text()
    assert f"EXTRAS={','.join(wanted)}" in readme
