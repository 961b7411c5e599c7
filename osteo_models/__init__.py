"""Osteoporosis prediction from lumbar MRI and CT, with data, trials and models under version control."""

__version__ = "0.1.0"
