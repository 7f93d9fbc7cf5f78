"""Values in files: back to the bit, and nothing else gets in."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefdyn import values
from prefdyn.engine.scoring import ResponseLogProbs
from prefdyn.experiments.persona_halves import Together
from prefdyn.experiments.phases import PhaseResult
from prefdyn.experiments.token_rates import TokenRates
from prefdyn.measures import geometry

RNG = np.random.default_rng(0)
NAME = "kind/0123"


def back(value: Any, folder: Path) -> Any:
    values.save(value, folder / "file", NAME)
    return values.load(folder / "file", NAME)


def assert_same(one: Any, other: Any) -> None:
    """The same types all through, and the same bits."""
    assert type(one) is type(other)
    if dataclasses.is_dataclass(one):
        for field in dataclasses.fields(one):
            assert_same(getattr(one, field.name), getattr(other, field.name))
    elif isinstance(one, dict):
        assert_same([*one.items()], [*other.items()])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for mine, theirs in zip(one, other, strict=True):
            assert_same(mine, theirs)
    elif isinstance(one, np.ndarray | np.generic):
        assert one.dtype == other.dtype and one.shape == other.shape
        assert one.tobytes("A") == other.tobytes("A")
        assert one.flags.f_contiguous == other.flags.f_contiguous
    elif isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other, check_exact=True, check_freq=False)
        assert type(one.index) is type(other.index) and type(one.columns) is type(other.columns)
        for mine, theirs in zip(one.columns, other.columns, strict=True):
            assert type(mine) is type(theirs)
        for i in range(one.shape[1]):
            if str(one.dtypes.iloc[i]) == "object":
                assert_same(one.iloc[:, i].tolist(), other.iloc[:, i].tolist())
    elif isinstance(one, float):
        assert struct.pack("d", one) == struct.pack("d", other) or (math.isnan(one) and math.isnan(other))
    else:
        assert one == other


ARRAYS = [
    RNG.normal(size=(3, 4)).astype(np.float32),
    RNG.normal(size=(4, 3)).T,
    np.array([np.nan, np.inf, -np.inf, -0.0, 5e-324]),
    np.array([1e-40, 65504], dtype=np.float16),
    np.arange(6, dtype=np.int8).reshape(1, 2, 3),
    np.array([2**63 + 1], dtype=np.uint64),
    np.array([True, False]),
    np.zeros((0, 5)),
    np.array(3.5),
    np.array(["ä", "b" * 9]),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_arrays_come_back_to_the_bit(array: np.ndarray, tmp_path: Path) -> None:
    assert_same(back(array, tmp_path), array)
    assert_same(back({"in": [array, (array,)]}, tmp_path), {"in": [array, (array,)]})


PLAIN_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text() | st.integers() | st.tuples(st.text()), inner)
    ),
    max_leaves=20,
)


@given(value=PLAIN_VALUES)
def test_trees_of_plain_values_come_back(value: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert_same(back(value, tmp_path_factory.getbasetemp()), value)


@pytest.mark.parametrize(
    "value",
    [np.float64(1 / 3), np.float32(np.nan), np.int64(-7), np.bool_(True), np.str_("ä"), "\ud800", 10**40],
    ids=repr,
)
def test_numpys_scalars_and_odd_plain_values_come_back(value: Any, tmp_path: Path) -> None:
    assert_same(back([value], tmp_path), [value])


def frames() -> dict[str, pd.DataFrame]:
    """Tables of every form that experiments make, the same every time."""
    plain = pd.DataFrame(
        {
            "group": ["a", "b", "$x^{$"],
            "step": [3, 1, 2],
            "loss": [0.1, np.nan, -np.inf],
            "single": np.array([1, 2, 3], dtype=np.float32),
            "holds": [True, False, True],
        }
    )
    return {
        "plain": plain,
        "sorted": plain.sort_values("step"),
        "by name": plain.set_index("group"),
        "part": plain.iloc[1:],
        "no rows": plain.iloc[:0],
        "no columns": plain[[]],
        "pivot": plain.pivot(index="step", columns="group", values="loss"),
        "numbered columns": pd.DataFrame(np.arange(6.0).reshape(2, 3) / 7),
        "two of a name": pd.DataFrame([[1, 2.5]], columns=["x", "x"]),
        "missing text": pd.DataFrame({"text": ["a", None, np.nan]}),
        "mixed": pd.DataFrame({"mixed": pd.Series([1, "a", None, (2, 3.0), np.float32(1)], dtype=object)}),
        "half numbers": pd.DataFrame({"x": [1.0]}, index=pd.Index([0.5], name="rate")),
    }


@pytest.mark.parametrize("which", list(frames()))
def test_tables_come_back_with_index_and_types(which: str, tmp_path: Path) -> None:
    assert_same(back(frames()[which], tmp_path), frames()[which])


def test_what_chapters_keep_comes_back(tmp_path: Path) -> None:
    x, s = RNG.normal(size=(8, 3)), np.repeat([1, -1], 4)
    plain = frames()["plain"]
    kept = [
        PhaseResult(plain, {"a": x.astype(np.float32)}, {0: ["yes", ""], 5: ["no", "\n"]}),
        {"a": geometry.moments(x, s)},
        ResponseLogProbs(x[0], np.arange(3)),
        TokenRates(plain, plain.iloc[:0], 0.25),
        Together(x, x, x),
        (x[0], {"DPO": x.T, "IPO": x}),
        [{"answers": "own answers", "K": 3, "draw": 0, "rate": 0.5}],
        (np.float64(0.5), 0.25),
    ]
    for value in kept:
        assert_same(back(value, tmp_path), value)


@dataclasses.dataclass
class Foreign:
    x: int


@pytest.mark.parametrize(
    "value",
    [
        Foreign(1),
        {1, 2},
        np.array([{}], dtype=object),
        pd.DataFrame({"x": pd.Categorical(["a"])}),
        pd.DataFrame({"x": [1]}, index=pd.MultiIndex.from_tuples([(1, 2)])),
        print,
    ],
    ids=["class", "set", "objects", "categories", "two indices", "function"],
)
def test_other_things_are_refused_when_they_are_written(value: Any, tmp_path: Path) -> None:
    with pytest.raises((TypeError, ValueError), match=r"cannot be kept|is no dataclass of this library"):
        values.save(value, tmp_path / "file", NAME)


# What is not a value --------------------------------------------------------------------------------


def forged(tree: Any, **arrays: np.ndarray) -> bytes:
    """A file as this library writes it, its checksum included, but with a tree of one's own."""
    body = io.BytesIO()
    held = np.frombuffer(json.dumps(tree).encode(), dtype=np.uint8)
    np.savez(body, **{values.TREE: held, **arrays})
    content = body.getvalue()
    head = f"prefdyn {NAME} {hashlib.sha256(content).hexdigest()} {len(content):016d}\n"
    return head.encode() + content


