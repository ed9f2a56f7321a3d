"""Write a GGUF model as a folder that ``[model] name`` and judges take."""

import argparse
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the file and the folder."""
    parser.add_argument("file", type=Path, metavar="FILE.gguf", help="the model")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="made; float32 safetensors")


def run(args: argparse.Namespace) -> None:
    """Converts, and says how to name the folder.

    Raises:
        ConfigError: The folder holds something already.
    """
    from acft.backbone.convert import convert_gguf, is_converted
    from acft.errors import ConfigError

    folder = args.folder.absolute()
    if is_converted(folder):
        print(f"{folder} holds a conversion already; nothing is written")
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{str(folder)!r} holds something already; name a new folder")
    print(f"converting {args.file} (a few minutes at most)")
    convert_gguf(args.file.absolute(), folder)
    print(f"written to {folder}; take it by [model] name = '{folder}'")
