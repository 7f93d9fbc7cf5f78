"""The chapters' experiments at a size for tests, on the tiny model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from prefbook.ledger.tables import Tables
from prefdyn.experiments import (
    after_alignment,
    all_weights,
    company,
    displacement,
    distinguishability,
    flipping,
    generalization,
    interventions,
    known_judge,
    last_layer_alone,
    noise,
    offline_judges,
    persona_states,
    ranking,
    responses,
    statements,
    supervised,
    synthetic,
)
from prefdyn.experiments.bench import Bench
from prefdyn.experiments.provenance import save_table

DISTINGUISHABILITY = distinguishability.Design(
    personas=6,
    statements_per_label=16,
    held_out=4,
    undo_statements=4,
    layout="pca",
    beta=0.01,
    unembedding_rate=0.1,
    unembedding_steps=20,
    pairs_tested=4,
    trained=5,
    learning_rate=2.5e-4,
    steps=2,
    batch_size=4,
    pairs_trained=4,
    controlled=3,
    undo_steps=2,
    other_betas=[0.1],
    rates_tried=[1e-4, 2.5e-4],
    tuned_on=2,
    beta_behaviours=3,
    graded=3,
    intervened=3,
    intervened_statements=20,
    equalised=3,
    equalised_examples=4,
    equalised_draws=3,
    hh_pairs=6,
    hh_held_out=5,
    hh_characters=1200,
    hh_batch_size=3,
    hh_steps=2,
    hh_learning_rate=5e-4,
)
OF_DISTINGUISHABILITY = (
    distinguishability.embeddings,
    distinguishability.statement_maps,
    last_layer_alone.unembedding,
    last_layer_alone.boundary,
    last_layer_alone.priority_gaps,
    last_layer_alone.pairs,
    all_weights.fine_tuning,
    all_weights.joint_training,
    after_alignment.clouds,
    after_alignment.misalignment,
    all_weights.beta,
    interventions.gradients,
    interventions.intervention,
    interventions.equalised,
    displacement.text,
)
"""All experiments of chapter 1."""
GENERALIZATION = generalization.Design(
    personas=6,
    statements_per_label=12,
    held_out=4,
    synthetic_draws=3,
    promised=[60_000],
    draws=2,
    concept_counts=[1, 2, 4],
    samples_a_label=[2, 4, 8],
    sampled=3,
    many_samples=[8, 30],
    beta=0.01,
    learning_rate=2e-4,
    steps=2,
    batch_size=4,
    examples=2,
    cluster_counts=[1, 2],
    sets=3,
    anchors=2,
    both_precisions=True,
    lopsided=3,
    pairs_decomposed=2,
    token_beta=0.1,
    token_rate=0.02,
    token_steps=2,
    moved_pairs=4,
)
OF_GENERALIZATION = (
    persona_states.hidden_states,
    persona_states.conditions_of_the_data,
    synthetic.interactions,
    synthetic.descent,
    synthetic.curves,
    synthetic.band,
    synthetic.conditions,
    synthetic.risk,
    synthetic.bounds,
    company.nested_sets,
    company.rounding,
    company.company,
    company.longer_company,
    company.own_answers,
    company.identities,
    statements.more_samples,
    statements.imbalance,
    statements.imbalance_all_weights,
    statements.cantelli,
    responses.tokens,
    responses.moved,
    responses.losses,
)
"""All experiments of chapter 2."""
NOISE = noise.Design(
    dimension=16,
    per_label=30,
    trials=4,
    rate_step=0.05,
    beta=0.1,
    epochs=3,
    learning_rate=0.05,
    long_rate=2000.0,
    times=4,
    map_trials=4,
    kind_trials=3,
    personas=4,
    statements_per_label=8,
    persona_trials=3,
    pilot=[1, 4],
    text_setting=1,
    text_longest=0,
    text_rates=[0.0, 0.5],
    text_runs=3,
    text_pairs=4,
    text_tests=5,
    text_epochs=2,
    text_batch_size=2,
)
RANKING = ranking.Design(
    max_length=100,
    ranked=24,
    ranked_small=5,
    ranked_long=3,
    ranked_lists=3,
    tuned_pairs=20,
    judged=20,
    judge="embedded",
    train_split="test",
    longest=0,
    trained=8,
    followed=6,
    validation=4,
    judge_pairs=10,
    runs=2,
    answered=3,
    answer_tokens=4,
    sft_learning_rate=1e-3,
    beta=0.2,
    learning_rate=1e-3,
    steps=4,
    checkpoints=2,
    batch_size=3,
    world_runs=2,
    world_prompts=4,
    world_tokens=5,
    world_pairs=4,
    world_betas=[0.1, 1.0],
    world_learning_rate=1e-3,
    world_steps=4,
    world_batch_size=4,
    objectives=["γ 0", "γ 2", "IPO", "SLiC", "SimPO", "SFT"],
)
OF_RANKING = (
    ranking.ranking_accuracy,
    supervised.supervised,
    offline_judges.offline_judges,
    flipping.followed,
    flipping.win_rate,
    known_judge.known_judge,
    known_judge.objectives,
)
"""All experiments of chapter 4."""


def two_editions(
    folder: Path, experiments: Sequence[Callable[..., Any]], design: object
) -> tuple[Tables, Tables]:
    """The tables of experiments run twice, with the seeds 0 and 1, and a cache of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFDYN_CACHE", str(folder / "cache"))
        for seed in (0, 1):
            bench = Bench("smoke", seed=seed, device="cpu", precision="float32")
            for experiment in experiments:
                found = experiment(bench, design)
                tables = {experiment.__name__: found} if isinstance(found, pd.DataFrame) else found
                for name, table in tables.items():
                    path = folder / f"run-{seed}" / f"{name}.csv"
                    save_table(table.assign(seed=seed), path, bench.provenance())
    return Tables(folder / "run-0"), Tables(folder / "run-1")
