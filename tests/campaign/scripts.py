"""What attacks do with the library in a process of their own: `python -m scripts NAME ...`."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import multiprocessing
import random
import sys
import time
from pathlib import Path


def damaged_results(seed: str, times: str) -> None:
    """One kept result is damaged again and again; each time it is noticed and made anew."""
    import numpy as np
    import pandas as pd
    from house import hurt

    from prefdyn.cache import cached
    from prefdyn.files import cache_folder
    from prefdyn.theory import ranking

    rng = random.Random(int(seed))
    values = np.random.default_rng(0).normal(size=(64, 32))
    made = {"arrays": [values, values.astype(np.float32)], "table": pd.DataFrame(values), "words": ["a", "ä"]}

    def get() -> str:
        found = cached("campaign", {"n": 1}, ranking.chance, lambda: made)
        return repr(
            [*[array.tobytes() for array in found["arrays"]], found["table"].to_csv(), found["words"]]
        )

    whole = get()
    (path,) = (cache_folder() / "results" / "campaign").iterdir()
    content = path.read_bytes()
    for _ in range(int(times)):
        path.write_bytes(content)
        how = hurt(path, rng)
        with contextlib.redirect_stdout(io.StringIO()) as said:
            found = get()
        if found != whole:
            sys.exit(f"a damaged result ({how}) was taken for whole")
        if "damaged" not in said.getvalue():
            sys.exit(f"a damaged result ({how}) was not noticed")


def hammer(folder: str, processes: int = 4, times: int = 100) -> None:
    """Several processes replace one folder, whose files all say the same."""
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        pool.starmap(_replace, [(folder, which, times) for which in range(processes)])
    if len({path.read_text() for path in Path(folder).iterdir()}) != 1:
        sys.exit("the folder holds files of several writers, or none")
    if left := [path.name for path in Path(folder).parent.glob(f".{Path(folder).name}*")]:
        sys.exit(f"left behind: {left}")


def _replace(folder: str, which: int, times: int) -> None:
    from prefdyn.files import atomic_folder

    for time_ in range(times):
        with atomic_folder(Path(folder)) as made:
            for name in "abc":
                (made / name).write_text(f"{which} {time_}")


def slow_judge(url: str) -> None:
    """A judge that takes for ever is given up, in one sentence or with no verdict."""
    import numpy as np

    from prefdyn.errors import PrefdynError
    from prefdyn.measures.endpoint import EndpointJudge

    wanted = {"timeout": 1.0, "patience": 3.0, "tries": 2}
    has = {field.name for field in dataclasses.fields(EndpointJudge)}
    judge = EndpointJudge(url, "judge", **{name: value for name, value in wanted.items() if name in has})
    began = time.monotonic()
    try:
        verdicts = judge.first_is_better(["Tea?"] * 2, ["Yes.", "Please."], ["No.", "Never."])
        if not np.isnan(verdicts).all():
            sys.exit(f"a judge that says nothing gave the verdicts {verdicts}")
    except PrefdynError as error:
        print(error)
    if time.monotonic() > began + 20:
        sys.exit(f"it took {time.monotonic() - began:.0f} s to give the judge up")


def bad_model(kind: str, folder: str) -> None:
    """Save the smoke model so that it is no usable one."""
    import torch
    from transformers import T5Config

    from prefdyn.models import toy

    model, tokenizer = toy.make()
    if kind == "NaN weights":
        with torch.no_grad():
            model.model.layers[0].mlp.up_proj.weight.fill_(float("nan"))
    model.save_pretrained(folder)
    if kind != "no tokenizer":
        tokenizer.save_pretrained(folder)
    if kind == "T5":
        T5Config(d_model=32, num_layers=1).save_pretrained(folder)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
