"""Which TensorRT: the data-centre and workstation package, or TensorRT-RTX for RTX cards.

Their Python modules have the same names in them, so all other code is handed the module and asks for no more than a
flavour says. Separate because only this file imports either, late. It builds and loads nothing.
"""

import importlib
from dataclasses import dataclass
from types import ModuleType

from endostream.configs.errors import ConfigError, ModelError

FLAVOURS: dict[str, tuple[str, str]] = {
    "tensorrt": ("tensorrt", "pip install 'endostream[tensorrt]'"),
    "rtx": ("tensorrt_rtx", "pip install 'endostream[tensorrt-rtx]'"),
}
"""By name: the module, and the line that installs it."""
OLDEST_MAJOR = {"tensorrt": 10, "rtx": 1}


@dataclass(frozen=True, slots=True)
class Flavour:
    """One TensorRT that can be imported here.

    Attributes:
        name: ``"tensorrt"`` or ``"rtx"``.
        module: ``tensorrt`` or ``tensorrt_rtx``.
        version: full, e.g. ``"1.7.1.116"``.
        install_line: what installs it.
    """

    name: str
    module: ModuleType
    version: str
    install_line: str

    @property
    def label(self) -> str:
        """For messages and file names: ``tensorrt 10.16.0.72`` or ``rtx 1.7.1.116``."""
        return f"{self.name} {self.version}"

    def ahead_targets(self) -> tuple[str, ...]:
        """GPUs it can build for without having one, e.g. ``("sm75", "sm80")``; empty for data-centre TensorRT."""
        if self.name != "rtx":
            return ()
        known = (name.lower() for name in self.module.ComputeCapability.__members__)
        return tuple(sorted((name for name in known if name.startswith("sm")), key=lambda sm: int(sm[2:])))


def load_flavour(name: str) -> Flavour:
    """Import the flavour ``name``.

    Raises:
        ConfigError: no such flavour.
        ModelError: not installed, cannot be loaded here, or too old; the message has the line to install.
    """
    if name not in FLAVOURS:
        raise ConfigError(f"TensorRT flavour: {name!r}; expected {' or '.join(FLAVOURS)}")
    module_name, install_line = FLAVOURS[name]
    try:
        module = importlib.import_module(module_name)
        version = str(module.__version__)
    except ModuleNotFoundError as error:
        if error.name != module_name:
            raise ModelError(
                f"runtime {name}: cannot be loaded here ({error}). Try: {install_line}"
            ) from error
        raise ModelError(f"runtime {name}: not installed. Try: {install_line}") from error
    except Exception as error:  # its package loads libraries by hand and raises what it likes
        raise ModelError(
            f"runtime {name}: cannot be loaded here ({_line(error)}). Try: {install_line}"
        ) from error
    major = version.partition(".")[0]
    if not major.isdigit() or int(major) < OLDEST_MAJOR[name]:
        raise ModelError(
            f"runtime {name}: {version}; expected {OLDEST_MAJOR[name]} or newer. Try: {install_line}"
        )
    return Flavour(name, module, version, install_line)


def available_flavours() -> dict[str, str]:
    """Of each flavour its version, or in a line why it does not load."""
    found = {}
    for name in FLAVOURS:
        try:
            found[name] = load_flavour(name).version
        except ModelError as error:
            found[name] = str(error)
    return found


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
