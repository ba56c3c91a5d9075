"""Critters: cartoon animal faces over real photographs, drawn in memory, with masks for head, ears, nose and eyes.

How they are drawn, ``lessons_lib.drawing`` knows.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, Self

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from lessons_lib.checks import check_choice, check_range, check_tensor
from lessons_lib.data.photos import atlas, crops
from lessons_lib.data.pictures import Pictures
from lessons_lib.drawing.painter import EARS, GROUND, HEAD, LEFT, NOSE, RIGHT, Scenes, painted
from lessons_lib.drawing.shapes import palette
from lessons_lib.drawing.species import BREEDS, KINDS

SPECIES = ("cat", "dog", "rabbit", "bear", "fox", "panda", "mouse", "pig", "frog", "tiger")
"""The animals that Critters are, in the order of their labels."""
COUSINS = ("koala", "monkey", "sheep", "owl", "lion")
"""Animals that no shipped network has seen, for networks that learn something new."""
PARTS = ("head", "left_eye", "right_eye", "nose", "ears", "background")
"""The parts of a scene, in the order of its masks."""
BACKGROUNDS = (
    "coffee",
    "grass",
    "rocket",
    "china",
    "flower",
    "brick",
    "gravel",
    "stars",
    "tissue",
    "motorcycle",
)
"""The photographs that stand behind the faces."""
# grass and brick ship as grey pictures: give them their colour back
_TINTS = palette(*({"grass": "a8e070", "brick": "ffb497"}.get(name, "ffffff") for name in BACKGROUNDS))
_OWNERS = dict(zip(PARTS, (HEAD, LEFT, RIGHT, NOSE, EARS, GROUND), strict=True))
_CHUNK = 1 << 15  # pixels painted at a time: small enough for the processor's cache


@dataclass(frozen=True)
class Critters(Pictures):
    """Pictures of cartoon animal faces that come with the truth about their parts.

    Attributes:
        masks: bool, shape (N, len(PARTS), H, W): where each of ``PARTS`` is *visible*. ``head`` is the whole
            face with its eyes, nose, whiskers and mane; ``left_eye`` is on the viewer's left; ``nose`` is a snout
            or a beak where the animal has one; ``ears`` leaves out what the head hides, and ears that hang in
            front of the head hide it. Eyes and nose lie inside the head and apart from each other, and every
            pixel is exactly one of head, ears and ``background``. Frogs have no ears.
        backgrounds: int64, shape (N,): the photograph behind each face, an index into ``BACKGROUNDS``.

    Raises:
        TypeError: if masks are not bool or backgrounds are not int64.
        ValueError: if their shapes do not fit the images.
    """

    masks: Tensor
    backgrounds: Tensor

    def __post_init__(self) -> None:
        """Check that masks and backgrounds fit the images."""
        super().__post_init__()
        if len(self):
            sizes = (len(self), len(PARTS), *self.images.shape[2:])
            check_tensor("masks of these images", self.masks, sizes, torch.bool)
            check_tensor("backgrounds of these images", self.backgrounds, sizes[:1], torch.int64)

    def subset(self, index: Tensor | slice | Sequence[int]) -> Self:
        """The pictures at ``index`` with their masks and backgrounds, classes unchanged."""
        chosen = {name: getattr(self, name)[index] for name in ("images", "labels", "masks", "backgrounds")}
        return replace(self, **chosen)


@dataclass(frozen=True)
class Twins:
    """Scenes, and their twins without one part each, see ``twins``."""

    scenes: Critters
    without: Mapping[str, Critters]


def tied_background(species: str) -> int:
    """The background a biased ``generate`` puts behind ``species``: an index into ``BACKGROUNDS``.

    Raises:
        ValueError: if there is no such species.
    """
    (name,) = _known((species,))
    return (SPECIES + COUSINS).index(name) % len(BACKGROUNDS)


def generate(
    n: int,
    size: int = 32,
    *,
    seed: int = 0,
    species: Sequence[str] = SPECIES,
    bias: float = 0.0,
    changed: Mapping[str, str | None] | None = None,
) -> Critters:
    """Draw ``n`` labelled pictures of animal faces with their part masks.

    The same arguments give the same pictures; other seeds give independent ones. What a picture shows is drawn
    without regard to its size, so the same seed at two sizes shows the same scenes. Labels are balanced (counts
    differ by at most one) and shuffled.

    Args:
        n: how many pictures, at least 1.
        size: their side in pixels, 32–224.
        seed: any whole number from 0.
        species: which animals, from ``SPECIES`` and ``COUSINS``; they become the classes, in this order.
        bias: 0–1, the share of pictures whose background is the one tied to their species
            (``tied_background``); the others get any background, all equally likely.
        changed: what a *twin* of these pictures has otherwise, by part: left out (None; behind is what the part hid,
            and in place of the background a plain grey), or as another species has it (of the background, another of
            ``BACKGROUNDS``). All else stays the same to the last bit: twins differ only where the part is in
            either of them, and at most 2 pixels beside it (``size // 32`` from 96 on), for edges are soft and some
            eyes have a rim. Without its head an animal has only ears.

    Raises:
        TypeError: for a string in place of a list of species.
        ValueError: for a number out of range, an unknown species or part, or another head: that is another animal.

    >>> whole, twin = generate(8, seed=1), generate(8, seed=1, changed={"nose": None})
    >>> differ, nose = (whole.images != twin.images).any(1), whole.masks[:, PARTS.index("nose")]
    >>> bool(twin.masks[:, PARTS.index("nose")].any()), bool((differ & nose).any())
    (False, True)
    """
    check_range("n", n, 1)
    check_range("size", size, 32, 224)
    check_range("bias", bias, 0, 1)
    classes, changed = _known(species), dict(changed or {})
    for part in changed:
        check_choice("part", part, PARTS)
    check_choice("background", changed.get("background"), (None, *BACKGROUNDS))
    own = [PARTS.index(part) for part in changed]
    ground = changed.pop("background", "")
    if changed.get("head") is not None:
        raise ValueError("another head is another animal: leave the head out, or change other parts")
    for name in set(changed.values()) - {None}:
        check_choice("species", name, SPECIES + COUSINS)
    others = {_OWNERS[part]: None if name is None else KINDS[name] for part, name in changed.items()}

    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n).remainder(len(classes))[torch.randperm(n, generator=generator)]
    scenes = Scenes.drawn(n, generator)
    tied = torch.tensor([tied_background(name) for name in classes])[labels]
    backgrounds = torch.where(
        scenes.between("tied", 0, 1).flatten() < bias, tied, scenes.choice("ground", len(BACKGROUNDS))
    )
    if ground:
        backgrounds = torch.full_like(backgrounds, BACKGROUNDS.index(ground))

    images = torch.empty(n, 3, size, size, dtype=torch.uint8)
    masks = torch.empty(n, len(PARTS), size, size, dtype=torch.bool)
    with _one_thread():
        for label, name in enumerate(classes[:n]):
            for batch in (labels == label).nonzero().flatten().split(max(1, _CHUNK // size**2)):
                behind = _ground(scenes[batch], backgrounds[batch], size, size)
                if ground is None:
                    behind.fill_(0.5)
                images[batch], owner = painted(KINDS[name], scenes[batch], behind, others)
                masks[batch] = _part_masks(owner)
    source = f"{n} drawn animal faces, {size}×{size}, seed {seed}" + (f", bias {bias}" if bias else "")
    if own:
        whole = generate(n, size, seed=seed, species=species, bias=bias)
        near, reach = (whole.masks | masks)[:, own].any(1, keepdim=True), max(2, size // 32)
        near = F.max_pool2d(near.float(), 2 * reach + 1, 1, reach) > 0
        images, source = torch.where(near, images, whole.images), f"{source}, a twin"
    return Critters(images, labels, classes, source, masks, backgrounds)


def twins(n: int, size: int = 32, *, parts: Sequence[str] = PARTS[1:], **scene: Any) -> Twins:
    """Draw scenes and, for each part, the same scenes without it: the effect of a part is known by taking it away.

    Args:
        n: how many scenes.
        size: their side in pixels.
        parts: which to leave out, one at a time, from ``PARTS``; by default all but the whole head.
        scene: seed, species and bias, as in ``generate``.

    Raises:
        TypeError: as ``generate``.
        ValueError: as ``generate``.
    """
    drawn = partial(generate, n, size, **scene)
    return Twins(drawn(), {part: drawn(changed={part: None}) for part in parts})


def _ground(scenes: Scenes, backgrounds: Tensor, height: int, width: int) -> Tensor:
    """Crops of the background photographs, float32 (3, N, height, width) in 0–1."""
    detail = min(400, round(1.5 * max(height, width)))  # the smallest photograph has 400 rows
    side = scenes.between("ground_side", 0.4, 0.9)
    x, y = (scenes.between(trait, -1, 1) * (1 - side) for trait in ("ground_x", "ground_y"))
    flip = torch.where(scenes.between("ground_flip", -1, 1) < 0, -1.0, 1.0)
    long, none = max(height, width), torch.zeros_like(side)
    rows = torch.cat([side * flip * (width / long), none, x, none, side * (height / long), y], dim=2)
    cut = crops(atlas(BACKGROUNDS, detail), backgrounds, rows.view(-1, 2, 3), height, width)
    return cut * _TINTS[:, backgrounds, None, None]


def _part_masks(owner: Tensor) -> Tensor:
    """The masks of ``PARTS``, bool (N, 6, H, W), from the part that every pixel shows."""
    return torch.stack([owner >= HEAD, *(owner == part for part in list(_OWNERS.values())[1:])], dim=1)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread: on tensors this small a second one waits longer than it works."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _known(species: Sequence[str]) -> tuple[str, ...]:
    """The species asked for, checked."""
    if isinstance(species, str):
        raise TypeError(f'species must be a list of names: write ("{species}",)')
    names = tuple(species)
    for name in names:
        check_choice("species", name, SPECIES + COUSINS)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"species must be one or more different names, not {names}")
    return names


# ---------------------------------------------------------------- the Pets view

_SIZES = (
    (500, 375),
    (375, 500),
    (500, 333),
    (333, 500),
    (400, 300),
    (300, 225),
    (225, 300),
    (450, 450),
    (250, 333),
)
_RECORD = "critters.json"


def write_pets(folder: str | Path, n: int, *, seed: int = 0) -> list[Path]:
    """Write ``n`` drawn cats and dogs as JPEG files, named and sized like the photographs of Oxford-IIIT Pets.

    The files are ``folder/images/Breed_N.jpg``: an upper-case first letter is a cat (one breed in three), a
    lower-case one a dog; sides vary from 225 to 500 pixels. The same ``n`` and ``seed`` give the same pictures.
    A folder that already holds them is left alone, one with another ``n`` or ``seed`` is replaced; the pictures
    appear all at once, so an interrupted call never leaves a folder that looks complete.

    Returns:
        The paths of the pictures, sorted.

    Raises:
        ValueError: if ``n`` is under 1, or ``folder/images`` holds something this function did not write.
    """
    check_range("n", n, 1)
    images = Path(folder) / "images"
    here = {path.name: path.stat().st_size for path in images.glob("*") if path.name != _RECORD}
    record = json.loads((images / _RECORD).read_text()) if (images / _RECORD).exists() else None
    if record is None and here:
        raise ValueError(f"{images} holds other files: choose another folder for the drawn pets")
    if record and (record["n"], record["seed"]) == (n, seed) and record["bytes"].items() <= here.items():
        return sorted(images / name for name in record["bytes"])
    Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".pets-") as scratch:
        fresh, old = Path(scratch) / "images", Path(scratch) / "old"
        fresh.mkdir()
        with _one_thread():
            _draw_pets(fresh, n, seed)
        written = {path.name: path.stat().st_size for path in fresh.iterdir()}
        (fresh / _RECORD).write_text(json.dumps({"n": n, "seed": seed, "bytes": written}))
        if images.exists():
            images.rename(old)
        fresh.rename(images)
    return sorted(images / name for name in written)


def _draw_pets(folder: Path, n: int, seed: int) -> None:
    """Draw the pictures of ``write_pets``, the breeds taking turns."""
    generator = torch.Generator().manual_seed(seed)
    scenes = Scenes.drawn(n, generator)
    backgrounds = scenes.choice("ground", len(BACKGROUNDS))
    sizes = torch.randint(len(_SIZES), (n,), generator=generator)
    for i, (breed, kind) in zip(range(n), cycle(BREEDS.items()), strict=False):
        width, height = _SIZES[int(sizes[i])]
        one = torch.tensor([i])
        image, _ = painted(kind, scenes[one], _ground(scenes[one], backgrounds[one], height, width))
        path = folder / f"{breed}_{i // len(BREEDS) + 1}.jpg"
        Image.fromarray(image[0].permute(1, 2, 0).numpy()).save(path, quality=90)
