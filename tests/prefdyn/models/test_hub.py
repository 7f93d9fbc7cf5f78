"""Models of the hub, which a server of our own stands in for, in processes that have no other cache."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import hub_server
import pytest
from hub_server import Hub

from prefdyn.models import LanguageModel

LOADS = """
import sys
from prefdyn.errors import PrefdynError
from prefdyn.models import loading

for name in sys.argv[1:]:
    try:
        print(loading.fingerprint(name), flush=True)
        input()
        loading.configuration(name)
        lm = loading.load(name, device="cpu")
        print(lm.fingerprint, float(lm.model.model.norm.weight[0]))
    except PrefdynError as error:
        print(error)
"""
"""Says the fingerprint of each model by name, and when it is told to go on that of the loaded one, and a
weight.
"""


@pytest.fixture
def hub() -> Iterator[Hub]:
    with hub_server.serving() as served:
        yield served


def publish(hub: Hub, lm: LanguageModel, folder: Path, weight: float) -> str:
    """The model with another weight, as "some/tiny"."""
    lm.model.model.norm.weight[0] = weight
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    return hub.publish("some/tiny", folder)


def said(
    environment: dict[str, str], *names: str, meanwhile: Callable[[], object] = lambda: None
) -> list[str]:
    """What `LOADS` says; something happens while it knows the first fingerprint and has not loaded."""
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            [sys.executable, "-c", LOADS, *names],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        assert process.stdin is not None and process.stdout is not None
        first = process.stdout.readline()
        meanwhile()
        with contextlib.suppress(BrokenPipeError):  # of one that asked for nothing and has ended
            process.stdin.write("\n" * len(names))
            process.stdin.close()
        # What came with the first line is buffered here, where `communicate` would not look.
        rest = process.stdout.read()
        process.wait(timeout=300)
        errors.seek(0)
        assert process.returncode == 0, errors.read()
    return [first.rstrip("\n"), *rest.splitlines()]


def test_model_of_the_hub_is_known_by_its_commit_with_the_hub_and_without(
    hub: Hub, fresh_smoke: LanguageModel, tmp_path: Path
) -> None:
    """A commit made between the two is none of this process's business; one made before the next one is."""
    environment, folder = hub.environment(tmp_path / "home"), tmp_path / "tiny"
    first = publish(hub, fresh_smoke, folder, 2.0)
    commits = []

    def change() -> None:
        commits.append(publish(hub, fresh_smoke, folder, 3.0))

    known, loaded = said(environment, "some/tiny", meanwhile=change)
    assert (known, loaded) == (first[:16], f"{first[:16]} 2.0")
    gone = {**environment, "HF_ENDPOINT": "http://127.0.0.1:9"}  # where nothing answers
    assert said(gone, "some/tiny") == [first[:16], f"{first[:16]} 2.0"]
    (second,) = commits
    assert said(environment, "some/tiny") == [second[:16], f"{second[:16]} 3.0"]


def test_model_that_the_hub_has_not_is_one_sentence(hub: Hub, tmp_path: Path) -> None:
    hub.commits["some/none"] = {"0" * 40: {"README.md": b"nothing"}}
    for sentence, why in zip(
        said(hub.environment(tmp_path), "no/such", "some/none"), ("Repository", "Entry"), strict=True
    ):
        assert f"the hub does not give it: {why} Not Found" in sentence and "check the name" in sentence
