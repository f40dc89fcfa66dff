"""Tables and plots from the raw results, each made by a function that reads and writes nothing."""
