"""A chapter's parameters: read from its notebook as papermill reads them, checked against what a user gives
before any work starts.

The notebook's `parameters` cell is the one place where they are declared, one a line: `name: type = value  #
in (0, 10]: what it is`. The values there are the laptop profile's. The range, where there is one, is an
interval or `one of a, b, c`; for a list it holds for each entry.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import math
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import Any

import jupytext

from prefbook.project import read_sections
from prefdyn.errors import PrefdynError
from prefdyn.experiments import CHAPTERS
from prefdyn.models import devices

TYPES: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a chapter.

    Attributes:
        type: "int", "float", "str", "bool", or "list[...]" of one.
        allowed: an interval such as "(0, 10]", or "one of a, b"; "" for anything of the type.
    """

    name: str
    type: str
    default: Any
    allowed: str
    help: str

    def check(self, value: Any) -> Any:
        """The value as this parameter's type.

        Raises:
            PrefdynError: a wrong type or a value out of range; the message gives the name, the value and what
                is allowed.
        """
        if self.type.startswith("list["):
            items = value if isinstance(value, list) else [value]
            if not items:
                raise PrefdynError(
                    f"the parameter {self.name} is empty: it must be a {self.type} with at least one entry"
                )
            return [self._check_one(item, self.type[5:-1]) for item in items]
        return self._check_one(value, self.type)

    def _check_one(self, value: Any, kind: str) -> Any:
        given = value
        if kind == "float" and type(value) in (int, str):
            with contextlib.suppress(ValueError, OverflowError):
                value = float(value)  # YAML reads 1e-5 as text
        words = f" in {self.allowed}" if self.allowed else ""
        words = words.replace(" in one of", " one of")
        if type(value) is not TYPES[kind]:
            raise PrefdynError(
                f"the parameter {self.name} is {shown(given)}: it must be of type {self.type}{words}"
            )
        if isinstance(value, str) and any(unicodedata.category(letter) in ("Cc", "Cs") for letter in value):
            raise PrefdynError(f"the parameter {self.name} is {shown(given)}: it must be one line of text")
        if not self._within(value):
            raise PrefdynError(
                f"the parameter {self.name} is {shown(given)}: it must be{words or ' a finite number'}"
            )
        return value

    def _within(self, value: Any) -> bool:
        if not self.allowed:
            return not isinstance(value, float) or math.isfinite(value)
        if self.allowed.startswith("one of"):
            return str(value) in [word.strip() for word in self.allowed.removeprefix("one of").split(",")]
        low, high = (float(bound) for bound in self.allowed[1:-1].split(","))
        above = value >= low if self.allowed[0] == "[" else value > low
        return above and (value <= high if self.allowed[-1] == "]" else value < high)


def shown(value: Any) -> str:
    """A value as a message can hold it."""
    try:
        text = repr(value)
    except ValueError:  # Python writes out no more than 4300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 80 else f"{text[:60]}… ({len(text)} characters)"


def declared(notebook: Path) -> dict[str, Parameter]:
    """The parameters that a notebook declares in its cell tagged `parameters`.

    Raises:
        PrefdynError: no such cell, or a line of it is not of the form above.
    """
    from papermill.translators import PythonTranslator

    cells = [cell for cell in jupytext.read(notebook).cells if "parameters" in cell.metadata.get("tags", [])]
    if not cells:
        raise PrefdynError(f"{notebook}: no cell is tagged `parameters`")
    out = {}
    for line in cells[0].source.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        found = PythonTranslator.inspect({"source": line})
        parameter = _parameter(*found[0]) if found else None
        if parameter is None:
            raise PrefdynError(
                f"{notebook}: the parameters cell holds `{line}`: write `name: type = value  # help`, the "
                f"type one of {', '.join(TYPES)} or a list[...] of one, the value written out"
            )
        parameter.check(parameter.default)
        out[parameter.name] = parameter
    return out


