"""Export a field or brick model: weights, codec and promolecule as files that need no training run beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax

from tomat._core import __version__
from tomat.lm.exported import CHECKSUMS, WEIGHTS, export_folder, write_description, write_weights
from tomat.lm.field.checkpoint import named_weights
from tomat.lm.field.opened import PROMOLECULE
from tomat.lm.record import write_codec

if TYPE_CHECKING:
    from pathlib import Path

    from tomat.lm.field.checkpoint import RelativeModel


def export_field(trained: RelativeModel[Any], directory: str | Path, **more: Any) -> None:
    """Write a model to a new directory, or over an older export; ``open_field`` reads it.

    The directory holds ``model.safetensors`` (float32), the codec, ``promolecule.npz``, ``tomat.json`` (the note of the
    checkpoint with the SHA-256 of every weight and file) and a card. Densities are those of the checkpoint, to the bit.

    Args:
        trained: the model.
        directory: where to.
        more: for the note and its card: ``dialect``, what densities it predicts; ``scores``, as
            :func:`tomat.evaluate.summary.scores` has them; ``command``, how it was trained.

    Raises:
        ValueError: ``directory`` holds something else.
        RuntimeError: the weights read back differ from those written.
        OSError: the directory cannot be written.
    """
    weights = named_weights(trained.model)
    if jax.process_index() != 0:
        return
    # The promolecule is a file here.
    facts = {key: value for key, value in trained.note.get("data_facts", {}).items() if key != "promolecule"}
    promolecule = trained.surroundings.promolecule.source
    codec = trained.codec
    with export_folder(directory) as folder:
        checksums = write_weights(folder / WEIGHTS, weights)
        write_codec(codec, str(folder))
        promolecule.save(folder / PROMOLECULE)
        metadata = {
            **{key: value for key, value in trained.note.items() if key not in _OF_FOLDER},
            "tomat": __version__,
            "step": trained.step - 1,
            "codec": {"name": codec.name, "hash": codec.hash, "file": codec.file_name},
            "promolecule": {"hash": promolecule.hash, "file": PROMOLECULE},
            "data_facts": facts,
            "parameters": sum(weight.size for weight in weights.values()),
            "weights_sha256": trained.fingerprint,
            CHECKSUMS: checksums,
            **more,
        }
        write_description(folder, metadata, field_card(metadata))


#: Keys of a note that belong to the folder it lay in.
_OF_FOLDER = ("format", "note_sha256", "files_sha256")


def field_card(metadata: dict[str, Any]) -> str:
    """The text of ``README.md``, from the content of ``tomat.json``."""
    field, data = metadata["model"]["field"], metadata.get("data") or {}
    elements = metadata["data_facts"].get("elements") or []
    best = metadata.get("best")
    facts = {
        "parameters": f"{metadata['parameters']:,}, float32",
        "sees": f"atoms within {field['cutoff']:g} angstrom, and beyond by {field['rounds']} rounds of messages",
        "answers": f"a distribution over the levels of {metadata['codec']['name']} (`{metadata['codec']['file']}`)",
        "starts from": f"the promolecule in `{PROMOLECULE}`, `{metadata['promolecule']['hash'][:16]}`",
        "trained": f"{metadata['step'] + 1} steps, run {metadata['name']}",
        "training data": f"`{str(data.get('densities_hash'))[:16]}`, {len(elements)} elements",
        "for": metadata.get("dialect", "the pseudopotentials of its training data"),
        "weights": f"SHA-256 `{metadata['weights_sha256']}`",
        "written by": f"tomat {metadata['tomat']}",
    }
    if best and "scores" not in metadata:
        facts["held-out"] = f"{best['metric']} {best['value']:.4g}"
    if "command" in metadata:
        facts["command"] = f"`{metadata['command']}`"
    table = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    return (
        "---\nlibrary_name: tomat\ntags: [materials, electron-density]\n---\n# An electron density model\n\n"
        "Predicts the valence electron density of a crystal from its structure, for the pseudopotentials of its "
        f"training data.\n\n| | |\n|---|---|\n{table}\n\n{_scored(metadata.get('scores'))}"
        f"Elements in the training data, by atomic number: {', '.join(map(str, elements))}.\n\n"
        "## Usage\n\n```\ntomat predict this/directory POSCAR -o predicted\n```\n\n"
        "`tomat.json` records how the model was made, with the SHA-256 of every weight and file.\n"
    )


#: What a card says of each mode of a result, in its order.
_MODES = {
    "promolecule": "promolecule",
    "start": "start of training",
    "one_pass": "**this model**",
    "codec_floor": "codec floor",
}


def _scored(scores: dict[str, Any] | None) -> str:
    """The table of scores, or nothing."""
    if scores is None:
        return ""
    lines = [
        f"{words} | {100 * of['nmae']['mean']:.2f} / {100 * of['nmae']['median']:.2f} | "
        f"{of['hartree_error']['mean']:.0f} / {of['hartree_error']['median']:.0f}"
        for mode, words in _MODES.items()
        if (of := scores.get(mode)) is not None
    ]
    table = "\n".join(f"| {line} |" for line in lines)
    return (
        f"{scores['materials']} crystals of {' and '.join(scores['splits'])}, not seen in training (mean / median):\n\n"
        f"| | NMAE, % | Hartree error, meV |\n|---|---|---|\n{table}\n\n"
    )
