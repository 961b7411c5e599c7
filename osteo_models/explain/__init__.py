"""Which parts of an image a network's answer hangs on: maps, the cases they are made for, and checks of the maps."""
