"""From a checkpoint of any size to one vector of 8192 numbers that describes its weights."""
