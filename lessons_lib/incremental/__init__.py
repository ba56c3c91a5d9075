"""The engine under occlusion sweeps: run a network anew only where its input changed, in the fastest way there is."""
