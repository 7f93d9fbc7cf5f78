"""The script of a GPU's rows keeps to its time, and says of each row that it left out why."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import gpu
import pytest
from gpu import Row

MEASURED = {
    "device": "a card",
    "precision": "bfloat16 both",
    "seconds_peer": 2.0,
    "seconds_ours": 0.5,
    "ratio": 4.0,
    "tokens_per_second": 1234.0,
    "gib_ours": 1.0,
    "gib_peer": 3.0,
    "matrix_product_share": 0.25,
}


class Clock:
    """Time that passes only where a benchmark runs, and benchmarks that take so many seconds, one by one."""

    def __init__(self, *takes: float) -> None:
        self.now, self.takes, self.limits = 1000.0, list(takes), list[float]()

    def monotonic(self) -> float:
        return self.now

    def run(self, command: list[str], timeout: float, **_: Any) -> Any:
        takes = self.takes.pop(0)
        self.limits.append(timeout)
        self.now += min(takes, timeout)
        if takes > timeout:
            raise subprocess.TimeoutExpired(command, timeout)
        return subprocess.CompletedProcess(command, 0, json.dumps([MEASURED]), "")


def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *more: str) -> list[str]:
    """The lines of the table below its head."""
    monkeypatch.setattr("sys.argv", ["gpu.py", *more])
    gpu.main()
    head, rule, *lines = capsys.readouterr().out.splitlines()
    assert head.count("|") == rule.count("|") == len(gpu.HEAD) + 1
    return lines


def with_clock(monkeypatch: pytest.MonkeyPatch, *takes: float) -> Clock:
    clock = Clock(*takes)
    monkeypatch.setattr(gpu.time, "monotonic", clock.monotonic)
    monkeypatch.setattr(gpu.subprocess, "run", clock.run)
    return clock


def test_rows_that_all_take_too_long_end_with_the_eight_minutes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = with_clock(monkeypatch, 50.0, *[1e9] * (len(gpu.ROWS) - 1))
    lines = printed(capsys, monkeypatch)
    assert clock.now - 1000 == gpu.SECONDS == 8 * 60
    assert len(lines) == len(gpu.ROWS) and all("| not measured: " in line for line in lines[1:])
    whole = len(clock.limits) - 1  # have all of their own seconds; one has what is left, the others nothing
    assert clock.limits[:whole] == [row.seconds for row in gpu.ROWS[:whole]]
    assert 0 < clock.limits[whole] < gpu.ROWS[whole].seconds and len(clock.limits) < len(gpu.ROWS)
    assert lines[1].endswith(f"not measured: it takes longer than {gpu.ROWS[1].seconds} s |")
    assert lines[whole].endswith(f"longer than the {clock.limits[whole]:.0f} s that were left |")
    assert lines[-1].endswith("not measured: the 480 s for all rows are over |")


def test_what_one_row_leaves_is_there_for_the_next(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = with_clock(monkeypatch, *[40.0] * len(gpu.ROWS))
    lines = printed(capsys, monkeypatch)
    assert clock.now - 1000 == 40 * len(gpu.ROWS) < gpu.SECONDS
    assert not [line for line in lines if "not measured" in line]
    share = "a card, bfloat16 | 2.00 | 0.50 | 4.0 times | 1,234 | 1.0 (peer 3.0) | 25% |"
    assert all(line.endswith(share) for line in lines)


def test_a_row_that_hangs_is_stopped_and_the_others_are_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Stand-ins as processes of their own: each hung one would take a minute."""
    (tmp_path / "hangs.py").write_text("import time; time.sleep(60)")
    (tmp_path / "answers.py").write_text(f"import json; print(json.dumps([{MEASURED}]))")
    (tmp_path / "fails.py").write_text("raise RuntimeError('torch.OutOfMemoryError: 1 GiB')")
    rows = (("hangs", 1), ("answers", 50), ("fails", 50), ("hangs", 50), ("answers", 50))
    monkeypatch.setattr(gpu, "FOLDER", tmp_path)
    monkeypatch.setattr(gpu, "SECONDS", 6)
    monkeypatch.setattr(gpu, "ROWS", [Row(name, f"{name}.py", "135m", "", most) for name, most in rows])
    start = time.monotonic()
    lines = printed(capsys, monkeypatch, "--shape", "smoke")
    assert 6 <= time.monotonic() - start < 30
    assert all(f"| {name} | smoke | " in line for (name, _), line in zip(rows, lines, strict=True))
    said = [
        "it takes longer than 1 s |",
        "4.0 times | 1,234 | 1.0 (peer 3.0) | 25% |",
        "it does not fit |",
        "s that were left |",
        "the 6 s for all rows are over |",
    ]
    assert all(line.endswith(end) for line, end in zip(lines, said, strict=True))
