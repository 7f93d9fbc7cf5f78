"""prefdyn: exact and fast measurement of what preference learning does to a language model."""

import warnings

__version__ = "0.1.0"

# tqdm says so in every notebook without ipywidgets, and the published page would show it.
warnings.filterwarnings("ignore", message="IProgress not found")
