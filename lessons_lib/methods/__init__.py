"""One module for each technique of the course; lesson NN and its module share a name."""
