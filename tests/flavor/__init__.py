"""The MLflow flavor, by what it promises to those who log and load models."""
