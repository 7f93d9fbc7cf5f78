"""Language models by one name, wherever their weights are, and token trees, the way in which they are run
here.
"""

from prefdyn.models.devices import Precision, choose_device, choose_precision
from prefdyn.models.loading import DEFAULT, KNOWN, KnownModel, LanguageModel, answer_tokens, load

__all__ = [
    "DEFAULT",
    "KNOWN",
    "KnownModel",
    "LanguageModel",
    "Precision",
    "answer_tokens",
    "choose_device",
    "choose_precision",
    "load",
]
