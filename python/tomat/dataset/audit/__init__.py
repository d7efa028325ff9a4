"""Exact accounting: every voxel and electron of a dataset, and the bits they take, against its sources.

``tomat verify`` asks whether the package gives the same rows again. An audit does not use the package to find out what
they should be: sources are read by other programs (:mod:`.raw`), and rows are made from the page of the format
(:mod:`.rows`).
"""

from tomat.dataset.audit.account import Account, MaterialAccount
from tomat.dataset.audit.run import audit_dataset

__all__ = ["Account", "MaterialAccount", "audit_dataset"]
