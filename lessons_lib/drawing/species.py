"""How each species looks, and the breeds of the drawn pets."""

from __future__ import annotations

import math
from functools import partial

import torch

from lessons_lib.drawing.painter import (
    CREAM,
    HEAD,
    INK,
    IRISES,
    NOSE,
    PINK,
    ROSE,
    TONGUE,
    WHITE,
    Kind,
    Painter,
)
from lessons_lib.drawing.shapes import blend, colour, ellipse, leaf, palette, segment


def _cat(p: Painter, *, points: bool = False) -> None:
    p.ears(
        leaf(p.back.pair, (0.66, -0.66), (0.36 * p.ear, 0.66 * p.ear), 24, tip=0.04),
        p.blackish if points else p.coat,
        rim=0.13,
    )
    p.head(
        blend(
            ellipse(p.skull.whole, (0, 0), (1.0, 0.86)), ellipse(p.skull.pair, (0.6, 0.3), (0.5, 0.42)), 0.2
        )
    )
    for x, degrees in ((0.0, 0), (0.2, 10)):
        p.marking(
            leaf(p.skull.pair, (x, -0.68), (0.055, 0.2), degrees),
            p.dark,
            opacity=p.scenes.between("marks", 0, 1),
        )
    p.marking(ellipse(p.front.pair, (0.2, 0.42), (0.3, 0.24)), p.blackish * 1.5 if points else p.pale)
    p.mouth(0.4, 0.15)
    p.whiskers(0.4, 0.75, WHITE)
    p.eyes(0.42, -0.08, 0.25, iris=p.pick("iris", IRISES[:, 1:]), pupil=(0.28, 0.72), shape=(1.0, 0.9))
    p.nose(0.28, 0.13, 0.1, ROSE, pointed=True)


def _dog(p: Painter, *, pricked: bool = False, mask: bool = False) -> None:
    ear = p.coat.lerp(p.coat * 0.5, p.scenes.between("marks", 0.6, 1))
    if pricked:
        p.ears(leaf(p.back.pair, (0.62, -0.7), (0.3 * p.ear, 0.55 * p.ear), 18, tip=0.05), p.coat, rim=0.12)
    p.head(
        blend(
            ellipse(p.skull.whole, (0, -0.1), (0.88, 0.84)),
            ellipse(p.skull.whole, (0, 0.45), (0.66, 0.52)),
            0.25,
        )
    )
    p.marking(
        ellipse(p.front.whole, (-0.38, -0.18), (0.34, 0.4), 12),
        ear,
        opacity=p.scenes.between("extra", -0.6, 1).gt(0).float(),
    )
    p.marking(
        leaf(p.front.whole, (0, -0.55), (0.17, 0.75)),
        p.pale,
        opacity=p.scenes.between("mood", -1, 1).gt(0).float(),
    )
    tongue = ellipse(p.front.whole, (0, 0.82), (0.16, 0.26))
    p.paint(tongue, TONGUE, HEAD, line=0.03)
    p.paint(
        ellipse(p.front.whole, (0, 0.4), (0.52, 0.4)),
        p.blackish * 1.3 if mask else p.pale,
        HEAD,
        line=0.025,
    )
    p.mouth(0.5, 0.2, 0.8)
    p.eyes(0.37, -0.2, 0.17)
    p.nose(0.22, 0.22, 0.16, INK)
    if not pricked:
        p.ears(ellipse(p.back.pair, (0.92, 0.02), (0.27 * p.ear, 0.66 * p.ear), -14), ear, rim=0)


def _rabbit(p: Painter) -> None:
    p.ears(ellipse(p.back.pair, (0.4, -1.35), (0.27 * p.ear, 0.88 * p.ear), 9), p.coat, rim=0.12)
    p.head(
        blend(
            ellipse(p.skull.whole, (0, -0.05), (0.86, 0.86)),
            ellipse(p.skull.pair, (0.45, 0.4), (0.46, 0.42)),
            0.2,
        )
    )
    p.paint(ellipse(p.front.whole, (0, 0.68), (0.14, 0.2)), WHITE, HEAD, line=0.03)
    p.stroke(segment(p.front.whole, (0, 0.6), (0, 0.86)), 0.03, p.line)
    p.paint(ellipse(p.front.pair, (0.2, 0.44), (0.27, 0.22)), p.pale)
    p.whiskers(0.42, 0.6, p.pale)
    p.mouth(0.4, 0.14)
    p.marking(ellipse(p.front.pair, (0.58, 0.3), (0.2, 0.14)), PINK, blur=0.15, opacity=0.7)
    p.eyes(0.42, -0.08, 0.2, shape=(0.85, 1.15))
    p.nose(0.26, 0.13, 0.1, PINK, pointed=True)


