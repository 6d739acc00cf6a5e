"""Makes thumbnails of all images in a folder, on all cores. Broken files are listed at the end.

Run it with: goproc run examples/thumbnails.py --procs 8 [folder] [--to thumbnails]
Without a folder it makes 500 images first, some of them broken. It needs Pillow (pip install pillow).
"""

import argparse
import random
import sys
import tempfile
from pathlib import Path

try:
    from PIL import Image
except ImportError:
    sys.exit("thumbnails.py needs Pillow: pip install pillow")

from goproc import Failure, pfor, pmap

SIZE = (96, 96)


def make_images(folder: Path, n: int) -> None:
    """Make n images of noise. Each 50th is cut off, and each 70th is no image."""

    def make(i: int) -> None:
        path = folder / f"{i:04}.jpg"
        noise = random.Random(i)
        small = Image.frombytes("RGB", (16, 12), noise.randbytes(16 * 12 * 3))
        small.resize((640, 480)).save(path)
        if i % 50 == 49:
            path.write_bytes(path.read_bytes()[:700])
        if i % 70 == 69:
            path.write_text("this is no image")

    pfor(make, range(n))


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes thumbnails of the images in a folder.")
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--to", type=Path, default=Path("thumbnails"), help="where the thumbnails go")
    args = parser.parse_args()
    target = args.to.absolute()
    target.mkdir(parents=True, exist_ok=True)

    def shrink(path: Path) -> Path:
        with Image.open(path) as image:
            image.thumbnail(SIZE)
            image.save(target / path.name)
        return path

    with tempfile.TemporaryDirectory() as made:
        folder = args.folder
        if folder is None:
            folder = Path(made)
            make_images(folder, 500)
        paths = sorted(path.absolute() for path in folder.iterdir() if path.suffix in (".jpg", ".png"))
        done, broken = 0, []
        for result in pmap(shrink, paths, on_error="return", progress="thumbnails"):
            if isinstance(result, Failure):
                broken.append(result)
            else:
                done += 1
        print(f"{done} thumbnails in {args.to}, {len(broken)} images are broken")
        for failure in broken:
            print(f"{failure.item.name}: {type(failure.error).__name__}")


if __name__ == "__main__":
    main()
