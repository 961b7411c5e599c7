"""Explanations of decisions: maps of image regions, the cases they are made for, and checks of the maps."""
