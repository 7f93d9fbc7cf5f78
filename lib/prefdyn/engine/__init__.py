"""What is done with a model, exactly and without waste: hidden states, log-likelihoods, sampled answers,
losses, and training with the record that it leaves.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
