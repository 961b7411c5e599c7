"""Intake: a team's own export becomes a data set that is checked, de-identified and ready for `dvc add`."""
