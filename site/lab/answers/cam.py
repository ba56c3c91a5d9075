"""What the page needs to answer for the panel of lesson 05: the network of lesson 04's panel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from answers import occlusion


def write(folder: Path, networks: dict[str, Any]) -> dict[str, Any]:
    """Write the network, unless it is there; what the panel has to know."""
    return {"network": occlusion.write(folder, networks)["network"], "of_picture": True}