def _bear(p: Painter) -> None:
    p.ears(
        ellipse(p.back.pair, (0.72, -0.72), (0.34 * p.ear, 0.34 * p.ear)),
        p.coat,
        rim=0.14,
        lining=p.coat.lerp(CREAM, 0.45),
    )
    p.head(ellipse(p.skull.whole, (0, 0), (1.0, 0.92)))
    p.paint(ellipse(p.front.whole, (0, 0.38), (0.48, 0.38)), p.coat.lerp(CREAM, 0.55), line=0.025)
    p.mouth(0.46, 0.15)
    p.eyes(0.4, -0.12, 0.13)
    p.nose(0.22, 0.22, 0.15, INK)


def _fox(p: Painter) -> None:
    p.ears(
        leaf(p.back.pair, (0.64, -0.78), (0.36 * p.ear, 0.78 * p.ear), 16, tip=0.02),
        p.coat,
        rim=0.13,
        lining=INK,
    )
    face = blend(
        ellipse(p.skull.whole, (0, -0.12), (0.92, 0.66)),
        leaf(p.skull.whole, (0, 0.2), (0.5, 0.9), tip=0.1),
        0.25,
    )
    p.head(blend(face, leaf(p.skull.pair, (0.75, 0.14), (0.2, 0.5), 125), 0.15))
    p.marking(ellipse(p.front.pair, (0.56, 0.42), (0.52, 0.42), 35), WHITE)
    p.marking(leaf(p.front.whole, (0, 0.1), (0.2, 0.9)), p.coat)
    p.eyes(
        0.4, -0.08, 0.2, iris=p.pick("iris", IRISES[:, 1:]), pupil=(0.4, 0.6), shape=(1.1, 0.7), degrees=-18
    )
    p.nose(0.84, 0.17, 0.13, INK)


def _panda(p: Painter) -> None:
    p.ears(ellipse(p.back.pair, (0.74, -0.7), (0.34 * p.ear, 0.34 * p.ear)), p.blackish, rim=0)
    p.head(ellipse(p.skull.whole, (0, 0), (1.02, 0.9)))
    p.marking(ellipse(p.front.pair, (0.42, -0.03), (0.25, 0.34), 28), p.blackish)
    p.mouth(0.48, 0.14)
    p.eyes(0.4, -0.1, 0.15, iris=p.pick("iris", IRISES[:, :1]), pupil=(0.7, 0.7))
    p.nose(0.32, 0.17, 0.11, INK)


def _mouse(p: Painter) -> None:
    p.ears(ellipse(p.back.pair, (0.92, -0.66), (0.66 * p.ear, 0.64 * p.ear)), p.coat, rim=0.14)
    p.head(
        blend(
            ellipse(p.skull.whole, (0, -0.08), (0.84, 0.76)),
            leaf(p.skull.whole, (0, 0.3), (0.5, 0.74), tip=0.1),
            0.3,
        )
    )
    p.whiskers(0.6, 0.7, p.line)
    p.mouth(0.74, 0.11)
    p.eyes(0.35, -0.02, 0.17)
    p.nose(0.66, 0.17, 0.15, ROSE)


def _pig(p: Painter) -> None:
    p.head(ellipse(p.skull.whole, (0, 0), (1.0, 0.9)))
    p.ears(
        leaf(p.back.pair, (0.8, -0.62), (0.28 * p.ear, 0.46 * p.ear), 140, tip=0.05), p.coat * 0.9, rim=0.12
    )
    p.marking(ellipse(p.front.pair, (0.66, 0.25), (0.2, 0.15)), ROSE, blur=0.15, opacity=0.6)
    p.stroke(
        torch.maximum(ellipse(p.front.whole, (0, 0.5), (0.34, 0.2)).abs(), 0.58 - p.front.y), 0.05, p.line
    )
    p.eyes(0.36, -0.12, 0.13)
    p.nose(0.26, 0.4, 0.29, p.coat.lerp(ROSE, 0.45))
    p.on_nose(ellipse(p.front.pair, (0.15, 0.26), (0.07, 0.12)), p.line)


