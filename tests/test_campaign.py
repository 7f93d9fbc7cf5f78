"""The campaign of attacks is no part of the tests, but it starts, and its quickest attack finds nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CAMPAIGN = Path(__file__).with_name("campaign")


def test_the_quickest_attack_is_survived() -> None:
    command = [sys.executable, str(CAMPAIGN), "--only", "one folder"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1].split() == ["one", "folder", "replaced", "by", "many", "1", "1"]
    assert done.returncode == 0
