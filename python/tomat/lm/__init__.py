"""Training, prediction and evaluation of language models on density tokens; needs ``tomat[train]``.

Nothing here is imported by ``import tomat``, and nothing heavy by importing this package: every module says what it
needs.
"""
