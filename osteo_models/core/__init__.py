"""What every package uses: terms, errors, parameters, settings, processes. Imports nothing of the project."""
