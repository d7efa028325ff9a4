"""Install PyTorch into a folder, to compute on a CPU: 1.2 GB instead of 4.5.

The index's wheels of PyTorch for Linux are CUDA builds. They compute on a CPU as well, but will not load without
cuBLAS, cuDNN, NCCL and others: three more gigabytes, of which nothing is called on a CPU. So PyTorch is installed
without them, and libraries are built in their place: each has the name and the symbols that PyTorch's own libraries ask
for, and every function answers "no device". What PyTorch computes on the CPU is its own. Where it imports as it is
(macOS, a CPU build, a machine with CUDA), nothing is put in place of anything.

    python scripts/torch_on_cpu.py FOLDER
    PYTHONPATH=FOLDER python -c 'import torch'

The folder is no part of the environment on purpose: Levanter and transformers import PyTorch wherever they find it,
which costs every process that trains four seconds. What PyTorch itself needs is in the environment (extra ``dev``).
Building takes cc, nm and objdump, which Rust's linker brings along.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: cudaErrorNoDevice: PyTorch then finds no GPUs and continues.
NO_DEVICE = 100
#: Functions that return strings.
WORDS = ("GetErrorString", "GetErrorName", "GetLastErrorMessage", "get_error_string")
TRY = "import torch; assert float(torch.ones(3).sum()) == 3"


def main() -> None:
    """Install, add the stub libraries that importing PyTorch needs, and check the import."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: python scripts/torch_on_cpu.py FOLDER")
    folder = Path(sys.argv[1])
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--upgrade"]
    options = ["--no-compile", "--no-deps", "--target", str(folder), "-c", str(ROOT / "constraints.txt")]
    subprocess.run([*pip, *options, "torch"], check=True)
    if error_of_import(folder) is None:
        return
    libraries = sorted((folder / "torch" / "lib").glob("*.so"))
    for name in absent(libraries):
        write(name, libraries)
    error = error_of_import(folder)
    if error is not None:
        raise SystemExit(f"{folder}: PyTorch cannot be imported, with stand-ins for CUDA either:\n{error}")


def error_of_import(folder: Path) -> str | None:
    """The error of importing PyTorch from ``folder``; None if it works."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", TRY], env=environment, capture_output=True, text=True, check=False
    )
    return None if done.returncode == 0 else done.stderr or f"exit code {done.returncode}"


def absent(libraries: list[Path]) -> list[str]:
    """CUDA libraries that ``libraries`` need and that are missing next to them."""
    named = {name for library in libraries for name in re.findall(r"NEEDED +(\S+)", _headers(library))}
    there = {path.name for path in libraries[0].parent.iterdir()}
    return sorted(name for name in named - there if re.match(r"lib(cu|nv|nccl)", name))


def write(name: str, libraries: list[Path]) -> None:
    """Build a stub library ``name`` next to ``libraries``, with the symbols they need."""
    symbols = wanted(name, libraries)
    functions = [
        f'const char *{symbol}(void) {{ return "there is no CUDA here"; }}'
        if symbol.endswith(WORDS)
        else f"int {symbol}(void) {{ return {NO_DEVICE}; }}"
        for symbol in sorted(set().union(*symbols.values()))
    ]
    versions = [
        f"{version} {{ global: {' '.join(f'{symbol};' for symbol in sorted(names))} }};"
        for version, names in symbols.items()
        if version
    ]
    with tempfile.TemporaryDirectory() as folder:
        source, script = Path(folder, "functions.c"), Path(folder, "versions")
        source.write_text("\n".join(functions))
        script.write_text("\n".join(versions))
        place = libraries[0].parent / name
        command = ["cc", "-shared", "-fPIC", "-fno-builtin", "-o", str(place), str(source)]
        command += [f"-Wl,-soname,{name}", *([f"-Wl,--version-script,{script}"] if versions else [])]
        subprocess.run(command, check=True)


def wanted(name: str, libraries: list[Path]) -> dict[str, set[str]]:
    """Symbols of the library ``name`` by version ("" for none)."""
    found: dict[str, set[str]] = defaultdict(set)
    for library in libraries:
        headers = _headers(library)
        block = re.search(rf"required from {re.escape(name)}:\n((?:    .*\n)+)", headers)
        versions = {line.split()[-1] for line in block[1].splitlines()} if block else set()
        for symbol, version in _undefined(library):
            if version in versions or (not version and f" {name}\n" in headers and _is_of(symbol, name)):
                found[version].add(symbol)
    return found


def _is_of(symbol: str, library: str) -> bool:
    """Whether an unversioned symbol belongs to ``library``: NCCL's begin with nccl, cuFile's with cuFile."""
    stem = library.removeprefix("lib").split(".so")[0].lower().removesuffix("_host")
    return symbol.lower().startswith(stem) or (stem == "cuda" and re.match("cu[A-Z]", symbol) is not None)


def _headers(library: Path) -> str:
    return subprocess.run(["objdump", "-p", library], capture_output=True, text=True, check=True).stdout


def _undefined(library: Path) -> list[tuple[str, str]]:
    """Names and versions of the symbols that ``library`` imports."""
    table = subprocess.run(
        ["nm", "-D", "--undefined-only", library], capture_output=True, text=True, check=True
    ).stdout
    return [(name, version) for name, version in re.findall(r"^\s+U ([^\s@]+)(?:@+(\S+))?$", table, re.M)]


if __name__ == "__main__":
    main()
