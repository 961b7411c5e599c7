"""Operation: servers, the demo, and the checks of the installation."""
