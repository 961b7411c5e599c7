"""Training: the recipe, one fit, its checkpoints, and the jobs made of them."""
