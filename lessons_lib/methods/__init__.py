"""One module or package for each technique of the course."""
