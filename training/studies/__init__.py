"""Studies of single questions, with the programs that answer them."""
