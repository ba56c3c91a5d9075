"""The deconvnet of Zeiler and Fergus: follow an activation back to the pixels that caused it.

M. Zeiler and R. Fergus, "Visualizing and Understanding Convolutional Networks" (ECCV 2014), §2.1 and figure 1. On
the way up, each max pooling records *switches*: where its maxima were. On the way down, from the last layer to the
first, a pooling is *unpooled* with its switches, a ReLU *rectifies* the reconstruction, and a convolution *filters*
it with its own transposed weights. Nothing is left to automatic differentiation, so each step can be looked at.

What the paper does not fix is decided here so:

- *Overlapping pools.* Where several windows chose the same position, their reconstructions are **added**. The
  position caused all of them, so it is owed all of them; a "last window wins" rule would lose some, and which ones
  would depend on the order in which windows are visited. Added up, unpooling is the exact transpose of choosing the
  maxima, as the transposed filters are of filtering.
- *Contrast normalisation* is left out on the way down, as the paper says (arXiv version, §2.1).
- *Batch norm*, which the paper did not have, multiplies each channel by a constant once the network is trained. This
  is treated exactly, as if the constant were part of the filters before it; like their bias, its shift is left out.
- *Average pooling* and *fully connected layers* are linear, and are transposed like filters.

The network must be a chain. Skip connections, branches and computations between the layers that are not modules
(such as ``F.relu``) are found and refused, since a reconstruction without them would be a wrong picture.
"""

from lessons_lib.methods.deconvnet.features import agreement, aliased
from lessons_lib.methods.deconvnet.steps import Step, Switches, max_pool, rectify, transposed_filter, unpool
from lessons_lib.methods.deconvnet.way_down import Projection, Reversal, deconvnet, keep, project
from lessons_lib.methods.deconvnet.way_up import Trace, trace
