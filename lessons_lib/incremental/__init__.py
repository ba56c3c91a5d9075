"""Run a network anew only where its input changed: the engine under occlusion sweeps."""
