"""What is measured, and how surely: estimates with intervals, the geometry of hidden states, pairs followed
through training, judges of answers, correlations across halves of the data.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
