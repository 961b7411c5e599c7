"""`osteo doctor`: what is wrong with the stores, the servers, the machine and what killed commands left.

A check is a function that looks at a `Project` and yields an `Ailment` for each thing that is wrong; it stands in
`CHECKS` of its file.
"""

from osteo_models.doctor.ailment import Ailment, Project
from osteo_models.doctor.examination import CHECKS, examine, mend

__all__ = ["CHECKS", "Ailment", "Project", "examine", "mend"]
