"""The hub, played by a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from prefdyn.data import pairs, personas


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the layout of the hub's two datasets, in their place."""
    import datasets
    import huggingface_hub

    def snapshot(repository: str, repo_type: str, **_: object) -> str:
        assert repo_type == "dataset"
        return repository

    for module, constant in ((personas, "PERSONAS_ON_HUB"), (pairs, "PAIRS_ON_HUB")):
        monkeypatch.setattr(module, constant, str(tmp_path / constant))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    return tmp_path
