"""Where the tests of a module are: beside it in the mirror of the package, or in the file that the table names."""

from __future__ import annotations

import ast
from pathlib import Path

from places import REPOSITORY, TESTS

PACKAGE = REPOSITORY / "python" / "tomat"

#: Test files, and the modules whose functions they call that have no test file of their own name. Taken from a run
#: that wrote down the modules each test file called.
COVERED_BY = {
    "catalogue/test_catalogue.py": (
        "catalogue.builder",
        "catalogue.division",
        "catalogue.rows",
        "catalogue.sql",
        "catalogue.table",
        "cli.catalogue.build",
        "cli.catalogue.query",
        "cli.catalogue.split",
        "cli.catalogue.summary",
    ),
    "cli/test_cli.py": (
        "__main__",
        "cli",
        "cli._tokenizer",
        "cli.info",
        "cli.tokenize",
        "dataset.config",
    ),
    "cli/test_codec_commands.py": (
        "cli._shared",
        "cli.codec._shared",
        "cli.codec.compare",
        "cli.codec.fit",
        "cli.codec.floor",
        "cli.codec.list",
        "cli.codec.merge",
        "cli.codec.show",
        "cli.codec.sketch",
        "floors",
        "report.codecs",
    ),
    "cli/test_coverage_command.py": (
        "cli.coverage",
        "plan.measured",
        "report.coverage",
    ),
    "codec/test_codec.py": (
        "codec",
        "codec.base",
        "codec.lloyd_max",
        "codec.log",
    ),
    "codec/test_codec_files.py": ("_npz",),
    "dataset/test_audit.py": (
        "cli.audit",
        "dataset.audit.account",
        "dataset.audit.raw",
        "dataset.audit.rows",
        "dataset.audit.run",
        "dataset.audit.source",
    ),
    "dataset/test_crystals.py": ("dataset.crystal_table",),
    "dataset/test_export_hf.py": (
        "cli.export_hf",
        "dataset.hf_card",
    ),
    "dataset/test_materials_project.py": ("cli.fetch",),
    "dataset/test_sync.py": ("cli.sync",),
    "dataset/test_verify.py": (
        "cli.verify",
        "dataset.account",
        "dataset.manifest",
        "dataset.report",
    ),
    "densities/test_densities.py": (
        "cli.densities",
        "densities.base",
        "densities.engines",
        "densities.folder",
        "densities.qe.engine",
        "densities.run",
    ),
    "densities/test_pseudo.py": ("densities.qe.pseudo",),
    "densities/test_pw.py": (
        "densities.qe.orientation",
        "densities.qe.pw",
        "densities.qe.pw_input",
    ),
    "engine/test_crew.py": (
        "engine.pool",
        "engine.processes",
    ),
    "engine/test_engines.py": (
        "engine.job",
        "engine.modal",
        "engine.named",
    ),
    "evaluate/test_aggregate.py": (
        "evaluate.bootstrap",
        "evaluate.distances",
    ),
    "evaluate/test_probes.py": (
        "cli.probe",
        "evaluate.alterations",
    ),
    "evaluate/test_run.py": (
        "cli._eval",
        "cli.compare",
        "cli.eval",
        "evaluate.compare",
        "evaluate.measure",
        "evaluate.methods",
        "evaluate.result",
        "evaluate.volumes",
        "workplace",
    ),
    "formats/test_qe.py": (
        "formats.contents",
        "formats.qe.charge",
        "formats.records",
        "formats.qe.schema",
        "formats.qe.vectors",
    ),
    "formats/test_qe_hdf5.py": ("formats.qe.hdf5",),
    "hostile/test_bombs.py": ("_threads",),
    "hostile/test_integrity.py": (
        "_seal",
        "dataset.meta",
    ),
    "language/test_dataset.py": ("cli.tokenize_crystals",),
    "language/test_instructions.py": ("cli.crystal_text",),
    "lm/artefact/test_file.py": ("lm.artefact.tensors",),
    "lm/brick/test_predictor.py": (
        "lm.brick.inference",
        "lm.brick.network",
    ),
    "lm/brick/test_task.py": (
        "lm.brick.checkpoint",
        "lm.brick.config",
        "lm.brick.evaluation",
        "lm.brick.example",
        "lm.brick.flops",
        "lm.brick.patches",
        "lm.brick.stream",
    ),
    "lm/data/test_guess.py": ("starting",),
    "lm/data/test_guess_kind.py": (
        "lm.data.guess_check",
        "lm.data.guess_fit",
    ),
    "lm/data/test_order.py": (
        "lm.data.packing",
        "lm.data.shuffle",
    ),
    "lm/data/test_sources_of_rows.py": (
        "lm.data.config",
        "lm.data.on_the_fly",
        "lm.data.opening",
        "lm.data.parquet",
        "lm.data.rows",
        "lm.data.store",
    ),
    "lm/decode/test_generate.py": ("lm.decode.estimates",),
    "lm/decode/test_predictor.py": (
        "lm.decode.base",
        "lm.decode.decoding",
        "lm.decode.opening",
    ),
    "lm/field/test_loss.py": (
        "lm.field.head",
        "lm.field.levels",
    ),
    "lm/field/test_opened.py": ("lm.field.answers",),
    "lm/field/test_predictor.py": (
        "lm.field.inference",
        "lm.field.network",
        "lm.field.surroundings",
    ),
    "lm/field/test_stream.py": ("lm.field.example",),
    "lm/field/test_task.py": (
        "lm.data.facts",
        "lm.decode.kinds",
        "lm.field.checkpoint",
        "lm.field.config",
        "lm.field.evaluation",
        "lm.field.flops",
        "lm.task",
        "lm.tasks",
    ),
    "lm/loss/test_loss.py": (
        "lm.example",
        "lm.loss.bins",
        "lm.loss.density",
        "lm.loss.functions",
        "lm.loss.targets",
    ),
    "lm/loss/test_loss_compiled.py": ("lm.loss.blocks",),
    "lm/model/test_presets.py": (
        "lm.model.flops",
        "lm.model.memory",
    ),
    "lm/model/test_qwen.py": ("lm.model.attention",),
    "lm/objective/test_objective.py": (
        "lm.objective.base",
        "lm.objective.guess",
        "lm.objective.masked",
        "lm.objective.next_token",
    ),
    "lm/quantize/test_export.py": (
        "lm.quantize.inputs",
        "lm.quantize.kinds",
        "lm.quantize.setting",
    ),
    "lm/spatial/test_eyes.py": ("lm.spatial.example",),
    "lm/test_digests.py": ("cli.seal",),
    "lm/test_export.py": (
        "lm.card",
        "lm.vocabulary",
        "lm.exported",
    ),
    "lm/test_kept.py": (
        "cli.export",
        "evaluate.sources",
        "lm.checkpoint",
    ),
    "lm/test_metrics_file.py": ("lm.tracking",),
    "lm/test_train.py": (
        "lm.checkpointer",
        "lm.evaluation_hook",
        "lm.token_task",
    ),
    "lm/test_train_processes.py": (
        "cli.train",
        "lm.dry_run",
    ),
    "plan/test_planner.py": (
        "cli._lazy",
        "cli.plan",
        "plan.budgets",
        "plan.expectation",
        "plan.rate",
    ),
    "prediction/test_cover.py": ("prediction.grid",),
    "prediction/test_page.py": ("prediction.picture",),
    "prediction/test_many.py": ("cli._workers",),
    "prediction/test_predict.py": (
        "cli._models",
        "cli.predict",
        "prediction.outputs",
        "prediction.run",
    ),
    "prediction/test_predictors.py": ("prediction.predictor",),
    "prediction/test_structures.py": ("crystal",),
    "project/test_front_door.py": ("",),
    "report/test_wandb_runs.py": (
        "cli.runs.pull",
        "report.pulled",
        "report.wandb_file",
    ),
    "report/test_report.py": (
        "cli.report",
        "evaluate.tables",
        "report.build",
        "report.figures",
        "report.runs",
        "report.sources",
        "view.page",
    ),
    "storage/test_remote.py": (
        "dataset.bucket_directory",
        "storage.files",
        "storage.retry",
        "storage.transfer",
    ),
    "test_fitting.py": ("tail",),
    "test_formats.py": (
        "formats.compression",
        "formats.cube",
        "formats.text",
        "formats.vasp",
        "formats.zarr",
    ),
    "test_metrics.py": ("_statistics",),
    "test_models.py": ("cli.models",),
    "test_promolecule.py": (
        "_promolecule_fit",
        "cli.promolecule",
    ),
    "training/test_configs.py": ("lm.config",),
}


def _modules() -> set[str]:
    """Names below tomat; packages that hold nothing but imports need no test."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[-1] == "__init__":
            defines = (ast.FunctionDef, ast.ClassDef)
            if not any(isinstance(node, defines) for node in ast.parse(path.read_text()).body):
                continue
            parts = parts[:-1]
        found.add(".".join(parts))
    return found


def _own(module: str) -> Path:
    *rooms, name = module.split(".")
    return TESTS.joinpath(*rooms, f"test_{name}.py")


def test_every_module_has_its_tests() -> None:
    listed = [module for modules in COVERED_BY.values() for module in modules]
    assert len(listed) == len(set(listed)), "a module is listed twice"
    without_own = {module for module in _modules() if not _own(module).exists()}
    assert without_own - set(listed) == set(), "no test file of its name: say in COVERED_BY which one it has"
    assert set(listed) - without_own == set(), "in COVERED_BY, but gone or with a test file of its own name"


def test_every_test_file_of_the_table_is_there_and_knows_the_package() -> None:
    for name in COVERED_BY:
        text = (TESTS / name).read_text()
        assert "def test_" in text, name
        assert "tomat" in text, name