def _frog(p: Painter) -> None:
    bumps = ellipse(p.skull.pair, (0.52, -0.58), (0.38, 0.38))
    p.head(blend(ellipse(p.skull.whole, (0, 0.12), (1.1, 0.7)), bumps, 0.12))
    p.marking(ellipse(p.front.whole, (0, 0.78), (0.95, 0.46)), p.pale, blur=0.05)
    grin = torch.maximum(ellipse(p.front.whole, (0, -0.12), (0.82, 0.58)).abs_(), 0.1 - p.front.y)
    p.stroke(grin, 0.07, p.line)
    p.marking(ellipse(p.front.pair, (0.74, 0.2), (0.16, 0.11)), PINK, blur=0.12, opacity=0.6)
    p.eyes(0.52, -0.6, 0.28, iris=p.pick("iris", IRISES[:, :3]), pupil=(0.72, 0.4))
    p.nose(0.1, 0.2, 0.11, p.dark)
    p.on_nose(ellipse(p.front.pair, (0.09, 0.1), (0.035, 0.05)), p.line)


def _tiger(p: Painter) -> None:
    p.ears(
        ellipse(p.back.pair, (0.7, -0.68), (0.33 * p.ear, 0.33 * p.ear)), p.blackish, rim=0.14, lining=CREAM
    )
    p.head(
        blend(
            ellipse(p.skull.whole, (0, 0), (0.96, 0.9)),
            leaf(p.skull.pair, (0.72, 0.26), (0.3, 0.46), -62, tip=0.03),
            0.15,
        )
    )
    p.marking(ellipse(p.front.pair, (0.4, -0.32), (0.2, 0.13)), WHITE, blur=0.06)
    stripes = ((0.0, -0.66, 0.08, 0.26, 0), (0.26, -0.7, 0.07, 0.22, 16), (0.9, -0.14, 0.07, 0.3, 80),
               (0.92, 0.14, 0.07, 0.32, 92), (0.86, 0.42, 0.06, 0.28, 108))  # fmt: skip
    for x, y, width, length, degrees in stripes:
        p.marking(leaf(p.skull.pair, (x, y), (width, length), degrees), p.blackish)
    p.marking(ellipse(p.front.pair, (0.22, 0.44), (0.34, 0.28)), WHITE)
    p.mouth(0.42, 0.16)
    p.whiskers(0.44, 0.6, WHITE)
    p.eyes(
        0.4,
        -0.1,
        0.18,
        iris=p.pick("iris", IRISES[:, 1:]),
        pupil=(0.5, 0.5),
        shape=(1.05, 0.85),
        degrees=-10,
    )
    p.nose(0.26, 0.2, 0.14, ROSE, pointed=True)


def _koala(p: Painter) -> None:
    p.ears(ellipse(p.back.pair, (1.02, -0.35), (0.56 * p.ear, 0.52 * p.ear)), p.coat, rim=0.17, lining=p.pale)
    p.head(ellipse(p.skull.whole, (0, 0.02), (0.95, 0.86)))
    p.marking(ellipse(p.front.whole, (0, 0.78), (0.5, 0.25)), p.pale, blur=0.1)
    p.stroke(
        torch.maximum(ellipse(p.front.whole, (0, 0.56), (0.2, 0.12)).abs(), 0.6 - p.front.y), 0.05, p.line
    )
    p.eyes(0.48, -0.08, 0.13)
    p.nose(0.2, 0.23, 0.36, INK)


