"""The one scoring path: from the bytes of an image to its score, for files, tables and HTTP requests."""
