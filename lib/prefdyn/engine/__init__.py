"""What is done with a model: hidden states, log-likelihoods, sampled answers, losses, training."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
