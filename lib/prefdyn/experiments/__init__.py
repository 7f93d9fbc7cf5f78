"""Experiments: functions from a bench (a model and data) and a design to tidy tables.

Each independent run is kept as soon as it is done.
"""

from types import ModuleType

from prefdyn.experiments import across, distinguishability, generalization, noise, ranking
from prefdyn.experiments.bench import Bench
from prefdyn.experiments.phases import Adapter, Phase, PhaseResult
from prefdyn.experiments.provenance import Provenance, save_table
from prefdyn.experiments.tasks import Runner, Task

CHAPTERS: dict[str, ModuleType] = {
    "distinguishability": distinguishability,
    "ranking": ranking,
    "generalization": generalization,
    "noise": noise,
    "across": across,
}
"""The experiments of each chapter, by its name, in the order to run them.

Long ones come first, and the first two measure nothing in common.
"""

__all__ = [
    "CHAPTERS",
    "Adapter",
    "Bench",
    "Phase",
    "PhaseResult",
    "Provenance",
    "Runner",
    "Task",
    "save_table",
]
