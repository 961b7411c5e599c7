"""A physics-minded phantom of the paper's cohort, so that everything runs without hospital data.

It is a test bed, not evidence: what a network learns here says nothing about patients.
"""

from osteo_models.phantom.plan import Scale
from osteo_models.phantom.synthesis import CohortCounts, synthesize_cohort

__all__ = ["CohortCounts", "Scale", "synthesize_cohort"]
