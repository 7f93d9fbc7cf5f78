"""Every row of a GPU within eight minutes, as the lines of README's table.

Each row is one of the other benchmarks in a process of its own, on random weights of a real architecture and
the embedded sample, in bfloat16 for both unless the row says otherwise. A row that takes longer than it may,
that does not fit, or for which no time is left is said to be not measured; the rows that matter most come
first. `--device cpu --shape smoke` tries all of it on a CPU; what it prints then means nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent
SECONDS = 480
"""Of all rows together; what rows may take adds up to more, as few of them need all of it."""


class Row(NamedTuple):
    """A benchmark with its options, and the most seconds that it may take."""

    work: str
    script: str
    shape: str
    options: str
    seconds: int


STEPS, PAIRS, LIKELIHOODS = (
    "--steps 48 --repeats 2",
    "--steps 32 --batch 16 --repeats 2",
    "--pairs 160 --batch 32",
)
ROWS = (
    Row("DPO on personas, 32 a step", "dpo_vs_trl.py", "135m", STEPS, 90),
    Row("DPO on response pairs, 16 a step", "pairs_vs_trl.py", "135m", PAIRS, 90),
    Row("log-likelihoods of responses", "loglik_vs_lm_eval.py", "135m", LIKELIHOODS, 60),
    Row("DPO on personas, 32 a step", "dpo_vs_trl.py", "1.4b", STEPS, 120),
    Row("DPO on response pairs, 16 a step", "pairs_vs_trl.py", "1.4b", PAIRS, 120),
    Row("log-likelihoods of responses", "loglik_vs_lm_eval.py", "1.4b", LIKELIHOODS, 60),
    Row("DPO on personas, 32 a step", "dpo_vs_trl.py", "410m", STEPS, 60),
    Row("DPO on personas, float32", "dpo_vs_trl.py", "135m", "--steps 24 --repeats 1 --rows float32", 60),
    Row(
        "DPO on response pairs, 64 a step", "pairs_vs_trl.py", "2.8b", "--steps 2 --batch 64 --repeats 1", 90
    ),
    Row("log-likelihoods of responses", "loglik_vs_lm_eval.py", "8b", LIKELIHOODS + " --repeats 1", 90),
)
HEAD = (
    "work",
    "shape",
    "device, precision",
    "peer, s",
    "ours, s",
    "faster by",
    "tokens a second",
    "peak, GiB",
    "of a matrix product's speed",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--shape", help="this one in every row")
    parser.add_argument("--data", default="sample", help="sample, hub or a folder in the publishers' layout")
    chosen = parser.parse_args()
    deadline = time.monotonic() + SECONDS
    for cells in (HEAD, ["---"] * len(HEAD)):
        print("| " + " | ".join(cells) + " |", flush=True)
    for row in ROWS:
        shape = chosen.shape or row.shape
        said = measured(row, shape, chosen, deadline - time.monotonic())
        print("| " + " | ".join([row.work, shape, *line(said)]) + " |", flush=True)


def measured(row: Row, shape: str, chosen: argparse.Namespace, left: float) -> dict[str, Any] | str:
    """What the benchmark says, or why it says nothing; it is stopped when the seconds left are over."""
    if left <= 0:
        return f"not measured: the {SECONDS} s for all rows are over"
    rows = [] if "--rows" in row.options else ["--rows", "bfloat16 both"]
    command = [sys.executable, str(FOLDER / row.script), "--json", "--shape", shape, *rows]
    command += ["--device", chosen.device, "--data", chosen.data, *row.options.split()]
    seconds = min(row.seconds, left)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        most = f"{row.seconds} s" if row.seconds <= left else f"the {left:.0f} s that were left"
        return f"not measured: it takes longer than {most}"
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["?"])[-1]
        return "not measured: " + ("it does not fit" if "OutOfMemory" in last else last[:120])
    return json.loads(done.stdout)[0]


def line(said: dict[str, Any] | str) -> list[str]:
    if isinstance(said, str):
        return [said]
    return [
        f"{said['device']}, {said['precision'].removesuffix(' both')}",
        f"{said['seconds_peer']:.2f}",
        f"{said['seconds_ours']:.2f}",
        f"{said['ratio']:.1f} times",
        f"{said['tokens_per_second']:,.0f}",
        f"{said['gib_ours']:.1f} (peer {said['gib_peer']:.1f})",
        f"{said['matrix_product_share']:.0%}",
    ]


if __name__ == "__main__":
    main()
