"""A chapter's parameters: what a notebook may declare, what a user may give, and what is said where they do
not agree.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from prefbook.project import chapters
from prefbook.running.parameters import Parameter, declared, design, load_profile, of_notebook, values_of
from prefdyn import data
from prefdyn.errors import PrefdynError
from prefdyn.experiments import CHAPTERS

ROOT = Path(__file__).parents[3]
PROFILES = ROOT / "book" / "profiles"
NAMES = [path.stem for path in sorted(PROFILES.glob("*.yml"))]

EVERY_KIND = """
model: str = "default"  # a name of `prefdyn models`
steps: int = 8  # in [1, 100]: updates
rate: float = 1e-3  # in (0, 1): of learning
flag: bool = True
names: list[str] = ["a", "b"]
rates: list[float] = [0.5, 1.0]  # in (0, 1]: their rates
layout: str = "umap"  # one of umap, pca: how it is laid out
width: float = 3  # in nats: a unit, no range
"""


def write_notebook(folder: Path, cell: str, tags: str = ":tags: [parameters]") -> Path:
    path = folder / "chapter.md"
    head = "---\njupytext:\n  text_representation:\n    extension: .md\n    format_name: myst\n"
    head += "kernelspec:\n  name: python3\n  display_name: Python 3\n  language: python\n---\n"
    path.write_text(
        f"{head}\n# A chapter\n\n```{{code-cell}} ipython3\n{tags}\n\n{cell.strip()}\n```\n", encoding="utf-8"
    )
    return path


@pytest.fixture
def known(tmp_path: Path) -> dict[str, Parameter]:
    return declared(write_notebook(tmp_path, EVERY_KIND))


def check_message(error: pytest.ExceptionInfo[PrefdynError], *parts: str) -> None:
    """One sentence that holds every part."""
    message = str(error.value)
    assert "\n" not in message
    assert all(part in message for part in parts), message


# Declarations -------------------------------------------------------------------------------------


def test_every_kind_of_declaration_is_read(known: dict[str, Parameter]) -> None:
    assert list(known.values()) == [
        Parameter("model", "str", "default", "", "a name of `prefdyn models`"),
        Parameter("steps", "int", 8, "[1, 100]", "updates"),
        Parameter("rate", "float", 1e-3, "(0, 1)", "of learning"),
        Parameter("flag", "bool", True, "", ""),
        Parameter("names", "list[str]", ["a", "b"], "", ""),
        Parameter("rates", "list[float]", [0.5, 1.0], "(0, 1]", "their rates"),
        Parameter("layout", "str", "umap", "one of umap, pca", "how it is laid out"),
        Parameter("width", "float", 3, "", "in nats: a unit, no range"),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "steps = 8",
        "steps: int",
        "steps: Path = 8",
        "steps: list[list[int]] = [[8]]",
        "steps: int = 4 + four",
        "steps: int = (",
        "steps: int = 8  # of n = 8",
        "steps: list = [8]",
        "import os",
        "lab.steps: int = 8",
    ],
)
def test_line_of_another_form_is_quoted_with_the_right_form(tmp_path: Path, line: str) -> None:
    with pytest.raises(PrefdynError) as error:
        declared(write_notebook(tmp_path, f"seed: int = 0\n{line}"))
    check_message(error, "chapter.md", line, "name: type = value")


def test_notebook_without_parameters_cell_is_named(tmp_path: Path) -> None:
    with pytest.raises(PrefdynError) as error:
        declared(write_notebook(tmp_path, "steps: int = 8", tags=":tags: [hide-input]"))
    check_message(error, "chapter.md", "no cell is tagged `parameters`")


def test_default_outside_its_own_range_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PrefdynError) as error:
        declared(write_notebook(tmp_path, "steps: int = 0  # in [1, 100]: updates"))
    check_message(error, "steps", "0", "[1, 100]")


# Values -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "given", "kept"),
    [
        ("steps", 1, 1),
        ("steps", 100, 100),
        ("rate", 0.999, 0.999),
        ("rate", "1e-5", 1e-5),
        ("width", 3, 3.0),
        ("width", "2.5E3", 2500.0),
        ("model", "Ünï – ∂ $x^{$", "Ünï – ∂ $x^{$"),
        ("flag", False, False),
        ("names", ["x"], ["x"]),
        ("names", "x", ["x"]),
        ("rates", 1, [1.0]),
        ("rates", [1, "1e-2"], [1.0, 0.01]),
        ("layout", "pca", "pca"),
    ],
)
def test_good_value_is_kept_in_the_declared_type(
    known: dict[str, Parameter], name: str, given: Any, kept: Any
) -> None:
    value = values_of(known, {name: given})[name]
    assert value == kept and type(value) is type(kept)
    if isinstance(kept, list):
        assert [type(item) for item in value] == [type(item) for item in kept]


def test_value_that_yaml_reads_as_text_is_a_float(known: dict[str, Parameter]) -> None:
    assert isinstance(yaml.safe_load("1e-5"), str)
    assert values_of(known, yaml.safe_load("rate: 1e-5"))["rate"] == 1e-5


@pytest.mark.parametrize(
    ("name", "given", "allowed"),
    [
        ("steps", 0, "[1, 100]"),
        ("steps", 101, "[1, 100]"),
        ("rate", 0, "(0, 1)"),
        ("rate", 1.0, "(0, 1)"),
        ("rate", -0.1, "(0, 1)"),
        ("rate", math.nan, "(0, 1)"),
        ("rates", [0.5, 1.5], "(0, 1]"),
        ("rates", 0.0, "(0, 1]"),
        ("layout", "tsne", "one of umap, pca"),
        ("layout", "", "one of umap, pca"),
        ("width", math.inf, "a finite number"),
        ("width", math.nan, "a finite number"),
        ("width", ".inf", "of type float"),
        ("model", "two\nlines", "one line of text"),
        ("model", "half \ud800", "one line of text"),
        ("names", ["a", "\x00"], "one line of text"),
    ],
)
def test_value_out_of_range_is_named_with_what_is_allowed(
    known: dict[str, Parameter], name: str, given: Any, allowed: str
) -> None:
    with pytest.raises(PrefdynError) as error:
        values_of(known, {name: given})
    wrong = given[-1] if isinstance(given, list) else given
    check_message(error, f"the parameter {name} is {wrong!r}", allowed)


@pytest.mark.parametrize(
    ("name", "given", "type_"),
    [
        ("steps", True, "int"),
        ("steps", 5.0, "int"),
        ("steps", "5", "int"),
        ("steps", None, "int"),
        ("steps", [5], "int"),
        ("rate", True, "float"),
        ("rate", "fast", "float"),
        ("flag", 1, "bool"),
        ("flag", "yes", "bool"),
        ("model", 7, "str"),
        ("model", True, "str"),
        ("names", [1], "list[str]"),
        ("names", [["a"]], "list[str]"),
        ("names", [], "list[str]"),
        ("rates", ["a"], "list[float]"),
    ],
)
def test_value_of_another_type_is_named_with_the_right_one(
    known: dict[str, Parameter], name: str, given: Any, type_: str
) -> None:
    with pytest.raises(PrefdynError) as error:
        values_of(known, {name: given})
    check_message(error, f"the parameter {name} is", type_)


@pytest.mark.parametrize("digits", [400, 5000])
@pytest.mark.parametrize(("name", "allowed"), [("steps", "[1, 100]"), ("rate", "(0, 1)"), ("width", "float")])
def test_endless_number_is_named_in_a_short_sentence(
    known: dict[str, Parameter], name: str, allowed: str, digits: int
) -> None:
    with pytest.raises(PrefdynError) as error:
        values_of(known, {name: 10**digits})
    check_message(error, f"the parameter {name} is", allowed)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize(
    ("given", "near"), [("step", "steps"), ("Layout", "layout"), ("ratez", "rate"), ("modle", "model")]
)
def test_unknown_name_suggests_the_nearest(known: dict[str, Parameter], given: str, near: str) -> None:
    with pytest.raises(PrefdynError) as error:
        values_of(known, {given: 3})
    check_message(error, repr(given), "3", f"did you mean {near}")


def test_unknown_name_like_none_lists_the_known(known: dict[str, Parameter]) -> None:
    with pytest.raises(PrefdynError) as error:
        values_of(known, {"zzzzzz": 3})
    check_message(error, "'zzzzzz'", *known)


def test_later_layers_win(known: dict[str, Parameter]) -> None:
    values = values_of(known, {"steps": 2, "rate": 0.5}, {"steps": 3}, {})
    assert (values["steps"], values["rate"], values["layout"]) == (3, 0.5, "umap")
    assert set(values) == set(known)


def test_default_is_kept_in_the_declared_type(known: dict[str, Parameter]) -> None:
    assert type(values_of(known)["width"]) is float


# Together, and with the data ----------------------------------------------------------------------

BEFORE_ANYTHING_RUNS = [
    ("distinguishability", {"other_betas": [0.1, 0.01]}, ["other_betas is [0.1, 0.01]", "leave out 0.01"]),
    ("distinguishability", {"hh_characters": 10}, ["the data has 0 response pairs", "10 characters"]),
    ("distinguishability", {"other_betas": [0.1, 1.0, 0.1]}, ["other_betas is [0.1, 1.0, 0.1]", "once"]),
    ("distinguishability", {"personas": 2}, ["personas is 2", "has 20", "at least 3"]),
    ("distinguishability", {"statements_per_label": 21}, ["statements_per_label is 21", "at least 22"]),
    (
        "distinguishability",
        {"statements_per_label": 0, "held_out": 60, "intervened_statements": 0},
        ["40", "at least 70"],
    ),
    ("distinguishability", {"device": "cdua"}, ["'cdua'", "cpu"]),
    ("generalization", {"cluster_counts": [1, 2, 8]}, ["ask for 24 personas", "20"]),
    ("generalization", {"cluster_counts": [4]}, ["cluster_counts is [4]", "at least two"]),
    ("generalization", {"cluster_counts": [1, 4, 4]}, ["cluster_counts is [1, 4, 4]", "once"]),
    ("generalization", {"cluster_counts": [2, 4]}, ["cluster_counts is [2, 4]", "begin with 1"]),
    ("generalization", {"anchors": 3}, ["cluster_counts has 2 and anchors is 3"]),
    ("generalization", {"samples_a_label": [4, 29]}, ["statements_per_label is 40", "at least 41"]),
    ("generalization", {"many_samples": [4, 29]}, ["many_samples asks for 29", "more than 40"]),
    ("generalization", {"concept_counts": [1, 21]}, ["ask for 21 personas", "20"]),
    ("noise", {"text_rates": [0.0, 0.0]}, ["text_rates is [0.0, 0.0]", "begin with 0 and rise"]),
    ("noise", {"text_rates": [0.1, 0.2]}, ["text_rates is [0.1, 0.2]", "begin with 0 and rise"]),
    ("noise", {"rate_step": 0.03}, ["rate_step is 0.03", "0.05 must be a multiple"]),
    ("noise", {"text_tests": 168}, ["94 response pairs", "400 characters", "at least 169"]),
    ("ranking", {"validation": 1000}, ["32 + 16 + 1000 + 56 pairs", "168"]),
    ("ranking", {"followed": 33}, ["followed is 33", "trained, 32"]),
    ("ranking", {"objectives": ["KTO"]}, ["objectives is ['KTO']", "γ 0, γ 2, IPO"]),
    ("ranking", {"judge": "gpt-4"}, ["the judge is 'gpt-4'", "https://HOST/v1#MODEL"]),
    ("ranking", {"judge": "reward:/no/such/folder"}, ["/no/such/folder", "no such folder or file"]),
    ("across", {"personas": 4}, ["personas is 4", "at least 5"]),
    ("across", {"statements_per_label": 3}, ["statements_per_label is 3", "at least 4"]),
]


@pytest.mark.parametrize(
    ("chapter", "given", "parts"),
    BEFORE_ANYTHING_RUNS,
    ids=[f"{chapter} {' '.join(given)}" for chapter, given, _ in BEFORE_ANYTHING_RUNS],
)
def test_what_cannot_be_is_named_before_anything_runs(
    chapter: str, given: dict[str, Any], parts: list[str]
) -> None:
    values = values_of(declared(ROOT / "book" / f"{chapter}.md"), given)
    with pytest.raises(PrefdynError) as error:
        design(CHAPTERS[chapter], values)
    check_message(error, *parts)


def test_too_few_statements_of_one_persona_are_named(tmp_path: Path) -> None:
    shutil.copytree(data.SAMPLE, tmp_path / "data")
    name = data.persona_names()[-1]
    path = tmp_path / "data" / "anthropic-evals" / "persona" / f"{name}.jsonl"
    rows = [
        json.dumps({"statement": f"s{i}", "answer_matching_behavior": answer})
        for i, answer in enumerate([" Yes"] * 40 + [" No"] * 3)
    ]
    path.write_text("\n".join(rows), encoding="utf-8")
    values = values_of(declared(ROOT / "book" / "across.md"), {"data": str(tmp_path / "data")})
    with pytest.raises(PrefdynError) as error:
        design(CHAPTERS["across"], values)
    check_message(error, name, "3 statements of a label", "at least 4")


@pytest.mark.parametrize("chapter", chapters(ROOT))
def test_profiles_of_the_sample_ask_for_no_more_than_it_has(chapter: str) -> None:
    known = declared(ROOT / "book" / f"{chapter}.md")
    for profile in ("smoke", "laptop"):
        assert design(CHAPTERS[chapter], values_of(known, load_profile(PROFILES, profile, chapter)))


@pytest.mark.parametrize("profile", NAMES)
@pytest.mark.parametrize("chapter", chapters(ROOT))
def test_no_profile_contradicts_itself(profile: str, chapter: str) -> None:
    known = declared(ROOT / "book" / f"{chapter}.md")
    layers = (load_profile(PROFILES, profile, chapter), {"measure": False})  # its data may be the hub's
    assert design(CHAPTERS[chapter], values_of(known, *layers))


# Papermill and Jupyter ----------------------------------------------------------------------------


def test_globals_of_a_notebook_are_checked(known: dict[str, Parameter]) -> None:
    cells = ["", "steps = 3", "# Parameters\n%time\nstepz = 3", "# Parameters\nsteps = 3\nnames[0] = 3"]
    names = {**values_of(known), "np": math, "In": cells, "stepz": 3}
    assert of_notebook(known, names) == values_of(known)
    with pytest.raises(PrefdynError) as error:
        of_notebook(known, {**names, "steps": 0})
    check_message(error, "the parameter steps is 0", "[1, 100]")
    with pytest.raises(PrefdynError) as error:
        of_notebook(known, {**names, "In": ["", "# Parameters\nstepz = 3\n"]})
    check_message(error, "'stepz'", "did you mean steps")


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        (["trials", "-5"], ["the parameter trials is -5", "[3, 10000]"]),
        (["trails", "5"], ["there is no parameter 'trails'", "did you mean trials?"]),
        (["rate_step", "0.03"], ["rate_step is 0.03"]),
    ],
)
def test_plain_papermill_checks_the_same(tmp_path: Path, given: list[str], parts: list[str]) -> None:
    notebook = tmp_path / "noise.ipynb"
    subprocess.run(
        [sys.executable, "-m", "jupytext", "--to", "ipynb", "-o", notebook, ROOT / "book" / "noise.md"],
        check=True,
        capture_output=True,
    )
    command = [sys.executable, "-m", "papermill", notebook, tmp_path / "out.ipynb", "-k", "python3"]
    done = subprocess.run(
        [*command, "-p", *given, "-p", "model", "smoke"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and last.startswith("PrefdynError: "), done.stderr
    assert all(part in last for part in parts), last


# Profiles -----------------------------------------------------------------------------------------


def test_the_profiles_are_those_of_the_page_on_reading() -> None:
    text = (ROOT / "book" / "read.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `(\w+)` \|", text.split("## Profiles")[1], re.MULTILINE)) == sorted(NAMES)


def test_unknown_profile_lists_the_known() -> None:
    with pytest.raises(PrefdynError) as error:
        load_profile(PROFILES, "desktop", "distinguishability")
    check_message(error, "'desktop'", *NAMES)


@pytest.mark.parametrize("profile", NAMES)
@pytest.mark.parametrize("chapter", chapters(ROOT))
def test_every_profile_resolves_for_every_chapter(profile: str, chapter: str) -> None:
    known = declared(ROOT / "book" / f"{chapter}.md")
    layer = load_profile(PROFILES, profile, chapter)
    values = values_of(known, layer)
    assert set(values) == set(known)
    assert all(values[name] == known[name].check(value) for name, value in layer.items())


@pytest.mark.parametrize("profile", NAMES)
def test_profile_has_a_section_for_each_chapter_and_no_other(profile: str) -> None:
    """A misspelt section would be passed over in silence."""
    assert sorted(yaml.safe_load((PROFILES / f"{profile}.yml").read_text())) == chapters(ROOT)


@pytest.mark.parametrize("chapter", chapters(ROOT))
def test_every_chapter_declares_what_all_runs_give(chapter: str) -> None:
    common = {
        "model": "str",
        "data": "str",
        "profile": "str",
        "output": "str",
        "device": "str",
        "precision": "str",
        "seeds": "list[int]",
        "measure": "bool",
    }
    known = declared(ROOT / "book" / f"{chapter}.md")
    first = list(known.items())[: len(common)]
    assert [(name, parameter.type) for name, parameter in first] == list(common.items())


@pytest.mark.parametrize("chapter", chapters(ROOT))
def test_every_parameter_is_explained_and_every_number_has_a_range(chapter: str) -> None:
    for parameter in declared(ROOT / "book" / f"{chapter}.md").values():
        assert parameter.help or parameter.allowed.startswith("one of"), parameter.name
        assert parameter.allowed or ("float" not in parameter.type and "int" not in parameter.type), (
            parameter.name
        )


def test_unknown_name_in_a_profile_is_found(tmp_path: Path, known: dict[str, Parameter]) -> None:
    (tmp_path / "mine.yml").write_text("chapter:\n  steps: 2\n  layuot: pca\n")
    with pytest.raises(PrefdynError) as error:
        values_of(known, load_profile(tmp_path, "mine", "chapter"))
    check_message(error, "'layuot'", "did you mean layout")


@pytest.mark.parametrize("content", ["", "noise:\n  steps: 2\n", "chapter:\n", "# nothing\n"])
def test_profile_that_says_nothing_of_a_chapter_changes_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "mine.yml").write_text(content)
    assert load_profile(tmp_path, "mine", "chapter") == {}


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("chaptre:\n  steps: 2\n", "'chaptre' is no chapter"),
        ("chapter:\n  on: ray\n", "True"),
        ("chapter:\n  1: 2\n", "in quotes"),
        ("chapter:\n  steps: 2\n  steps: 3\n", "'steps' is there twice"),
        ("chapter: {}\nchapter: {}\n", "'chapter' is there twice"),
    ],
)
def test_profile_that_would_not_be_what_it_says_is_refused(tmp_path: Path, content: str, named: str) -> None:
    (tmp_path / "mine.yml").write_text(content)
    with pytest.raises(PrefdynError) as error:
        load_profile(tmp_path, "mine", "chapter")
    check_message(error, "mine.yml", named)


MALFORMED = [
    "chapter: [",
    "? [chapter, of, many]\n: 1\n",
    "chapter:\n  steps: 2\n rate: 1\n",
    "- chapter\n",
    "just words\n",
    "chapter:\n - steps\n",
]


@pytest.mark.parametrize("content", MALFORMED)
def test_malformed_profile_is_one_sentence_with_its_file(tmp_path: Path, content: str) -> None:
    (tmp_path / "mine.yml").write_text(content)
    with pytest.raises(PrefdynError) as error:
        load_profile(tmp_path, "mine", "chapter")
    check_message(error, "mine.yml")
