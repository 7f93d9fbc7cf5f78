"""What runs elsewhere: the workflows, the container for development, Binder, and the script that publishes
the site, which is run here on a repository of its own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
SCRIPTS = [ROOT / ".ci" / "run", ROOT / ".ci" / "publish", ROOT / ".binder" / "postBuild"]


def read(path: Path) -> dict[Any, Any]:
    found: dict[Any, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in read(path)["jobs"].values() for step in job["steps"]]


def check_command(command: str) -> None:
    """It is a shell command, its make targets are there, and so are the scripts of ours that it calls."""
    done = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for target in re.findall(r"\bmake ([\w-]+)", command):
        assert target in TARGETS, f"make {target}"
    for script in re.findall(r"(?<!\S)\.ci/[\w-]+", command):
        assert os.access(ROOT / script, os.X_OK), script


def test_there_are_workflows_for_tests_and_for_the_site() -> None:
    assert [path.stem for path in WORKFLOWS] == ["pages", "tests"]
    commands = {path.stem: [step["run"] for step in steps(path) if "run" in step] for path in WORKFLOWS}
    assert commands == {"tests": [".ci/run"], "pages": ["make site", "make crate", ".ci/publish"]}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_has_the_form_of_one(path: Path) -> None:
    workflow = read(path)
    triggers = workflow.pop(True)  # YAML 1.1 takes `on` for a truth value
    assert set(workflow) == {"name", "permissions", "concurrency", "jobs"}
    assert triggers["push"] == {"branches": ["main"]}
    assert set(triggers) <= {"push", "pull_request", "workflow_dispatch"}
    assert set(workflow["permissions"]) == {"contents"}
    for job in workflow["jobs"].values():
        assert set(job) <= {"runs-on", "timeout-minutes", "env", "steps"}
        assert re.fullmatch(r"ubuntu-\d+\.\d+", job["runs-on"]) and 10 <= job["timeout-minutes"] <= 120
    for step in steps(path):
        assert ("uses" in step) != ("run" in step)
        assert set(step) <= {"name", "uses", "with", "run", "if"}
        if "uses" in step:
            assert re.fullmatch(r"actions/[\w-]+@v\d+\.\d+\.\d+", step["uses"]), "pinned to a tag"
        else:
            check_command(step["run"])


def test_tests_write_nothing_and_the_site_is_pushed_only_where_it_says_where_it_is() -> None:
    found = {path.stem: read(path) for path in WORKFLOWS}
    assert found["tests"]["permissions"] == {"contents": "read"}
    (push,) = [
        step
        for step in steps(ROOT / ".github" / "workflows" / "pages.yml")
        if step.get("run") == ".ci/publish"
    ]
    assert push["if"] == "hashFiles('_build/html/sitemap.xml') != ''"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_script_can_be_run(script: Path) -> None:
    assert os.access(script, os.X_OK) and script.read_text(encoding="utf-8").startswith(
        "#!/usr/bin/env bash\n"
    )
    check_command(script.read_text(encoding="utf-8"))


def test_container_and_binder_have_a_python_that_the_project_takes() -> None:
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    assert container["image"] == "python:3.12-bookworm"
    check_command(container["postCreateCommand"])
    assert (ROOT / ".binder" / "runtime.txt").read_text(encoding="utf-8") == "python-3.12\n"


# Publishing ---------------------------------------------------------------------------------------


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
    done = subprocess.run(
        ["git", "-C", str(folder), *who, *words], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A clone with the script and a built site, and its origin beside it."""
    git(tmp_path, "init", "--quiet", "--bare", "origin.git")
    git(tmp_path, "clone", "--quiet", "origin.git", "clone")
    folder = tmp_path / "clone"
    (folder / ".ci").mkdir()
    shutil.copy2(ROOT / ".ci" / "publish", folder / ".ci")
    shutil.copy2(ROOT / ".gitignore", folder)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", "sources")
    git(folder, "push", "--quiet", "origin", "HEAD:main")
    for name in (
        ".nojekyll",
        "index.html",
        "_static/style.css",
        "colab/noise.ipynb",
        "_sources/book/noise.ipynb",
    ):
        path = folder / "_build" / "html" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return folder


def publish(checkout: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [checkout / ".ci" / "publish"], cwd="/", capture_output=True, text=True, check=False
    )


def test_site_is_pushed_whole_and_nothing_else_changes(checkout: Path) -> None:
    origin = checkout.parent / "origin.git"
    before = git(checkout, "status", "--porcelain"), git(origin, "rev-parse", "main")
    for text in ("first", "second"):
        (checkout / "_build" / "html" / "index.html").write_text(text)
        (checkout / "_build" / "html" / f"{text}.html").touch()
        done = publish(checkout)
        assert done.returncode == 0, done.stderr
        assert git(origin, "show", "gh-pages:index.html") == text
        (checkout / "_build" / "html" / f"{text}.html").unlink()
    names = git(origin, "ls-tree", "-r", "--name-only", "gh-pages").splitlines()
    assert names == [
        ".nojekyll",
        "_sources/book/noise.ipynb",
        "_static/style.css",
        "colab/noise.ipynb",
        "index.html",
        "second.html",
    ]
    assert git(origin, "rev-list", "--count", "gh-pages") == "1", "no past"
    assert git(checkout, "rev-parse", "HEAD") in git(origin, "log", "-1", "--format=%s", "gh-pages")
    assert (git(checkout, "status", "--porcelain"), git(origin, "rev-parse", "main")) == before


def test_site_that_is_built_for_no_repository_is_not_pushed(checkout: Path) -> None:
    (checkout / "_build" / "html" / ".nojekyll").unlink()
    done = publish(checkout)
    assert done.returncode == 1 and "name the repository in _config.yml" in done.stderr
    assert git(checkout.parent / "origin.git", "branch", "--list", "gh-pages") == ""