def _parameter(name: str, kind: str, default: str, comment: str) -> Parameter | None:
    """What papermill found in a line as a parameter; None where it is of another form."""
    if kind.removeprefix("list[").removesuffix("]" if kind.startswith("list[") else "") not in TYPES:
        return None
    try:
        value = ast.literal_eval(default)
    except (ValueError, SyntaxError):
        return None
    allowed, help_ = "", comment
    if comment.startswith(("in (", "in [", "one of ")):
        allowed, _, help_ = comment.partition(":")
    return Parameter(name, kind, value, allowed.removeprefix("in ").strip(), help_.strip())


def load_profile(
    folder: Path, name: str, chapter: str, chapters: Collection[str] = tuple(CHAPTERS)
) -> dict[str, Any]:
    """A profile's values for a chapter, from NAME.yml in the folder of profiles.

    Args:
        chapters: of the book, whose names sections may have.

    Raises:
        PrefdynError: no such profile, or a malformed one.
    """
    path = folder / f"{name}.yml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.yml")))
        raise PrefdynError(f"there is no profile {name!r}: choose one of {known}")
    sections = read_sections(path)
    if unknown := sections.keys() - {*chapters, chapter}:
        raise PrefdynError(
            f"{path}: the section {shown(min(unknown, key=str))} is no chapter: there are "
            f"{', '.join(chapters)}"
        )
    values = sections.get(chapter) or {}
    if not isinstance(values, dict):
        raise PrefdynError(
            f"{path}: the section {chapter} is a {type(values).__name__}, it must hold lines `name: value`"
        )
    if odd := [name for name in values if not isinstance(name, str)]:
        raise PrefdynError(
            f"{path}: in the section {chapter} YAML takes the name of a parameter for {shown(odd[0])}: put "
            "it in quotes"
        )
    return values


def values_of(parameters: Mapping[str, Parameter], *layers: Mapping[str, Any]) -> dict[str, Any]:
    """The values of all parameters: the defaults, then each layer over them, checked.

    Raises:
        PrefdynError: an unknown name, a wrong type, a value out of range.
    """
    values = {name: parameter.check(parameter.default) for name, parameter in parameters.items()}
    for layer in layers:
        for name, value in layer.items():
            if name not in parameters:
                near = difflib.get_close_matches(name, parameters, n=1)
                hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(parameters)}"
                raise PrefdynError(f"there is no parameter {name!r} (given {shown(value)}): {hint}")
            values[name] = parameters[name].check(value)
    return values


def design(experiments: ModuleType, values: Mapping[str, Any]) -> Any:
    """A chapter's design from the values of all its parameters, checked before anything is measured: against
    itself, and against the data where something is to be measured.

    Raises:
        PrefdynError: parameters that do not go together, that ask for more than the data has, or for a
            device that is not here.
    """
    made = experiments.Design(**{field.name: values[field.name] for field in fields(experiments.Design)})
    if values["measure"]:
        devices.choose_device(values["device"])
        experiments.check_design(made, values["data"])
    return made


def of_notebook(parameters: Mapping[str, Parameter], names: Mapping[str, Any]) -> dict[str, Any]:
    """The values of all parameters in a notebook that runs, checked.

    Args:
        names: the notebook's globals.

    Raises:
        PrefdynError: as `values_of`; what papermill put in must be a parameter.
    """
    given = dict.fromkeys([*parameters, *_injected(names.get("In", ()))])
    return values_of(parameters, {name: names[name] for name in given if name in names})


def _injected(cells: Iterable[str]) -> list[str]:
    """The names that papermill set, in the cells that begin as its own do."""
    names: list[str] = []
    for cell in cells:
        if cell.startswith("# Parameters\n"):
            with contextlib.suppress(SyntaxError):  # somebody's own cell, with a magic in it
                nodes = [node for node in ast.walk(ast.parse(cell)) if isinstance(node, ast.Name)]
                names += [node.id for node in nodes if isinstance(node.ctx, ast.Store)]
    return names
