"""Prompts as dialogues, in chat templates and as they stand: what a model is given, to the letter."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from prefdyn import data
from prefdyn.data import prompts
from prefdyn.errors import PrefdynError
from prefdyn.models import LanguageModel

DIALOGUE = "\n\nHuman: Hi\n\nAssistant: Hello! \n\nHuman: Who was\n\nshe?\n\nAssistant:"
TURNS = (("user", "Hi"), ("assistant", "Hello!"), ("user", "Who was\n\nshe?"))
CHATML = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture
def tokenizer(smoke: LanguageModel) -> Any:
    made = copy.deepcopy(smoke.tokenizer)
    made.chat_template = CHATML
    return made


def test_dialogues_are_taken_apart_and_put_together() -> None:
    assert prompts.is_dialogue(DIALOGUE) and prompts.turns_of(DIALOGUE) == TURNS
    assert prompts.turns_of(prompts.as_dialogue(TURNS)) == TURNS
    assert not prompts.is_dialogue("Who was she?") and not prompts.is_dialogue("\n\nHuman: Hi")
    twice = "\n\nHuman: One\n\nHuman: Two\n\nAssistant:"
    assert prompts.turns_of(twice) == (("user", "One\n\nTwo"),)


def test_every_pair_of_the_sample_ends_with_the_users_turn() -> None:
    for pair in data.load_pairs("sample"):
        assert prompts.turns_of(pair.prompt)[-1][0] == "user"


def test_what_its_publisher_wrote_as_a_dialogue_stays_as_it_is() -> None:
    for template in ("dialogue", "none"):
        assert prompts.put(TURNS, DIALOGUE, (" a ", "b"), template) == (DIALOGUE, (" a ", "b"))


def test_a_question_is_put_as_a_dialogue_or_stands_alone() -> None:
    turns = (("user", "Tea?"),)
    assert prompts.put(turns, "", ("Yes", " No "), "dialogue") == (
        "\n\nHuman: Tea?\n\nAssistant:",
        (" Yes", " No"),
    )
    assert prompts.put(turns, "", ("Yes", " No "), "none") == ("Tea?", ("Yes", " No "))
    system = (("system", "Be brief."), *turns)
    assert prompts.put(system, "", ("Yes",), "none")[0] == "Be brief.\n\nHuman: Tea?\n\nAssistant:"


def test_a_chat_template_writes_every_turn_and_ends_a_response(tokenizer: Any) -> None:
    prompt, responses = prompts.put(TURNS, DIALOGUE, (" She. ",), "chat", tokenizer)
    assert prompt == "<|user|>Hi<|end|><|assistant|>Hello!<|end|><|user|>Who was\n\nshe?<|end|><|assistant|>"
    assert responses == ("She.<|end|>",)


def test_the_beginning_of_text_is_there_once(tokenizer: Any) -> None:
    """A template writes the token that some tokenizers add again (reward-bench issue 164)."""
    from tokenizers.processors import TemplateProcessing

    tokenizer.add_special_tokens({"bos_token": "<|begin|>"})
    tokenizer.chat_template = "{{ bos_token }}" + CHATML
    begin = tokenizer.bos_token_id
    kept, _ = prompts.put((("user", "Hi"),), "", ("x",), "chat", tokenizer)
    assert tokenizer(kept)["input_ids"].count(begin) == 1  # this tokenizer adds none
    tokenizer._tokenizer.post_processor = TemplateProcessing(
        single="<|begin|> $A", special_tokens=[("<|begin|>", begin)]
    )
    bare, responses = prompts.put((("user", "Hi"),), "", ("x",), "chat", tokenizer)
    ids = tokenizer(bare + responses[0])["input_ids"]
    assert ids.count(begin) == 1 and ids[0] == begin


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (None, "has no chat template: choose --template dialogue"),
        ("{{ raise_exception('roles must alternate') }}", "refuses a prompt .roles must alternate"),
        (
            "{% if add_generation_prompt %}A{% else %}{{ messages[-1]['content'] }}{% endif %}",
            "writes a prompt otherwise once it is answered",
        ),
    ],
)
def test_templates_that_will_not_do_are_named(tokenizer: Any, template: str | None, says: str) -> None:
    tokenizer.chat_template = template
    with pytest.raises(PrefdynError, match=says):
        prompts.put(TURNS, "", ("x",), "chat", tokenizer)
