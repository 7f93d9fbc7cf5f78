from . import clusters as clusters
from . import distinguishability as distinguishability
from . import noise as noise
from . import ranking as ranking
from . import reward_dynamics as reward_dynamics
from . import tokens as tokens
from . import vmf as vmf
