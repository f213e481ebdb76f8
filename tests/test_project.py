"""What the files around the code promise: the requirements, what CI runs, the container, a Space, the documentation."""

import os
import re
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]


def requirements(name: str) -> list[Requirement]:
    lines = (line.partition("#")[0].strip() for line in (ROOT / name).read_text().splitlines())
    return [Requirement(line) for line in lines if line]


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_requirements_have_bounds_that_hold_here(name: str) -> None:
    for requirement in requirements(name):
        assert requirement.specifier, f"{requirement} has no bound"
        assert metadata.version(requirement.name) in requirement.specifier


def test_torch_is_pinned() -> None:
    # Any other release that pip may choose brings gigabytes of CUDA to a machine that has a CPU build of this one.
    assert "torch==2.13.0" in map(str, requirements("requirements.txt"))


def test_no_file_names_a_package_index() -> None:
    for name in ("Makefile", "Dockerfile", "requirements.txt", "requirements-dev.txt", "pyproject.toml", ".ci/run"):
        assert not re.search(r"://(?!127\.0\.0\.1)", (ROOT / name).read_text()), f"{name} names a host"


def test_ci_runs_make_test() -> None:
    run = ROOT / ".ci/run"
    assert os.access(run, os.X_OK)
    assert re.search(r"^(exec )?make test$", run.read_text(), re.MULTILINE)


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(word, rest.strip()) for line in text.splitlines() if line for word, _, rest in [line.partition(" ")]]


def environment() -> dict[str, str]:
    """What the container sets."""
    pairs = re.findall(r'(\w+)=("[^"]*"|\S*)', " ".join(rest for word, rest in instructions() if word == "ENV"))
    return {name: value.strip('"') for name, value in pairs}


def test_container_is_slim_and_its_server_is_nobody_special() -> None:
    assert [rest.split()[0] for word, rest in instructions() if word == "FROM"] == ["python:3.11-slim"] * 2
    assert [rest for word, rest in instructions() if word == "USER"] == ["1000"]


def test_container_is_public_and_opens_shipped_models_only() -> None:
    assert environment()["QFUND_PUBLIC"] == "1"
    assert environment()["QFUND_ALLOW"] == ""
    assert environment()["QFUND_HOME"].startswith(environment()["HOME"] + "/")


def test_container_serves_and_checks_the_port_it_is_given() -> None:
    by_word = dict(instructions())
    assert environment()["PORT"] == by_word["EXPOSE"] == "7860"
    assert '--server.port \\"$PORT\\"' in by_word["CMD"]
    assert "/_stcore/health" in by_word["HEALTHCHECK"] and 'os.environ[\\"PORT\\"]' in by_word["HEALTHCHECK"]
    assert "urllib" in by_word["HEALTHCHECK"]


def test_container_gets_all_that_the_dashboard_runs_on() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {".streamlit", "app.py", "models", "pages", "pyproject.toml", "qfund", "requirements.txt"} <= sent
    assert all((ROOT / name).exists() for name in sent)


def test_a_space_runs_the_repository_as_it_is() -> None:
    head = re.match(r"---\n(.*?)\n---\n", (ROOT / "README.md").read_text(), re.DOTALL)
    assert head is not None
    settings = dict(line.split(": ", 1) for line in head[1].splitlines())
    assert settings["sdk"] == "docker"
    assert settings["app_port"] == environment()["PORT"]


PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text("utf-8")
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert (page.parent / target).exists(), target
    for target in re.findall(r"`((?:benchmarks|docs|pages|qfund|tests|training)/[\w/.]*)`", text):
        assert (ROOT / target).exists(), target


def test_every_setting_is_documented() -> None:
    code = "".join(path.read_text("utf-8") for path in (ROOT / "qfund").rglob("*.py"))
    assert set(re.findall(r"\bQFUND_[A-Z_]+", code)) == set(
        re.findall(r"^\| `(QFUND_\w+)`", (ROOT / "docs/settings.md").read_text(), re.MULTILINE)
    )
