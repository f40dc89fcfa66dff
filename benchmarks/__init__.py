"""Benchmarks: workloads, peers, raw results, and the tables that are generated from them."""
