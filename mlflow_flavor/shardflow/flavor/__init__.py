"""The MLflow flavor: models logged to and loaded from a store. It grows here, apart from the engine it stands on."""
