import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F

from lessons_lib.data import digits


def test_all_digits_as_colour_pictures():
    pictures = digits.load()
    assert pictures.images.shape == (1797, 3, 32, 32)
    assert pictures.classes == tuple("0123456789")
    assert pictures.labels.tolist() == load_digits().target.tolist()
    assert torch.equal(pictures.images[:, 0], pictures.images[:, 2])
    assert "1,797" in pictures.source
    assert "scikit-learn" in pictures.source


@pytest.mark.parametrize("size", [8, 16, 64])
def test_enlarged_digits_shrink_back_to_the_originals(size):
    pictures = digits.load(size)
    small = F.avg_pool2d(pictures.images.float(), size // 8)[:, 0] / 255 * 16
    assert (small - torch.from_numpy(load_digits().images)).abs().mean() < 1
    assert pictures.images.shape[2:] == (size, size)


def test_pictures_can_be_written_to():
    images = digits.load(8).images
    images[0, 0] = 7
    assert not torch.equal(images[0, 0], images[0, 1])


def test_too_small_is_refused():
    with pytest.raises(ValueError, match="at least 8"):
        digits.load(7)
