"""Studies: questions asked once of tomat, with the programs that answer them."""
