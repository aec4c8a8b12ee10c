"""What one version of a file has to do with another: which tensors belong together, and how one predicts the other."""
