"""How a question reaches a model: as a dialogue, through the model's chat template, or as it stands."""

from __future__ import annotations

import re
from typing import Any, Literal

from prefdyn.data.rankings import DIALOGUE, spaced
from prefdyn.errors import PrefdynError, first_line

Turn = tuple[str, str]
"""Who speaks ("system", "user" or "assistant"), and the text."""
Template = Literal["dialogue", "chat", "none"]
TEMPLATES: tuple[Template, ...] = ("dialogue", "chat", "none")
"""How prompts can be put; see `put`."""
SPEAKERS = {"Human": "user", "Assistant": "assistant"}
TURN = re.compile(r"\n\n(Human|Assistant):")


def is_dialogue(prompt: str) -> bool:
    """Whether a prompt is a dialogue as HH-RLHF writes it, which waits for the assistant's answer."""
    return prompt.startswith("\n\nHuman:") and prompt.endswith("\n\nAssistant:")


def turns_of(dialogue: str) -> tuple[Turn, ...]:
    """The turns of a dialogue of HH-RLHF before the answer that it waits for.

    Turns of the same speaker in a row become one.
    """
    _, *parts = TURN.split(dialogue.removesuffix("\n\nAssistant:"))
    turns: list[Turn] = []
    for speaker, text in zip(map(SPEAKERS.__getitem__, parts[::2]), parts[1::2], strict=True):
        if turns and turns[-1][0] == speaker:
            turns[-1] = (speaker, f"{turns[-1][1]}\n\n{text.strip()}")
        else:
            turns.append((speaker, text.strip()))
    return tuple(turns)


def question_of(prompt: str) -> str:
    """The question that `DIALOGUE` was made of."""
    before, after = DIALOGUE.split("{prompt}")
    return prompt.removeprefix(before).removesuffix(after)


def as_dialogue(turns: tuple[Turn, ...]) -> str:
    """Turns as HH-RLHF writes a dialogue; what the system says stands before it."""
    speakers = {"user": "\n\nHuman: ", "assistant": "\n\nAssistant: ", "system": ""}
    return "".join(speakers[speaker] + text.strip() for speaker, text in turns) + "\n\nAssistant:"


def put(
    turns: tuple[Turn, ...],
    dialogue: str,
    responses: tuple[str, ...],
    template: Template,
    tokenizer: Any = None,
) -> tuple[str, tuple[str, ...]]:
    """A prompt and its responses as a model is given them.

    - dialogue: HH-RLHF's form.
    - chat: the chat template of the model's tokenizer. A response ends with what the template writes after
      an answer, such as its end-of-turn token; a beginning-of-text token that the tokenizer adds by itself
      is not there twice.
    - none: the question and the responses as they stand; several turns are a dialogue all the same.

    Args:
        dialogue: the prompt where its publisher wrote one, which is then taken as it is (but for "chat"); ""
            elsewhere.
        tokenizer: of the model, for "chat".

    Raises:
        PrefdynError: a tokenizer without a chat template, or whose template refuses these turns.
    """
    if template == "chat":
        return _chat(turns, responses, tokenizer)
    if dialogue:
        return dialogue, responses
    if template == "none" and len(turns) == 1:
        return turns[0][1], responses
    return as_dialogue(turns), tuple(map(spaced, responses))


def _chat(turns: tuple[Turn, ...], responses: tuple[str, ...], tokenizer: Any) -> tuple[str, tuple[str, ...]]:
    if not getattr(tokenizer, "chat_template", None):
        raise PrefdynError("its tokenizer has no chat template: choose --template dialogue")
    messages = [{"role": speaker, "content": text} for speaker, text in turns]
    try:
        prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        answered = [
            tokenizer.apply_chat_template(
                [*messages, {"role": "assistant", "content": response.strip()}], tokenize=False
            )
            for response in responses
        ]
    except Exception as error:  # a template is a program of its own
        raise PrefdynError(f"its chat template refuses a prompt ({first_line(error)})") from error
    if not all(text.startswith(prompt) and len(text) > len(prompt) for text in answered):
        raise PrefdynError(
            "its chat template writes a prompt otherwise once it is answered: choose --template dialogue"
        )
    beginning = tokenizer.bos_token or ""
    twice = (
        beginning
        and prompt.startswith(beginning)
        and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
    )
    bare = prompt.removeprefix(beginning) if twice else prompt
    return bare, tuple(text[len(prompt) :] for text in answered)
