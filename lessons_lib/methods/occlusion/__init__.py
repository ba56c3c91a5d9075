"""Occlusion sensitivity: cover each part of a picture in turn and watch what the network says.

M. Zeiler and R. Fergus, "Visualizing and Understanding Convolutional Networks" (ECCV 2014, section 4.2 and figure 6).
``occlude`` makes all the maps of that figure in one sweep; ``Occluder`` answers for single patches.
"""

from lessons_lib.methods.occlusion.maps import OcclusionMap
from lessons_lib.methods.occlusion.occluder import Baseline, Occluder, baseline_picture
from lessons_lib.methods.occlusion.request import Placement
from lessons_lib.methods.occlusion.sweep import occlude
