"""One scoring path from stored images to scores: the network, the out-of-distribution check, the rows."""
