"""Training, prediction and evaluation of language models on density tokens; needs ``tomat[train]``.

``import tomat`` imports nothing from here, and importing this package loads neither JAX nor Levanter; each module says
what it needs.
"""
