"""prefdyn: exact and fast measurement of what preference learning does to a language model.

Six rooms, each of which knows only those before it: `data`, `models`, `engine`, `measures`, `theory` and
`experiments`. What most people need is here as well. A name is imported when it is first used, so that to
import prefdyn takes no time, and torch is loaded by what computes with it alone.
"""

import warnings

import lazy_loader

__version__ = "1.0.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

# tqdm says so in every notebook without ipywidgets, and the published page would show it.
warnings.filterwarnings("ignore", message="IProgress not found")
