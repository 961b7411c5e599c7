"""`osteo doctor`: what is wrong with the stores, the servers, the machine and what killed commands left.

A check is a function that takes a `Project` and yields a `Problem` for each thing that is wrong; `CHECKS` of its file
lists it.
"""

from osteo_models.ops.doctor.all_checks import CHECKS, find_problems, fix_problems
from osteo_models.ops.doctor.problem import Problem, Project

__all__ = ["CHECKS", "Problem", "Project", "find_problems", "fix_problems"]
