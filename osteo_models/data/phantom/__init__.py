"""A physics-minded phantom of the paper's cohort, so that everything runs without hospital data.

It is a test bed, not evidence: what a network learns here says nothing about patients.
"""

from osteo_models.data.phantom.cohort import CohortCounts, synthesize_cohort, vertebra_mask
from osteo_models.data.phantom.plan import Scale

__all__ = ["CohortCounts", "Scale", "synthesize_cohort", "vertebra_mask"]
