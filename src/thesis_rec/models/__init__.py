"""Where models come from, how they are loaded, and how their weights become one vector of 8192 numbers."""
