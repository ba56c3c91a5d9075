"""Networks the lessons look into, and the checkpoints that ship with the course."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["checkpoints", "fastai", "imagenet"],
    submod_attrs={
        "chain_cnn": ["ChainCNN"],
        "small_cnn": ["BLOCKS", "SmallCNN"],
        "zfnet": ["CONVOLUTIONS", "SmallZFNet", "ZFNet"],
    },
)
