"""How small can a trained model be made, and what is lost? See docs/studies/small-artefact.md."""
