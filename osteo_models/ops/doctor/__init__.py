"""`osteo doctor`: what is wrong with the stores, the servers, the machine and what killed commands left.

A check is a function that looks at a `Project` and yields an `Ailment` for each thing that is wrong; it stands in
`CHECKS` of its file.
"""

from osteo_models.ops.doctor.all_checks import CHECKS, examine, mend
from osteo_models.ops.doctor.problem import Ailment, Project

__all__ = ["CHECKS", "Ailment", "Project", "examine", "mend"]