def _monkey(p: Painter) -> None:
    skin = p.coat.lerp(colour("f2cba4"), 0.75)
    p.ears(ellipse(p.back.pair, (1.0, 0.02), (0.34 * p.ear, 0.36 * p.ear)), p.coat, rim=0.12, lining=skin)
    p.head(ellipse(p.skull.whole, (0, 0), (0.92, 0.92)))
    p.marking(
        blend(
            ellipse(p.front.pair, (0.33, -0.12), (0.38, 0.42)),
            ellipse(p.front.whole, (0, 0.46), (0.62, 0.42)),
            0.1,
        ),
        skin,
    )
    p.stroke(
        torch.maximum(ellipse(p.front.whole, (0, 0.42), (0.36, 0.26)).abs(), 0.48 - p.front.y), 0.055, p.line
    )
    p.eyes(0.32, -0.1, 0.18, iris=WHITE, pupil=(0.72, 0.72))
    p.nose(0.25, 0.15, 0.09, skin * 0.8)
    p.on_nose(ellipse(p.front.pair, (0.06, 0.26), (0.03, 0.04)), p.line)


def _sheep(p: Painter) -> None:
    skin = p.pick("extra", palette("3f3a3c", "f0dcc8", "6b5a50"))
    wool = ellipse(p.skull.whole, (0, -0.2), (0.86, 0.72))
    for x, y in ((0.0, -0.86), (0.45, -0.75), (0.8, -0.42), (0.86, 0.0), (0.68, 0.34)):
        wool = torch.minimum(wool, ellipse(p.skull.pair, (x, y), (0.3, 0.3)))
    face = ellipse(p.skull.whole, (0, 0.24), (0.58, 0.78))
    p.paint(wool, p.coat, HEAD, line=0.04)
    p.ears(leaf(p.back.pair, (0.98, 0.06), (0.2 * p.ear, 0.46 * p.ear), 108, tip=0.04), skin, rim=0.1)
    p.paint(face, skin, HEAD, line=0.04)
    p.inside = p.cover(face)
    for x, y in ((0.0, -0.5), (0.34, -0.42)):
        p.paint(ellipse(p.skull.pair, (x, y), (0.28, 0.26)), p.coat, HEAD)
    p.mouth(0.72, 0.11)
    p.eyes(0.3, 0.06, 0.15, iris=WHITE)
    p.nose(0.64, 0.16, 0.1, skin.lerp(ROSE, 0.5), pointed=True)


def _owl(p: Painter) -> None:
    p.ears(leaf(p.back.pair, (0.68, -0.72), (0.22 * p.ear, 0.45 * p.ear), 30), p.dark, rim=0)
    p.head(ellipse(p.skull.whole, (0, 0), (1.0, 0.92)))
    for y in (0.5, 0.7):
        for x in (0.0, 0.3, 0.6):
            p.marking(leaf(p.skull.pair, (x, y), (0.06, 0.12)), p.dark)
    p.marking(ellipse(p.front.pair, (0.42, -0.06), (0.5, 0.5)), p.pale)
    p.marking(leaf(p.front.whole, (0, -0.5), (0.12, 0.5)), p.dark)
    p.eyes(0.42, -0.06, 0.32, iris=colour("f0b030"), pupil=(0.55, 0.55))
    p.on_nose(leaf(p.front.whole, (0, 0.3), (0.15, 0.28), tip=0.02), colour("e59a35"), NOSE, line=0.03)


def _lion(p: Painter) -> None:
    mane = ellipse(p.skull.whole, (0, 0), (1.2, 1.16))
    for turn in range(0, 181, 30):
        angle = math.radians(turn)
        mane = torch.minimum(
            mane, ellipse(p.skull.pair, (1.1 * math.sin(angle), -1.1 * math.cos(angle)), (0.34, 0.34))
        )
    p.paint(mane, p.coat * colour("b07040") * 1.1, HEAD, line=0.05)
    p.ears(ellipse(p.back.pair, (0.7, -0.66), (0.28 * p.ear, 0.28 * p.ear)), p.coat, rim=0.1)
    p.head(ellipse(p.skull.whole, (0, 0.02), (0.9, 0.86)))
    p.marking(ellipse(p.front.pair, (0.2, 0.46), (0.3, 0.26)), p.pale)
    p.mouth(0.44, 0.15)
    p.whiskers(0.46, 0.5, WHITE)
    p.eyes(0.36, -0.1, 0.15, iris=p.pick("iris", IRISES[:, 1:]), pupil=(0.5, 0.5))
    p.nose(0.24, 0.2, 0.15, colour("8a5a50"), pointed=True)