class Runs:
    """What runs code when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def test_forged_file_can_be_read_where_it_is_honest(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(forged({"tuple": [1, {"array": "0"}]}, **{"0": np.arange(2)}))
    assert_same(values.load(tmp_path / "file", NAME), (1, np.arange(2)))


def test_pickles_are_not_read(tmp_path: Path) -> None:
    mark, path = tmp_path / "ran", tmp_path / "file"
    code = np.empty(1, dtype=object)
    code[0] = Runs(mark)
    for content in (pickle.dumps(Runs(mark)), forged({"array": "0"}, **{"0": code})):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"another's, or none|allow_pickle"):
            values.load(path, NAME)
    assert not mark.exists()


@pytest.mark.parametrize(
    "tree",
    [
        {"own": ["os:system", {"dict": [["command", "touch ran"]]}]},
        {"own": ["subprocess:Popen", {"dict": [["args", "touch ran"]]}]},
        {"own": ["prefdyn.files:atomic_file", {"dict": [["path", "ran"]]}]},
        {"own": ["prefdyn.data.personas:np", {"dict": []}]},
        {"own": ["prefdyn.experiments.bench:Bench", {"dict": []}]},
        {"call": ["os.system", "touch ran"]},
        {"array": "9"},
        {},
    ],
    ids=str,
)
def test_names_of_other_things_are_refused(
    tree: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(forged(tree))
    with pytest.raises((ValueError, KeyError)):
        values.load(tmp_path / "file", NAME)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_of_another_name_is_refused(tmp_path: Path) -> None:
    values.save(1, tmp_path / "file", "kind/4567")
    with pytest.raises(ValueError, match="another's"):
        values.load(tmp_path / "file", NAME)


# Fingerprints ---------------------------------------------------------------------------------------

DIFFERENT = [
    {"x": 1},
    {"x": 1.0},
    {"x": "1"},
    {"x": True},
    {"x": [1]},
    {"x": (1,)},
    {"x": np.array([1])},
    {"x": np.array([1], dtype=np.int32)},
    {"x": np.array([[1]])},
    {"x": np.array([2])},
    {"x": None},
    {"y": 1},
    {"x": math.nan},
]


def test_fingerprints_differ_where_values_do_and_are_short() -> None:
    found = [values.fingerprint(value) for value in DIFFERENT]
    assert len(set(found)) == len(found) and {len(digest) for digest in found} == {32}
    assert found == [values.fingerprint(value) for value in DIFFERENT]


def test_fingerprint_of_an_array_is_of_its_numbers_not_its_layout() -> None:
    x = RNG.normal(size=(3, 4))
    assert values.fingerprint(x) == values.fingerprint(np.asfortranarray(x)) == values.fingerprint(x.T.T)
