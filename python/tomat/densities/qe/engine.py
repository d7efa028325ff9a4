"""Densities by ``pw.x``."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from threading import Event, Lock
from typing import Any, override

from tomat import _core
from tomat.crystal import Crystal
from tomat.densities.base import Computed, DensityEngine, EngineOptions
from tomat.densities.kmesh import mesh
from tomat.densities.qe import pw
from tomat.densities.qe.orientation import upright
from tomat.densities.qe.pseudo import Pseudopotential, names_by_element, read_pseudopotential
from tomat.densities.qe.pw_input import PREFIX, pw_input
from tomat.formats.qe import CUTOFFS, cutoffs
from tomat.material import Material, read

#: Names of the smearings of pw.x: its own, short and long.
SMEARINGS = ("gaussian", "mp", "mv", "fd")
#: Largest difference of the electrons that pw.x counts and those of the pseudopotentials.
_ELECTRONS = 1e-6


class QuantumEspresso(DensityEngine):
    """``pw.x`` with norm-conserving pseudopotentials, without spin, with smearing.

    Args:
        options: see :class:`tomat.densities.base.EngineOptions`.

    Raises:
        ValueError: the program is not installed, no pseudopotentials, or options that do not fit.
    """

    telling = (pw.INPUT, pw.OUTPUT, pw.CRASH)

    def __init__(self, options: EngineOptions) -> None:
        self._options = options
        program = shlex.split(options.command)
        if not program or shutil.which(program[0]) is None:
            raise ValueError(
                f"{options.command} is not installed (Debian: apt-get install quantum-espresso); --pw names another"
            )
        if options.smearing not in SMEARINGS:
            raise ValueError(f"smearing {options.smearing!r} is not one of {', '.join(SMEARINGS)}")
        self._cutoffs = cutoffs(options.ecutwfc, options.ecutrho)
        self._names = names_by_element(options.pseudo)
        self._read: dict[str, Pseudopotential] = {}
        self._lock = Lock()

    @override
    def identity(self) -> dict[str, Any]:
        options = self._options
        k_points: dict[str, Any] = {"kspacing": options.kspacing}
        if options.kpoints is not None:
            k_points = {"kpoints": list(options.kpoints)}
        return {
            "engine": "qe",
            **dict(zip(CUTOFFS, self._cutoffs, strict=True)),
            **k_points,
            "smearing": options.smearing,
            "degauss_Ry": options.degauss,
            "conv_thr_Ry": options.conv_thr,
            "nspin": 1,
        }

    @override
    def pseudopotentials(self, crystal: Crystal) -> dict[str, str]:
        return {element: one.sha256 for element, one in self._of(crystal).items()}

    @override
    def compute(self, crystal: Crystal, work: Path, stop: Event) -> Computed:
        options, pseudo = self._options, self._of(crystal)
        points = options.kpoints or mesh(crystal.lattice, options.kspacing)
        text = pw_input(
            upright(crystal), {element: one.name for element, one in pseudo.items()}, points, options
        )
        for one in pseudo.values():
            (work / one.name).write_bytes(one.content)
        try:
            ran = pw.run(options.command, work, text, options.timeout, stop)
        except ValueError as error:
            # The folder is a passing one; the crystal is named by who asked.
            raise type(error)(str(error).removeprefix(f"{work}: ")) from error
        if ran.iterations is None:
            accuracy = "" if ran.accuracy is None else f", the last estimated accuracy {ran.accuracy:g} Ry"
            raise ValueError(
                f"SCF did not converge in {options.max_steps} iterations{accuracy}; try a lower --mixing-beta "
                f"(it was {options.mixing_beta:g}) or more --max-steps"
            )
        found = read(work / f"{PREFIX}.save")
        self._check(crystal, found, pseudo)
        scf = {
            "energy_Ry": ran.energy,
            "scf_accuracy_Ry": ran.accuracy,
            "n_iter": ran.iterations,
            "nk_irr": ran.k_points,
        }
        source = {
            "code": f"Quantum ESPRESSO {ran.version or 'of unknown version'}",
            "functional": ", ".join(sorted({one.functional for one in pseudo.values()})),
            "pseudopotentials": {
                element: {"file": one.name, "sha256": one.sha256, "z_valence": one.z_valence}
                for element, one in pseudo.items()
            },
            **dict(zip(CUTOFFS, self._cutoffs, strict=True)),
            "kmesh": list(points),
            "k_shift": [0, 0, 0],
            "smearing": f"{options.smearing} {options.degauss:g} Ry",
            "nspin": 1,
            "conv_thr_Ry": options.conv_thr,
            "electrons": found.source["electrons"],
            "pw_input": text,
        }
        # The crystal as it was given: pw.x has it turned, in bohr, with its own digits.
        material = Material.on(crystal, found.density, found.unit, source)
        return Computed(material, scf, ran.seconds)

    def _of(self, crystal: Crystal) -> dict[str, Pseudopotential]:
        symbols = sorted({_core.elements()[z - 1] for z in crystal.atomic_numbers.tolist()})
        missing = [one for one in symbols if one not in self._names]
        if missing:
            raise ValueError(
                f"no pseudopotential for {', '.join(missing)} in {self._options.pseudo}; put {missing[0]}.UPF there"
            )
        return {one: self._pseudopotential(one) for one in symbols}

    def _pseudopotential(self, element: str) -> Pseudopotential:
        """Read when it is first needed, and kept: all crystals have the same one."""
        with self._lock:
            if element not in self._read:
                names = self._names[element]
                if len(names) > 1:
                    raise ValueError(
                        f"{len(names)} pseudopotentials for {element} in {self._options.pseudo}: {', '.join(names)}; "
                        "leave one there"
                    )
                found = read_pseudopotential(self._options.pseudo, names[0])
                if found.element != element:
                    raise ValueError(
                        f"{self._options.pseudo / names[0]}: of {found.element} by its header; rename it"
                    )
                self._read[element] = found
            return self._read[element]

    def _check(self, crystal: Crystal, found: Material, pseudo: dict[str, Pseudopotential]) -> None:
        symbols = [_core.elements()[z - 1] for z in crystal.atomic_numbers.tolist()]
        expected = sum(pseudo[one].z_valence for one in symbols)
        if abs(found.source["electrons"] - expected) > _ELECTRONS:
            raise ValueError(
                f"pw.x counts {found.source['electrons']:g} electrons and the pseudopotentials have {expected:g}; "
                f"is {self._options.command} the pw.x of Quantum ESPRESSO?"
            )
