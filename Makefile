PYTHON ?= python

.PHONY: codecs

# The codecs in the package, to the byte; DATA=/path/to/rho_gga makes their training sketches again as well.
codecs:
	$(PYTHON) training/make_codecs.py $(if $(DATA),--data $(DATA))
