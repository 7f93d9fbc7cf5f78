"""A judge behind an endpoint that speaks OpenAI's chat protocol."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prefdyn.cache import cached
from prefdyn.errors import PrefdynError, extra
from prefdyn.measures.verdicts import QUESTION, VERDICTS, NoAnswer, ask

if TYPE_CHECKING:
    from openai import AsyncOpenAI

KEY_VARIABLE = "PREFDYN_JUDGE_KEY"
"""The environment variable that an endpoint's key is read from; it is never written anywhere."""
IN_A_ROW = 3
"""Questions without an answer, one after another, after which the judge is given up."""


@dataclass(frozen=True)
class EndpointJudge:
    """A model behind an endpoint; its answers are kept, so that none is paid for twice.

    The key goes to the endpoint's own host: where that points to another place, it is not followed.

    Attributes:
        url: up to and without "/chat/completions".
        name: of the model there.
        timeout: how long the endpoint may be silent, in seconds.
        patience: how long a question may take, all its tries and the waits between them, in seconds.
        tries: how often a request is made that the endpoint is too busy for.
    """

    url: str
    name: str
    timeout: float = 60.0
    patience: float = 180.0
    tries: int = 4

    def first_is_better(
        self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str]
    ) -> NDArray[np.float64]:
        """1, 0, 1/2 for a tie, or NaN where the judge gives no verdict, for each prompt, shape (n,).

        A question that gets no answer has no verdict, and is asked again another time.

        Raises:
            PrefdynError: the endpoint refuses the key, or answers none of the questions, or none of several
                in a row.
        """
        out: list[float] = []
        unanswered = 0
        with self._asking() as asking:
            for triple in zip(prompts, first, second, strict=True):
                try:
                    out.append(VERDICTS.get(self._answer(asking, *triple), np.nan))
                    unanswered = 0
                except NoAnswer as reason:
                    out.append(np.nan)
                    unanswered += 1
                    if unanswered == min(IN_A_ROW, len(prompts)):
                        raise PrefdynError(
                            f"the judge at {self.url} does not answer ({reason}; {unanswered} in a row): see "
                            "whether it runs and has the model; what it has answered is kept"
                        ) from None
        return np.array(out)

    def _answer(self, asking: Callable[[str], str], prompt: str, first: str, second: str) -> str:
        question = QUESTION.format(prompt=prompt.strip(), first=first.strip(), second=second.strip())
        key = {"url": self.url, "judge": self.name, "question": question}
        return cached("verdicts", key, ask, lambda: asking(question))

    @contextmanager
    def _asking(self) -> Iterator[Callable[[str], str]]:
        """A function from questions to answers; a thread waits for them, for only there all can be cut off.

        Raises:
            PrefdynError: the key is none.
        """
        with extra("hub"):
            import openai
            from anyio.from_thread import start_blocking_portal

        async def close_what_failed(response: Any) -> None:  # its body is of no use, and may have no end
            if not response.is_success:
                await response.aclose()

        key = os.environ.get(KEY_VARIABLE, "").strip() or "none"  # a server of one's own asks for none
        if not (key.isascii() and key.isprintable()):
            raise PrefdynError(f"{KEY_VARIABLE} holds characters that are in no key: copy the key once more")
        client = openai.AsyncOpenAI(
            base_url=self.url,
            api_key=key,
            timeout=self.timeout,
            max_retries=self.tries - 1,
            default_headers={"Accept-Encoding": "identity"},  # a compressed reply has no known size
            http_client=openai.DefaultAsyncHttpxClient(
                follow_redirects=False, event_hooks={"response": [close_what_failed]}
            ),
        )
        client.organization = client.project = None  # of the environment: they are for OpenAI alone
        with start_blocking_portal() as portal:
            try:
                yield lambda question: portal.call(self._ask, client, question)
            finally:
                portal.call(client.close)

    async def _ask(self, client: AsyncOpenAI, question: str) -> str:
        import openai

        try:
            return await ask(client, self.name, question, self.patience)
        except openai.AuthenticationError:
            raise PrefdynError(
                f"the judge at {self.url} refuses the key: set {KEY_VARIABLE} to a valid one"
            ) from None
