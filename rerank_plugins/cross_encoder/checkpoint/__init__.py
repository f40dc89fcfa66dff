"""A model's name in, plain data out: the only part that knows files and foreign names."""
