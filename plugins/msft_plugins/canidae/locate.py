"""Find the Canidae images: in the user's folder, in the cache, or on the network."""

from __future__ import annotations

import shutil
from hashlib import blake2b
from pathlib import Path

from msft_core import Context, DataError
from msft_core.downloads import fetch
from msft_core.folders import VAL_NAMES, find_folder, find_split_roots, require_folder
from msft_plugins.canidae.unpack import is_complete, unpack

LOCAL = Path("data/Canidae")  # where the tutorial puts them, in the working directory


def find_images(data_dir: Path | None, url: str, sha256: str | None, context: Context) -> Path:
    """The folder with train/ and val/: in ``data_dir``, else in ``LOCAL``, the cache or a download.

    Raises: DataError, DownloadError.
    """
    if data_dir is not None:
        require_folder(data_dir)
        root = _split_root(data_dir)
        if root is None:
            raise DataError(
                f"no folder with train/ and val/ in {data_dir}: unpack the images there, or give "
                "another --data-dir DIR"
            )
        return root
    if LOCAL.is_dir():
        root = _split_root(LOCAL)
        if root is not None:
            return root
        context.reporter.warning(f"{LOCAL} is not used, because it has no train/ and val/")
    return fetch_images(url, sha256, context)


def fetch_images(url: str, sha256: str | None, context: Context) -> Path:
    """The folder with train/ and val/ in the cache. Downloads and unpacks the images if needed.

    Raises: DataError, DownloadError.
    """
    cache = context.cache_dir / "canidae"
    # The folder depends on the URL and the hash, so that two zip files never share a folder.
    folder = cache / blake2b(f"{url}\0{sha256 or ''}".encode(), digest_size=8).hexdigest()
    if not is_complete(folder):
        archive = fetch(
            url,
            context,
            sha256=sha256,
            what="the Canidae images",
            ways_out=(
                "point at the unpacked images with --data-dir DIR",
                f"run `msft fetch canidae` where there is a network and copy {cache} from there",
                "use the built-in pictures: --dataset sample",
            ),
        )
        try:
            unpack(archive, folder)
            if _split_root(folder) is None:
                shutil.rmtree(folder)
                raise DataError(f"{archive} has no folder with train/ and val/")
        except DataError as error:
            # Otherwise the next attempt would use the same file again, or refuse a different one.
            for file in (archive, archive.with_name(archive.name + ".pin.json")):
                file.unlink(missing_ok=True)
            raise DataError(
                f"{error}\nmsft removed this file, which came from {url}: try again, or give "
                "--data-dir DIR."
            ) from error
        except OSError as error:
            reason = error.strerror or error
            raise DataError(f"cannot unpack {archive} to {folder}: {reason}") from error
    root = _split_root(folder)
    if root is None:
        raise DataError(f"no folder with train/ and val/ in {folder}: remove it and try again")
    return root


def _split_root(folder: Path) -> Path | None:
    """The first folder in ``folder``, or ``folder`` itself, that has both train and val."""
    roots = find_split_roots(folder)
    return next((root for root in roots if find_folder(root, VAL_NAMES) is not None), None)
