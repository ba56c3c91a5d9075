"""Pictures to learn from: what ships with the course (*quick*) and the real data sets (*full*)."""
