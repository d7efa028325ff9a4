"""A pw.x that is none: it leaves a recorded save folder, or fails in one of the ways in which the real one does."""

from __future__ import annotations

import shutil
from pathlib import Path

from places import DATA
from tomat.crystal import Crystal
from tomat.material import read

#: What it does depends on the name of its folder, which begins with that of the structure.
_SCRIPT = """#!/bin/sh
echo $$ "$(basename "$PWD")" >> {log}
echo '     Program PWSCF v.6.7MaX starts on today'
echo '     number of k points=     4  Marzari-Vanderbilt smearing'
case "$(basename "$PWD")" in
  *crash*) frame='%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%'
    echo " $frame"; echo '     Error in routine cdiaghg (12):'; echo '     S matrix not positive definite'
    echo " $frame"; exit 1 ;;
  *silent*) frame='%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%'
    printf ' %s\\n     from davcio : error # 10\\n     error while writing from file x.wfc1\\n %s\\n' \
      "$frame" "$frame" > CRASH; exit 1 ;;
  *killed*) kill -9 $$ ;;
  *hang*) exec sleep 600 ;;
  *stubborn*) mkdir x.save; cp {save}/* x.save
    echo '     estimated scf accuracy    <       0.00475034 Ry'
    echo '     convergence NOT achieved after 100 iterations: stopping'; echo '   JOB DONE.'; exit 2 ;;
  *once*) [ -e {log}.once ] || {{ touch {log}.once; kill -9 $$; }} ;;
  *slow*) sleep 0.4 ;;
esac
mkdir x.save
cp {save}/* x.save
echo '     total energy              =     -15.69000000 Ry'
echo '     estimated scf accuracy    <       0.09373722 Ry'
echo '!    total energy              =     -15.70000000 Ry'
echo '     estimated scf accuracy    <          8.3E-10 Ry'
echo '     convergence has been achieved in   6 iterations'
echo '   JOB DONE.'
"""


class FakePw:
    """The program in a folder, with structures and pseudopotentials it can be given.

    Attributes:
        command: what runs it.
        pseudo: folder of pseudopotentials: silicon's.
        structures: folder of structures, see :meth:`structure`.
    """

    def __init__(self, folder: Path) -> None:
        self.pseudo, self.structures = folder / "pseudo", folder / "structures"
        for path in (self.pseudo, self.structures):
            path.mkdir(parents=True)
        shutil.copy(DATA / "qe" / "Si.UPF.gz", self.pseudo)
        program, self._log = folder / "fake-pw.x", folder / "log"
        program.write_text(_SCRIPT.format(log=self._log, save=DATA / "qe" / "Si.save"))
        program.chmod(0o755)
        self.command = str(program)

    def structure(self, name: str, element: int = 14) -> Path:
        """A structure file: the silicon of the recorded folder, or another element in its place."""
        silicon = read(DATA / "qe" / "Si.save").crystal
        crystal = Crystal.of(silicon.lattice, [element] * 2, silicon.frac_coords, name)
        path = self.structures / f"{name}.cif"
        crystal.to_pymatgen().to(str(path))
        return path

    def runs(self) -> list[str]:
        """The structure of each run so far."""
        return [name.rsplit("-", 1)[0] for _, name in self._lines()]

    def processes(self) -> list[int]:
        """The process of each run so far."""
        return [int(number) for number, _ in self._lines()]

    def _lines(self) -> list[list[str]]:
        return [line.split() for line in self._log.read_text().splitlines()] if self._log.exists() else []
