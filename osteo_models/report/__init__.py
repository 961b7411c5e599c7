"""The report: one self-contained HTML page made from artifacts/, with the figures of the paper."""

from osteo_models.report.build import build_report

__all__ = ["build_report"]
