"""Searches over architectures: the space, the study, the candidates and the winner."""