KINDS = {
    "cat": Kind(
        _cat, 1.0, 0.12, palette("8c8c90", "d98a3d", "ead6b2", "45434a", "efece6", "8a6242", "bfb9b2")
    ),
    "dog": Kind(_dog, 0.98, 0.0, palette("c89b66", "8a5a36", "efe9df", "4a4443", "d9a860", "9a958f")),
    "rabbit": Kind(_rabbit, 0.78, 0.5, palette("f2efea", "a39c96", "c4a27c", "8b6a4f", "ead9bd", "5d5654")),
    "bear": Kind(_bear, 1.0, 0.08, palette("8a5c38", "5a3f2e", "c0935b", "e8e6e0", "8a8078", "454043")),
    "fox": Kind(_fox, 0.95, 0.15, palette("dd7a34", "b9572d", "8f9298", "e3dfd8", "d0a46c", "6a5650")),
    "panda": Kind(_panda, 1.0, 0.08, palette("f6f4f0", "efe5d2", "dcdad6", "d8b890")),
    "mouse": Kind(_mouse, 0.85, 0.15, palette("9a9aa0", "9b7653", "efebe4", "e6d0ab", "5f5b62", "c7ad8c")),
    "pig": Kind(_pig, 1.02, 0.05, palette("f0b2aa", "eec3a6", "b9a8a4", "ad7d5e", "6a5552", "f0ddd2")),
    "frog": Kind(
        _frog, 0.98, 0.1, palette("6fae3c", "46a07d", "93983a", "d8c24a", "93714a", "d98a35", "8d9a90")
    ),
    "tiger": Kind(_tiger, 1.0, 0.05, palette("e3902f", "e3b054", "eeebe4", "cc6a2e", "cda56e", "b0aaa2")),
    "koala": Kind(_koala, 0.86, 0.0, palette("9a9aa0", "8a8078", "b7b3b5", "a3907f")),
    "monkey": Kind(_monkey, 0.92, 0.0, palette("7a4f2e", "5a3f2e", "a9793f", "4a4443", "9a958f")),
    "sheep": Kind(_sheep, 0.9, 0.05, palette("f4f0e6", "e6d9bd", "8f8a86", "5d5350")),
    "owl": Kind(_owl, 1.0, 0.05, palette("8a6242", "a39c96", "efe9df", "c08a4e", "5f5b62")),
    "lion": Kind(_lion, 0.76, 0.0, palette("dba64e", "cda56e", "e8c98a", "c98a3f", "efe3c8")),
}
BREEDS = {  # one third are cats, as in Oxford-IIIT Pets; capitals tell them apart
    "Abyssinian": Kind(_cat, 0.95, 0.12, palette("b5763c", "a5693a", "c08a56")),
    "beagle": Kind(_dog, 0.98, 0.0, palette("c89b66", "b07a44")),
    "chihuahua": Kind(partial(_dog, pricked=True), 0.85, 0.15, palette("d9b183", "c89b66", "8a5a36")),
    "Bombay": Kind(_cat, 1.0, 0.12, palette("353235", "2f2d33")),
    "great_pyrenees": Kind(_dog, 1.05, 0.0, palette("f2ece0", "efe6d3")),
    "newfoundland": Kind(_dog, 1.08, 0.0, palette("3c3638", "4a3a30")),
    "Russian_Blue": Kind(_cat, 1.0, 0.12, palette("7d8590", "8f959c")),
    "pug": Kind(partial(_dog, mask=True), 0.95, 0.0, palette("d8b98c", "cdb08a")),
    "samoyed": Kind(partial(_dog, pricked=True), 1.0, 0.1, palette("f4f1ea", "efe9df")),
    "Siamese": Kind(partial(_cat, points=True), 0.92, 0.12, palette("ead9bd", "e2cfae")),
    "shiba_inu": Kind(partial(_dog, pricked=True), 0.95, 0.1, palette("cf8a4a", "d99a5e", "b9572d")),
    "yorkshire_terrier": Kind(_dog, 0.85, 0.0, palette("8a7a6a", "9a958f", "a07850")),
}
