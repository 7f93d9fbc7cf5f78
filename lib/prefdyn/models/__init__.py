"""Language models by one name, wherever their weights are, and token trees, by which they are run."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
