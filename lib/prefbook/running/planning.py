"""What a run would take, before anything is run: memory, minutes, and where."""

from __future__ import annotations

import os

import torch

from prefbook.running.runs import Run
from prefdyn.experiments import pace, plan
from prefdyn.models import devices, loading


def describe(run: Run, card: str = "") -> str:
    """The plan of a run in words and a table; nothing is run, and no model is fetched.

    Args:
        card: the name of a GPU that is planned for instead of what is here; see `pace.CARDS`.

    Raises:
        PrefdynError: the work cannot fit in memory; no such card.
    """
    if not run.values["measure"]:
        return f"{run.chapter}: nothing is measured, the page shows the reference edition alone"
    name = loading.full_name(run.values["model"])
    size, work = plan.model_size(name), run.work()
    where, device, free, seconds, workers = _place(run, size, card)
    plan.check_memory(work, name, size, device, shards(), free)
    known = loading.KNOWN.get(name)
    fetch = f", {known.download:.0f} MiB to fetch" if known and not loading.is_cached(name) else ""
    head = [
        f"{run.chapter}: the plan (nothing is run)",
        f"model   {name}: {size.parameters / 1e6:.1f}M parameters{fetch}",
        f"data    {run.values['data']}: {plan.book_data(run.values['data'])}",
        f"device  {where}, {free / 2**30:.1f} GiB free",
        "",
        plan.table(work, size, device, seconds, free, workers, shards()).to_string(
            index=False, float_format=lambda value: f"{value:.1f}"
        ),
        "",
        "parameters: " + ", ".join(f"{key}={value}" for key, value in run.values.items() if key != "output"),
    ]
    return "\n".join(head)


def _place(run: Run, size: plan.Size, card: str) -> tuple[str, torch.device, float, plan.Seconds, int]:
    """Where a run is planned for, in words; its device, the bytes that one has free, its pace, and how many
    workers share the trainings.
    """
    shard, on = shards(), os.environ.get("PREFDYN_ON", "")
    spread = f"{shard} x " if shard > 1 else ""
    if card:
        about = pace.card(card)
        seconds = pace.CardPace(about, size)
        where = f"{spread}{card}, not here: minutes are estimates, of {pace.SHARE:.0%} of its published speed"
        return where, torch.device("cuda"), about.memory, seconds, 1
    device = devices.choose_device(run.values["device"])
    precision = devices.choose_precision(device, run.values["precision"])
    where = f"{spread}{device}, {precision} products"
    workers, threads = 1, 0
    if on == "ray":
        from prefdyn.experiments import ray_tasks

        workers, threads = ray_tasks.workers_here(size, device)
        where += f", {workers} workers of a Ray"
    elif on:
        where += f", one worker of the Ray at {on}: more share the trainings"
    return where, device, plan.free_memory(device), pace.Pace(size, device, precision, threads), workers


def shards() -> int:
    """Over how many processes chapters spread the model; see `schedule.spread`."""
    return int(os.environ.get("PREFDYN_SHARD") or 1)
