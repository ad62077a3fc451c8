from pipeline_lib.removal import Outcome as Outcome
from pipeline_lib.removal import Request as Request
from pipeline_lib.removal import forget as forget
