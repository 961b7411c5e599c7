"""The `osteo` command, one module per group of commands."""
