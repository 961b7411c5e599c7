"""MLflow stops here: runs, versions, aliases, and what decides a promotion."""
