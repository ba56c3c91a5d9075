"""Pictures to learn from: what ships with the course (*quick*) and the real data sets (*full*).

``data.critters``, ``data.photos`` and so on are imported when they are first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["archives", "cifar10", "critters", "digits", "face_parts", "hymenoptera", "pets", "photos"],
    submod_attrs={"pictures": ["Pictures", "to_input", "to_picture"]},
)
