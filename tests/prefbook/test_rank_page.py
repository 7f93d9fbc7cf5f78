"""The page on `prefdyn rank`: its commands run as they stand, with tiny models and a hub played by lists."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from published import TURNS, lines
from transformers import LlamaConfig, LlamaForCausalLM

from prefbook import command_line as cli
from prefdyn.data import examples
from prefdyn.models import loading

PAGE = (Path(__file__).parents[2] / "book" / "rank.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line)
    for block in re.findall(r"^```bash\n(.*?)^```$", PAGE, re.M | re.S)
    for line in block.replace("\\\n", " ").splitlines()
    if not line.startswith("#")
]
CHATML = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
HUB = {
    "Anthropic/hh-rlhf": TURNS,
    "princeton-nlp/LLMBar": {"input": "Tea?", "output_1": "Yes.", "output_2": "No, no.", "label": 1},
    "allenai/reward-bench": {"prompt": "Tea?", "chosen": "Yes.", "rejected": "No", "subset": "s", "id": 3},
    "allenai/reward-bench-2": {
        "prompt": "Tea?",
        "chosen": ["Yes."],
        "rejected": ["No", "No, no", "Why"],
        "subset": "Math",
        "id": "4",
    },
    "stanfordnlp/SHP": {"history": "Tea?", "human_ref_A": "Yes.", "human_ref_B": "No", "labels": 1},
}
VOTES = {f"annotator{which}": 1 for which in (1, 2, 3)}
PANDALM = {"instruction": "Tea?", "input": "", "response1": "Yes.", "response2": "No", **VOTES}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Tiny models in the place of those that the page names."""
    folder, out = tmp_path_factory.mktemp("models"), {}
    lm = loading.load("smoke", device="cpu")
    lm.tokenizer.chat_template = CHATML
    names = ("default", "gpt2", "HuggingFaceH4/zephyr-7b-beta", "HuggingFaceH4/mistral-7b-sft-beta")
    for seed, name in enumerate(names):
        torch.manual_seed(seed)
        out[name] = str(folder / f"model-{seed}")
        LlamaForCausalLM(LlamaConfig(**lm.model.config.to_dict())).save_pretrained(out[name])
        lm.tokenizer.save_pretrained(out[name])
    return out


@pytest.fixture
def workplace(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the file that the page shows, and a folder of data; the hub is lists of rows."""
    import datasets

    (block,) = re.findall(r"^```json\n(.*?)^```$", PAGE, re.M | re.S)
    (tmp_path / "my-pairs.jsonl").write_text(block, encoding="utf-8")
    data = tmp_path / "path" / "to" / "data"
    (data / "hh-rlhf" / "some-base").mkdir(parents=True)
    (data / "hh-rlhf" / "some-base" / "test.jsonl").write_text(lines(*[TURNS] * 4))
    (data / "pandalm").mkdir()
    (data / "pandalm" / "testset-v1.json").write_text(json.dumps([PANDALM] * 4))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "load_dataset", lambda repository, *_, split: [HUB[repository]] * 4)
    return tmp_path


def test_the_page_shows_commands() -> None:
    assert len(COMMANDS) == 5 and all(words[:2] == ["prefdyn", "rank"] for words in COMMANDS)


@pytest.mark.parametrize("words", COMMANDS, ids=[" ".join(words[2:4]) for words in COMMANDS])
def test_every_command_runs_as_it_stands(
    words: list[str], workplace: Path, models: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*[models.get(word, word) for word in words[1:]], "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "shorter wins" in said and ("prompts are" in said or "put as" in said)
    assert ("McNemar p" in said) == ("gpt2" in words)
    assert ("implicit reward" in said) == ("--reference" in words)


def test_the_examples_file_is_read_as_the_page_reads_it(
    workplace: Path, models: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    (words,) = [words for words in COMMANDS if "--examples" in words]
    assert cli.main([*[models.get(word, word) for word in words[1:]], "--quiet"]) == 0
    assert {path.name for path in workplace.glob("ranks.*")} == {"ranks.md", "ranks.json", "ranks.csv"}
    (block,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
    scope: dict[str, Any] = {}
    exec(compile(block, "rank.md", "exec"), scope)
    assert len(scope["rows"]) == 4 and set(scope["wrong"].columns) >= {"prompt", "responses"}
    written = (workplace / "examples.jsonl").read_text(encoding="utf-8").splitlines()
    right = [json.loads(line)["right"][scope["score"]] for line in written]
    assert len(scope["wrong"]) == right.count(False)


def test_every_data_set_and_every_option_is_on_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    (table,) = re.findall(r":name: table-rankings\n(.*?)^```$", PAGE, re.M | re.S)
    listed = {
        name for cell in re.findall(r"^\* - (`.*)$", table, re.M) for name in re.findall(r"`([^`]+)`", cell)
    }
    assert listed == set(examples.NAMES)
    with pytest.raises(SystemExit):
        cli.main(["rank", "--help"])
    options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) - {"--help"}
    assert {option for option in options if option not in PAGE} == set()
    assert set(re.findall(r"`(--[a-z-]+)", PAGE)) <= options


def test_complaints_are_cited_by_their_issues() -> None:
    (table,) = re.findall(r":name: table-complaints\n(.*?)^```$", PAGE, re.M | re.S)
    links = re.findall(r"\[[^\]]*?(\d+)\]\(([^\s)]+)\)", table)
    assert len(links) >= 15
    for number, link in links:
        assert re.fullmatch(rf"https://github\.com/[\w-]+/[\w-]+/issues/{number}", link), link
