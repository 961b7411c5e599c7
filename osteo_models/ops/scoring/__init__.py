"""Scoring files with registered versions."""
