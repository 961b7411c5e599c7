"""The report: one self-contained HTML page made from artifacts/, beside the figures that the paper printed."""

from osteo_models.report.build import build_report

__all__ = ["build_report"]
