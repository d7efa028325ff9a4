"""The fidelity study: what each way of writing a density down costs in tokens and loses in accuracy."""
