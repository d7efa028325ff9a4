"""What commands that train models or export them share."""

from __future__ import annotations

__all__ = ["needs_models"]


def needs_models() -> None:
    """Import Levanter.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import levanter  # noqa: F401
    except ImportError as error:
        raise ValueError(f"models need Levanter: pip install 'tomat[train]' ({error})") from error
