"""Searches for settings with Ray Tune: algorithms x tasks x seeds in one call, one table.

`make_study` plans the searches, `Study.fit` runs them or goes on after the driver was killed.
"""

from rllib_hetero.tuning.results import Trial, write_results
from rllib_hetero.tuning.search import Plan
from rllib_hetero.tuning.spaces import parse_space, search_space
from rllib_hetero.tuning.study import Study, StudyResult, make_study

__all__ = [
    "Plan",
    "Study",
    "StudyResult",
    "Trial",
    "make_study",
    "parse_space",
    "search_space",
    "write_results",
]
