"""What the benchmarks share: data to measure with, places to store it in, children that do the work, and reports."""
