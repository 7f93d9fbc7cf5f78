from . import data as data
from . import engine as engine
from . import experiments as experiments
from . import measures as measures
from . import models as models
from . import theory as theory
from .data import Pair as Pair
from .data import Persona as Persona
from .data import Ranking as Ranking
from .data import load_pairs as load_pairs
from .data import load_persona as load_persona
from .data import persona_names as persona_names
from .engine import Loss as Loss
from .engine import Settings as Settings
from .engine import fine_tune as fine_tune
from .engine import hidden_states as hidden_states
from .engine import restoring as restoring
from .engine import score as score
from .engine import tokenize_pairs as tokenize_pairs
from .engine import tokenize_persona as tokenize_persona
from .errors import PrefdynError as PrefdynError
from .experiments import Bench as Bench
from .measures import Estimate as Estimate
from .measures import moments as moments
from .models import LanguageModel as LanguageModel
from .models import load as load

__version__: str
