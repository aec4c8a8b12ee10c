"""The stages of the pipeline, one module each; dvc.yaml says how they depend on each other."""
